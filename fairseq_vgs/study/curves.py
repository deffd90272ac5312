"""Curves over updates from a study's points, training logs and probes, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fairseq_vgs.evaluation.metrics.retrieval import DIRECTIONS
from fairseq_vgs.report.run_logs import Curve
from fairseq_vgs.study.results import Point, StudyResults
from fairseq_vgs.study.settings import BASES

_N_LOGGED = 100  # points over a scenario's whole length; what is logged more often is averaged


@dataclass(frozen=True)
class SeedCurves:
    """One quantity of one scenario, by seed; seeds without it are left out."""

    seeds: Mapping[int, Curve]

    @property
    def mean(self) -> Curve | None:
        """Mean over the seeds that have come furthest, at the updates they share; None without a seed.

        A seed that is still being trained does not cut the mean short, nor does its end make a step in it.
        """
        if not self.seeds:
            return None
        furthest = max(curve.updates[-1] for curve in self.seeds.values())
        whole = [curve for curve in self.seeds.values() if curve.updates[-1] == furthest]
        shared = [update for update in whole[0].updates if all(update in curve.updates for curve in whole)]
        values = [curve.values[np.isin(curve.updates, shared)] for curve in whole]
        return Curve(np.array(shared, dtype=np.int64), np.mean(values, axis=0))


def point_curves(
    results: StudyResults, scenario: str, value: Callable[[Point], float], *, from_untrained: bool = True
) -> SeedCurves:
    """Collect a number of a scenario's checkpoints over updates.

    Args:
        results: of the study.
        scenario: which.
        value: of a checkpoint; NaN where it was not measured.
        from_untrained: begin with the untrained model at update 0.
    """
    found = {}
    for seed in results.settings.seeds:
        points = {
            point.update: point
            for point in results.points
            if (point.scenario, point.seed) == (scenario, seed)
        }
        if points and from_untrained and seed in results.untrained:
            points[0] = results.untrained[seed]
        curve = _curve((update, value(points[update])) for update in sorted(points))
        if curve is not None:
            found[seed] = curve
    return SeedCurves(found)


def logged_curves(results: StudyResults, scenario: str, loss: str) -> SeedCurves:
    """Collect a training loss of a scenario; neighbouring updates are averaged where there are many."""
    found = {}
    for seed in results.settings.seeds:
        training = results.training.get((scenario, seed))
        if training is None or loss not in training.losses:
            continue
        updates, values = training.losses[loss]
        kept = ~np.isnan(values)
        if kept.any():
            width = -(-results.settings.updates_of(scenario) // _N_LOGGED)
            _, part = np.unique((updates[kept] - 1) // width, return_inverse=True)
            means = np.bincount(part, weights=values[kept]) / np.bincount(part)
            ends = np.flatnonzero(np.diff(part, append=-1))
            found[seed] = Curve(updates[kept][ends], means)
    return SeedCurves(found)


def probe_curves(
    results: StudyResults, scenario: str, column: str, *, second: bool = False
) -> dict[str, SeedCurves]:
    """Collect a column of `ProbeRecord` of one phase of a scenario by layer, in the order of the records.

    The second phase's own record at its start, which drift is measured from, is told from the last one of the
    first phase by coming after it.
    """
    by_layer: dict[str, dict[int, Curve]] = {}
    start = boundary(results, scenario)
    for seed in results.settings.seeds:
        training = results.training.get((scenario, seed))
        records: dict[int, Mapping[str, float]] = {}
        latest = -1
        for probe in training.probes if training else ():
            is_second = start is not None and (probe.update > start or latest == probe.update == start)
            latest = probe.update
            if is_second == second:
                records[probe.update] = getattr(probe, column)
        for layer in dict.fromkeys(name for values in records.values() for name in values):
            curve = _curve((update, values.get(layer, math.nan)) for update, values in records.items())
            if curve is not None:
                by_layer.setdefault(layer, {})[seed] = curve
    return {layer: SeedCurves(seeds) for layer, seeds in by_layer.items()}


def loss(name: str) -> Callable[[Point], float]:
    """Return what reads a validation loss of a checkpoint, nats per item; NaN if it was not measured."""
    return lambda point: point.losses.get(name, math.nan)


def retrieval(name: str) -> Callable[[Point], float]:
    """Return what reads a retrieval measure of a checkpoint; NaN if it was not measured."""
    return lambda point: point.retrieval.get(name, math.nan)


def abx(layer: str) -> Callable[[Point], float]:
    """Return what reads a layer's ABX error of a checkpoint, percent; NaN if it was not measured."""
    return lambda point: point.abx.get(layer, math.nan)


def recall_at_10(point: Point) -> float:
    """R@10 averaged over both directions, percent; NaN if it was not measured."""
    return sum(point.retrieval.get(f"{way}_r10", math.nan) for way in DIRECTIONS) / len(DIRECTIONS)


def abx_levels(results: StudyResults) -> list[tuple[str, float]]:
    """List the constant ABX errors to compare with, percent: baselines by name, then chance."""
    levels = [(name.upper(), value) for name, value in sorted(results.baselines.items())]
    return [*levels, *([("chance", results.chance["abx"])] if "abx" in results.chance else [])]


def untrained_mean(results: StudyResults, value: Callable[[Point], float]) -> float | None:
    """Average a number of the untrained models over seeds; None where it was not measured."""
    values = [value(point) for point in results.untrained.values()]
    kept = [number for number in values if not math.isnan(number)]
    return sum(kept) / len(kept) if kept else None


def boundary(results: StudyResults, scenario: str) -> int | None:
    """Return the update at which the second phase begins; None for a base."""
    return None if scenario in BASES else results.settings.first_updates


def _curve(pairs: Iterable[tuple[int, float]]) -> Curve | None:
    kept = [(update, value) for update, value in pairs if not math.isnan(value)]
    if not kept:
        return None
    updates, values = zip(*kept, strict=True)
    return Curve(np.array(updates, dtype=np.int64), np.array(values, dtype=np.float64))
