"""A study's results so far: every evaluated checkpoint of every scenario and seed.

``collect`` reads them from the study's folder and lists what is missing. Intervals and paired differences are
computed from the items that ``fairseq-vgs evaluate run`` wrote (``evaluation.results``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_vgs.arrays import F64, I64
from fairseq_vgs.evaluation.evaluators.abx import ABX_KEYS
from fairseq_vgs.evaluation.evaluators.lexical import KIND as LEXICAL
from fairseq_vgs.evaluation.over_training import Results, checkpoints_in, read_checkpoint
from fairseq_vgs.evaluation.results import METRICS_NAME, Items, Result, read_result
from fairseq_vgs.evaluation.version_1 import items_of, read_arrays
from fairseq_vgs.metrics.retrieval import DIRECTIONS, RECALL_CUTOFFS
from fairseq_vgs.report.run_logs import TRAIN, ProbeRecord, TrainingLog, read_probes, read_training_log
from fairseq_vgs.study.markers import StudyError
from fairseq_vgs.study.plan import (
    PhaseRun,
    RunFolder,
    StudyFolder,
    measured_after,
    plan_runs,
    points_of,
    run_name,
)
from fairseq_vgs.study.recipe import read_recipe
from fairseq_vgs.study.settings import StudySettings

MOST_CHANCE = 20.0  # percent; beyond it, a recall says more about the pool than about a model
_ROUNDING = 1e-9
LOSSES = ("ssl_loss", "vgs_loss")
UNTRAINED = "untrained"
LAYERED = (*ABX_KEYS.values(), LEXICAL)  # measured of every layer


@dataclass(frozen=True)
class Point:
    """One evaluated checkpoint.

    Attributes:
        scenario: name of the primary, such as "w2v2_then_vgs", or "untrained".
        phase: "whole", "first", "second" or "untrained".
        update: updates since the start of the scenario, first phase included.
        losses: "ssl_loss" and "vgs_loss" in nats on the validation split.
        retrieval: "speech_to_image_r1", ..., "image_to_speech_r10" in percent, "..._mrr" in 0..1,
            "..._median_rank"; on the test split.
        abx: layer -> phone ABX error within speaker in percent; ``abx_across``: across speakers.
        lexical: layer -> recall of words in percent.
        items: folder of the checkpoint's evaluations, or ``UPDATES.npz`` in an earlier form.
    """

    scenario: str
    seed: int
    phase: str
    update: int
    losses: Mapping[str, float] = field(default_factory=dict)
    retrieval: Mapping[str, float] = field(default_factory=dict)
    abx: Mapping[str, float] = field(default_factory=dict)
    items: Path | None = None
    abx_across: Mapping[str, float] = field(default_factory=dict)
    lexical: Mapping[str, float] = field(default_factory=dict)

    def best_layer(self, kind: str) -> str | None:
        """Return the (lower) best layer in "abx", "abx_across" or "lexical"; None without."""
        values: Mapping[str, float] = getattr(self, kind)
        choose = max if kind == LEXICAL else min
        return choose(values, key=values.__getitem__) if values else None

    @property
    def best_abx(self) -> float:
        """ABX error of the best layer within speaker in percent; NaN without ABX."""
        return min(self.abx.values(), default=math.nan)

    @property
    def best_lexical(self) -> float:
        """Recall of words of the best layer in percent; NaN without the lexical test."""
        return max(self.lexical.values(), default=math.nan)


@dataclass(frozen=True)
class Training:
    """Losses and cooperation probes of one scenario and seed, by updates since the start of the scenario.

    ``losses`` maps "ssl_loss" and "vgs_loss" to i64[n] updates and f64[n] nats.
    """

    losses: Mapping[str, tuple[I64, F64]]
    probes: tuple[ProbeRecord, ...] = ()


@dataclass(frozen=True)
class StudyResults:
    """Input of tables, figures, verdicts and the page.

    Attributes:
        points: by scenario, seed and update; a shared first phase appears in each of its scenarios.
        untrained: seed -> the model before training.
        training: (scenario, seed) -> losses over updates.
        chance: measure -> score of a random order, percent ("abx": 50).
        baselines: features without a model ("mfcc") -> phone ABX error in percent.
        lexical_baselines: the same -> recall of words in percent.
        missing: runs that are not finished, in words.
        facts: pool sizes, ABX protocol, machine, versions.
        recipe: settings of the model and its losses (``study.recipe``); empty if unknown.
    """

    settings: StudySettings
    points: tuple[Point, ...]
    untrained: Mapping[int, Point]
    training: Mapping[tuple[str, int], Training]
    chance: Mapping[str, float]
    baselines: Mapping[str, float]
    missing: tuple[str, ...]
    facts: Mapping[str, object]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    lexical_baselines: Mapping[str, float] = field(default_factory=dict)

    @property
    def recall_cutoffs(self) -> tuple[int, ...]:
        """The k of R@k that suit the pool: 1, and those that a random order reaches in at most 20 %."""
        return tuple(k for k in RECALL_CUTOFFS if k == 1 or self._suits(k))

    def _suits(self, k: int) -> bool:
        return all(self.chance.get(f"{way}_r{k}", 0.0) <= MOST_CHANCE + _ROUNDING for way in DIRECTIONS)

    def at(self, scenario: str, update: int) -> dict[int, Point]:
        """Return a scenario's points at an update by seed."""
        wanted = (scenario, update)
        found = {point.seed: point for point in self.points if (point.scenario, point.update) == wanted}
        return {seed: found[seed] for seed in self.settings.seeds if seed in found}

    def finals(self, scenario: str) -> dict[int, Point]:
        """Return the points at the end of a scenario's training by seed, without unfinished seeds."""
        return self.at(scenario, self.settings.updates_of(scenario))

    def chance_of(self, parts: Sequence[str]) -> float | None:
        """Average the scores of a random order over some measures; None unless all are known."""
        found = [self.chance[part] for part in parts if part in self.chance]
        return sum(found) / len(found) if len(found) == len(parts) else None


