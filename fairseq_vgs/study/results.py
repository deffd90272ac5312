"""A study's results so far: every evaluated checkpoint of every scenario and seed.

``collect`` reads them from the study's folder and lists what is missing. Intervals and paired differences are
computed from the items that ``fairseq-vgs evaluate run`` wrote (``evaluation.results``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_vgs.arrays import F64, I64
from fairseq_vgs.evaluation.evaluators.abx import ABX_KEYS
from fairseq_vgs.evaluation.over_training import Results, checkpoints_in, read_checkpoint
from fairseq_vgs.evaluation.results import METRICS_NAME, Items, Result, read_result
from fairseq_vgs.evaluation.version_1 import items_of, read_arrays
from fairseq_vgs.files.faults import Fault
from fairseq_vgs.report.run_logs import TRAIN, ProbeRecord, TrainingLog, read_probes, read_training_log
from fairseq_vgs.study.markers import StudyError
from fairseq_vgs.study.plan import PhaseRun, RunFolder, StudyFolder, plan_runs, points_of, run_name
from fairseq_vgs.study.recipe import read_recipe
from fairseq_vgs.study.settings import BASES, StudySettings, phases_of

LOSSES = ("ssl_loss", "vgs_loss")
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Point:
    """One evaluated checkpoint.

    Attributes:
        scenario: name of the primary, such as "w2v2_then_vgs", or "untrained".
        seed: of weights, data order and masks.
        phase: "whole", "first", "second" or "untrained".
        update: updates since the start of the scenario, first phase included.
        losses: "ssl_loss" and "vgs_loss" in nats on the validation split.
        retrieval: "speech_to_image_r1", ..., "image_to_speech_r10" in percent, "..._mrr" in 0..1,
            "..._median_rank"; on the test split.
        abx: Layer -> phone ABX error within speaker in percent.
        abx_across: The same across speakers.
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

    @property
    def best_layer(self) -> str | None:
        """Layer with the lowest ABX error within speaker, the lower one of a tie; None without ABX."""
        return self.best_layer_in("abx")

    def best_layer_in(self, kind: str) -> str | None:
        """Return the layer with the lowest error in "abx" or "abx_across"; None without."""
        errors: Mapping[str, float] = getattr(self, kind)
        return min(errors, key=errors.__getitem__) if errors else None

    @property
    def best_abx(self) -> float:
        """ABX error of the best layer in percent; NaN without ABX."""
        layer = self.best_layer
        return float("nan") if layer is None else self.abx[layer]


@dataclass(frozen=True)
class Training:
    """Losses of one scenario and seed over its updates, for curves.

    Attributes:
        losses: "ssl_loss" and "vgs_loss" -> (i64[n] updates since the start of the scenario, f64[n] nats).
        boundary: update at which the second phase started; None for scenarios of one phase.
        probes: cooperation probes of all phases, by update since the start of the scenario.
    """

    losses: Mapping[str, tuple[I64, F64]]
    boundary: int | None
    probes: tuple[ProbeRecord, ...] = ()


@dataclass(frozen=True)
class StudyResults:
    """Input of tables, figures, verdicts and the page.

    Attributes:
        settings: the planned study.
        points: by scenario, seed and update; a shared first phase appears in each of its scenarios.
        untrained: seed -> the model before training.
        training: (scenario, seed) -> losses over updates.
        chance: measure -> score of a random order, percent ("abx": 50).
        baselines: features without a model ("mfcc") -> phone ABX error in percent.
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

    def final(self, scenario: str, seed: int) -> Point | None:
        """Return the point at the end of a scenario's training, if it exists."""
        end = self.settings.updates_of(scenario)
        found = [
            point
            for point in self.points
            if (point.scenario, point.seed, point.update) == (scenario, seed, end)
        ]
        return found[0] if found else None

    def finals(self, scenario: str) -> dict[int, Point]:
        """Return the final points of a scenario by seed, without unfinished seeds."""
        found = {seed: self.final(scenario, seed) for seed in self.settings.seeds}
        return {seed: point for seed, point in found.items() if point is not None}


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
    runs = {run.name: run for run in plan_runs(settings)}
    points: list[Point] = []
    training: dict[tuple[str, int], Training] = {}
    for scenario in settings.scenarios:
        for seed in settings.seeds:
            points += _points(scenario, seed, settings, folder)
            training[scenario, seed] = _training(scenario, seed, settings, folder)
    untrained = {
        seed: point for seed in settings.seeds if (point := _untrained(seed, runs, folder)) is not None
    }
    measured = list(_measured(runs, folder))
    _refuse_mixed_data(measured, folder)
    first = measured[0] if measured else {}
    return StudyResults(
        settings=settings,
        points=tuple(points),
        untrained=untrained,
        training=training,
        chance=_chance(first),
        baselines=next((found for results in measured if (found := _baselines(results))), {}),
        missing=tuple(_missing(settings, runs.values(), folder)),
        facts=_facts(first),
        recipe=read_recipe(folder.run(name).run for name in runs),
    )


def _points(scenario: str, seed: int, settings: StudySettings, folder: StudyFolder) -> Iterator[Point]:
    """Yield the points of a scenario, those of its base run first."""
    start = 0
    if scenario not in BASES:
        base, start = phases_of(scenario)[0], settings.first_updates
        run = folder.run(run_name(base, seed))
        for update in range(settings.evaluate_every, start + 1, settings.evaluate_every):
            yield from _point(run, update, scenario=scenario, seed=seed, phase="first", start=0)
    run = folder.run(run_name(scenario, seed))
    end = settings.updates_of(scenario) - start
    for update in range(settings.evaluate_every, end + 1, settings.evaluate_every):
        phase = "second" if start else "whole"
        yield from _point(run, update, scenario=scenario, seed=seed, phase=phase, start=start)


