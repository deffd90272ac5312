"""From a study's folder to its results; whatever is there already is used, what is not is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.evaluators.abx import ABX_KEYS
from fairseq_vgs.evaluation.over_training import Results, checkpoints_in, read_checkpoint
from fairseq_vgs.evaluation.results import Result
from fairseq_vgs.files.faults import Fault
from fairseq_vgs.report.run_logs import TRAIN, ProbeRecord, TrainingLog, read_probes, read_training_log
from fairseq_vgs.study.begun import StudyError
from fairseq_vgs.study.plan import PhaseRun, RunFolder, StudyFolder, plan_runs, points_of, run_name
from fairseq_vgs.study.recipe import read_recipe
from fairseq_vgs.study.results import UNTRAINED, Point, StudyResults, Training
from fairseq_vgs.study.settings import BASES, StudySettings, phases_of

LOSSES = ("ssl_loss", "vgs_loss")

Curve = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


def collect(settings: StudySettings, folder: StudyFolder) -> StudyResults:
    """Read what a study has found so far.

    Raises:
        StudyError: checkpoints were measured on different data.
        ResultsError: a file of figures is faulty.
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
    """Yield the points of a scenario, first those of the base run that it starts from."""
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
    """Return where the items of a checkpoint are: in its folder or, of version 0.1.0, one file."""
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
    parts: list[tuple[RunFolder, int, int]] = []  # folder, first update of it, last update of it that counts
    boundary = None
    if scenario not in BASES:
        boundary = settings.first_updates
        parts.append((folder.run(run_name(phases_of(scenario)[0], seed)), 0, boundary))
    parts.append((folder.run(run_name(scenario, seed)), boundary or 0, settings.updates_of(scenario)))
    pieces: dict[str, list[Curve]] = {name: [] for name in LOSSES}
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
    """Return both losses of the validation that was made after an update."""
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
    """Return what a random order scores: metrics of retrieval, and one number for all layers of ABX."""
    found: dict[str, float] = {}
    for key, result in results.items():
        metrics = result.models[result.evaluated]
        if key == "retrieval":
            found |= {name: metric.chance for name, metric in metrics.items() if metric.chance is not None}
        elif key in ABX_KEYS.values():
            found[key] = next(iter(metrics.values())).chance or 0.0
    return found


def _baselines(results: Results) -> dict[str, float]:
    """Return the ABX error within speaker of features that are no model."""
    result = results.get(ABX_KEYS["within"])
    if result is None:
        return {}
    models = {name: metrics for name, metrics in result.models.items() if name in metrics}
    return {name: metrics[name].value.value for name, metrics in models.items()}


def _refuse_mixed_data(measured: Sequence[Results], folder: StudyFolder) -> None:
    """Pools of equal size can be of different data: only the files' hashes tell."""
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
            f"all checkpoints must have been measured on the same data, got evaluations of different "
            f"{', '.join(different)}; run the study again: it measures again what is out of date"
        )
        raise StudyError(Fault(str(folder.path), message, "study.mixed_data"))


def _missing(settings: StudySettings, runs: Iterable[PhaseRun], folder: StudyFolder) -> Iterator[str]:
    for run in runs:
        measured = checkpoints_in(folder.run(run.name).evaluation)
        there = [update for update in points_of(run, settings) if update in measured]
        expected = points_of(run, settings)
        if len(there) < len(expected):
            state = "trained" if folder.run(run.name).trained.exists() else "not trained to its end"
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