def load_items(path: Path) -> dict[str, dict[str, Items]]:
    """Read a point's items: evaluation -> set -> items.

    Raises:
        ResultsError: the files are broken, or too old to hold the phones of pairs.
    """
    folder = path.with_suffix("")
    old = folder.with_suffix(".npz")
    found = items_of(read_arrays(old)) if old.is_file() else {}
    for result in map(read_result, folder.glob(f"*/{METRICS_NAME}")):
        found[result.path.parent.name] = dict(result.items[result.evaluated])
    return found


def collect(settings: StudySettings, folder: StudyFolder) -> StudyResults:
    """Read a study's results so far.

    Raises:
        StudyError: ``study.mismatch``, checkpoints were measured on different data.
        ResultsError: a result file is broken.
    """
    runs = plan_runs(settings)
    evaluations = [folder.run(run.name).evaluation for run in runs]
    measured = [read_checkpoint(stem) for path in evaluations for stem in checkpoints_in(path).values()]
    _refuse_mixed_data(measured, folder)
    first = measured[0] if measured else {}
    both = list(product(settings.names, settings.seeds))
    untrained = {seed: _untrained(seed, runs, folder) for seed in settings.seeds}
    return StudyResults(
        settings=settings,
        points=tuple(point for one in both for point in _points(*one, settings, folder)),
        untrained={seed: point for seed, point in untrained.items() if point is not None},
        training={one: _training(*one, settings, folder) for one in both},
        chance=_chance(first),
        baselines=_first(_baselines(results.get(ABX_KEYS["within"])) for results in measured),
        lexical_baselines=_first(_baselines(results.get(LEXICAL)) for results in measured),
        missing=tuple(_missing(settings, runs, folder)),
        facts=_facts(first),
        recipe=read_recipe(folder.run(run.name).run for run in runs),
    )


def _phases(scenario: str, settings: StudySettings) -> list[tuple[str, str, int, int]]:
    """List the phases of a scenario or arm: its run, its name, first and last update."""
    arm = settings.arm(scenario)
    if arm.first is None:
        return [(scenario, "whole", 0, arm.total_updates)]
    middle = arm.updates[0]
    return [(arm.first, "first", 0, middle), (scenario, "second", middle, arm.total_updates)]


def _points(scenario: str, seed: int, settings: StudySettings, folder: StudyFolder) -> Iterator[Point]:
    """Yield the points of a scenario, those of its base run first."""
    for primary, phase, start, end in _phases(scenario, settings):
        run = folder.run(run_name(primary, seed))
        for update in measured_after(end - start, settings, is_second=phase == "second"):
            point = _point(run, update, scenario=scenario, seed=seed, phase=phase)
            if point is not None:
                yield replace(point, update=start + update)


def _point(run: RunFolder, update: int, *, scenario: str, seed: int, phase: str) -> Point | None:
    """Read a checkpoint of a run, with the updates since the start of that run."""
    path = run.evaluation / str(update)
    results = read_checkpoint(path)
    if not results:
        return None
    log = _log(run)
    return Point(
        scenario=scenario,
        seed=seed,
        phase=phase,
        update=update,
        losses={} if log is None else _losses_at(log, update),
        retrieval=_numbers(results.get("retrieval")),
        abx=_numbers(results.get(ABX_KEYS["within"])),
        abx_across=_numbers(results.get(ABX_KEYS["across"])),
        lexical=_numbers(results.get(LEXICAL)),
        items=path if path.is_dir() else path.with_suffix(".npz"),
    )