def _point(
    run: RunFolder, update: int, *, scenario: str, seed: int, phase: str, start: int
) -> Iterator[Point]:
    results = read_checkpoint(run.evaluation / str(update))
    if not results:
        return
    log = _log(run)
    yield Point(
        scenario=scenario,
        seed=seed,
        phase=phase,
        update=start + update,
        losses={} if log is None else _losses_at(log, update),
        retrieval=_numbers(results.get("retrieval")),
        abx=_numbers(results.get(ABX_KEYS["within"])),
        abx_across=_numbers(results.get(ABX_KEYS["across"])),
        items=_items(run, update),
    )


def _items(run: RunFolder, update: int) -> Path:
    """Return where the items of a checkpoint are: in its folder, or one file in an earlier form."""
    folder = run.evaluation / str(update)
    return folder if folder.is_dir() else folder.with_suffix(".npz")


def _untrained(seed: int, runs: Mapping[str, PhaseRun], folder: StudyFolder) -> Point | None:
    for run in runs.values():
        if run.seed == seed and run.start is None:
            found = list(
                _point(folder.run(run.name), 0, scenario=UNTRAINED, seed=seed, phase=UNTRAINED, start=0)
            )
            if found:
                return found[0]
    return None


def _training(scenario: str, seed: int, settings: StudySettings, folder: StudyFolder) -> Training:
    """Join the losses of a scenario's phases."""
    parts: list[tuple[RunFolder, int, int]] = []  # folder, its first update, its last update that counts
    boundary = None
    if scenario not in BASES:
        boundary = settings.first_updates
        parts.append((folder.run(run_name(phases_of(scenario)[0], seed)), 0, boundary))
    parts.append((folder.run(run_name(scenario, seed)), boundary or 0, settings.updates_of(scenario)))
    pieces: dict[str, list[tuple[I64, F64]]] = {name: [] for name in LOSSES}
    probes: list[ProbeRecord] = []
    for run, start, last in parts:
        log = _log(run)
        for name in LOSSES:
            curve = None if log is None else log.curve(TRAIN, name)
            if curve is not None:
                counts = curve.updates + start <= last
                pieces[name].append((curve.updates[counts] + start, curve.values[counts]))
        if run.probes.is_file():
            probes += [
                replace(record, update=record.update + start)
                for record in read_probes(run.probes)
                if record.update + start <= last
            ]
    losses = {
        name: (np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found]))
        for name, found in pieces.items()
        if found
    }
    return Training(losses, boundary, tuple(probes))


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
    if result is None:
        return {}
    return {name: metric.value.value for name, metric in result.models[result.evaluated].items()}


def _measured(runs: Mapping[str, PhaseRun], folder: StudyFolder) -> Iterator[Results]:
    for name in runs:
        for stem in checkpoints_in(folder.run(name).evaluation).values():
            yield read_checkpoint(stem)


def _chance(results: Results) -> dict[str, float]:
    """Return the scores of a random order: retrieval metrics, and one value for all layers of ABX."""
    found: dict[str, float] = {}
    for key, result in results.items():
        metrics = result.models[result.evaluated]
        if key == "retrieval":
            found |= {name: metric.chance for name, metric in metrics.items() if metric.chance is not None}
        elif key in ABX_KEYS.values():
            found[key] = next(iter(metrics.values())).chance or 0.0
    return found


def _baselines(results: Results) -> dict[str, float]:
    """Return the ABX error within speaker of features without a model."""
    result = results.get(ABX_KEYS["within"])
    if result is None:
        return {}
    models = {name: metrics for name, metrics in result.models.items() if name in metrics}
    return {name: metrics[name].value.value for name, metrics in models.items()}


def _refuse_mixed_data(measured: Sequence[Results], folder: StudyFolder) -> None:
    """Compare hashes of the data files, since pools of equal size may differ."""
    hashes = [
        results["retrieval"].content["made_from"]["data"] for results in measured if "retrieval" in results
    ]
    made_from = [found for found in hashes if found]
    different = sorted(
        name
        for name in {name for hashes in made_from for name in hashes}
        if len({hashes.get(name) for hashes in made_from}) > 1
    )
    if different:
        message = (
            f"all checkpoints must be measured on the same data, got different {', '.join(different)}; "
            "run the study again, which measures outdated checkpoints again"
        )
        raise StudyError(Fault(str(folder.path), message, "study.mismatch"))


def _missing(settings: StudySettings, runs: Iterable[PhaseRun], folder: StudyFolder) -> Iterator[str]:
    for run in runs:
        measured = checkpoints_in(folder.run(run.name).evaluation)
        there = [update for update in points_of(run, settings) if update in measured]
        expected = points_of(run, settings)
        if len(there) < len(expected):
            state = "trained" if folder.run(run.name).trained.exists() else "not fully trained"
            yield f"{run.name}: {state}, {len(there)} of {len(expected)} checkpoints evaluated"


def _facts(results: Results) -> dict[str, object]:
    abx = {
        f"phone ABX {mode} speaker": {
            **results[key].content["condition"],
            **results[key].content["models"][results[key].evaluated].get("counts", {}),
        }
        for mode, key in ABX_KEYS.items()
        if key in results
    }
    first = next(iter(results.values()), None)
    provenance = {} if first is None else first.content["provenance"]
    return {
        "pool": results["retrieval"].content.get("pool", {}) if "retrieval" in results else {},
        **abx,
        "machine": provenance.get("machine", {}),
        "versions": provenance.get("versions", {}),
    }