def _untrained(seed: int, runs: Sequence[PhaseRun], folder: StudyFolder) -> Point | None:
    folders = (folder.run(run.name) for run in runs if run.seed == seed and run.start is None)
    points = (_point(path, 0, scenario=UNTRAINED, seed=seed, phase=UNTRAINED) for path in folders)
    return next((point for point in points if point is not None), None)


def _training(scenario: str, seed: int, settings: StudySettings, folder: StudyFolder) -> Training:
    """Join the losses of a scenario's phases."""
    pieces: dict[str, list[tuple[I64, F64]]] = {}
    probes: list[ProbeRecord] = []
    for primary, _, start, end in _phases(scenario, settings):
        run = folder.run(run_name(primary, seed))
        log = _log(run)
        for name in LOSSES:
            curve = None if log is None else log.curve(TRAIN, name)
            if curve is not None:
                counts = curve.updates + start <= end
                pieces.setdefault(name, []).append((curve.updates[counts] + start, curve.values[counts]))
        records = read_probes(run.probes) if run.probes.is_file() else []
        moved = (replace(record, update=record.update + start) for record in records)
        probes += [record for record in moved if record.update <= end]
    losses = {
        name: (np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found]))
        for name, found in pieces.items()
    }
    return Training(losses, tuple(probes))


def _log(run: RunFolder) -> TrainingLog | None:
    return read_training_log(run.history) if run.history.is_file() and run.history.stat().st_size else None


def _losses_at(log: TrainingLog, update: int) -> dict[str, float]:
    """Return both losses of the validation after an update."""
    found = {}
    for part in log.validation_parts:
        for name in LOSSES:
            curve = log.curve(part, name)
            if curve is not None and update in curve.updates:
                found[name] = float(curve.values[curve.updates == update][-1])
    return found


def _numbers(result: Result | None) -> dict[str, float]:
    """Return the numbers of the evaluated model."""
    metrics = result.models[result.evaluated] if result else {}
    return {name: metric.value.value for name, metric in metrics.items()}


def _chance(results: Results) -> dict[str, float]:
    """Return the scores of a random order: retrieval metrics, and one value for all layers of the others."""
    found: dict[str, float] = {}
    for key, result in results.items():
        metrics = result.models[result.evaluated]
        if key == "retrieval":
            found |= {name: metric.chance for name, metric in metrics.items() if metric.chance is not None}
        elif key in LAYERED:
            found[key] = next(iter(metrics.values())).chance or 0.0
    return found


def _first(found: Iterable[dict[str, float]]) -> dict[str, float]:
    return next((entry for entry in found if entry), {})


def _baselines(result: Result | None) -> dict[str, float]:
    """Return what features without a model score."""
    models = result.models.items() if result else ()
    return {name: metrics[name].value.value for name, metrics in models if name in metrics}


def _refuse_mixed_data(measured: Sequence[Results], folder: StudyFolder) -> None:
    """Compare hashes of the data files, since pools of equal size may differ."""
    found = (
        results["retrieval"].content["made_from"]["data"] for results in measured if "retrieval" in results
    )
    made_from = [hashes for hashes in found if hashes]
    names = sorted({name for hashes in made_from for name in hashes})
    different = [name for name in names if len({hashes.get(name) for hashes in made_from}) > 1]
    if different:
        message = (
            f"all checkpoints must be measured on the same data, got different {', '.join(different)}; "
            "run the study again, which measures outdated checkpoints again"
        )
        raise StudyError.at(folder.path, message, "study.mismatch")


def _missing(settings: StudySettings, runs: Sequence[PhaseRun], folder: StudyFolder) -> Iterator[str]:
    for run in runs:
        expected = points_of(run, settings)
        there = checkpoints_in(folder.run(run.name).evaluation).keys() & set(expected)
        if len(there) < len(expected):
            state = "trained" if folder.run(run.name).trained.exists() else "not fully trained"
            yield f"{run.name}: {state}, {len(there)} of {len(expected)} checkpoints evaluated"


def _facts(results: Results) -> dict[str, object]:
    def counts(result: Result) -> dict[str, Any]:
        return result.content["models"][result.evaluated].get("counts", {})

    abx = {
        f"phone ABX {mode} speaker": {**results[key].content["condition"], **counts(results[key])}
        for mode, key in ABX_KEYS.items()
        if key in results
    }
    words = {"lexical test": counts(results[LEXICAL])} if LEXICAL in results else {}
    first = next(iter(results.values()), None)
    provenance = {} if first is None else first.content["provenance"]
    return {
        "pool": results["retrieval"].content.get("pool", {}) if "retrieval" in results else {},
        **abx,
        **words,
        **{name: provenance.get(name, {}) for name in ("machine", "versions")},
    }
