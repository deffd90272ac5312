"""Curves over updates from a study's points, training logs and probes, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fairseq_vgs.evaluation.retrieval import DIRECTIONS
from fairseq_vgs.evaluation.training_log import Curve
from fairseq_vgs.study.results import Point, StudyResults
from fairseq_vgs.study.settings import BASES

_MAX_LOGGED = 100  # points of a logged curve that are drawn; what is logged more often is averaged


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
        n_parts = min(_MAX_LOGGED, int(kept.sum()))
        if n_parts:
            found[seed] = Curve(
                np.array([part[-1] for part in np.array_split(updates[kept], n_parts)], dtype=np.int64),
                np.array([part.mean() for part in np.array_split(values[kept], n_parts)]),
            )
    return SeedCurves(found)


def probe_curves(results: StudyResults, scenario: str, column: str) -> dict[str, SeedCurves]:
    """Collect a column of `ProbeRecord` of a scenario by layer, in the order of the records."""
    by_layer: dict[str, dict[int, Curve]] = {}
    for seed in results.settings.seeds:
        training = results.training.get((scenario, seed))
        probes = training.probes if training else ()
        records = {probe.update: getattr(probe, column) for probe in probes}
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


def recall_at_10(point: Point) -> float:
    """R@10 averaged over both directions, percent; NaN if it was not measured."""
    return sum(point.retrieval.get(f"{way}_r10", math.nan) for way in DIRECTIONS) / len(DIRECTIONS)


def boundary(results: StudyResults, scenario: str) -> int | None:
    """Return the update at which the second phase begins; None for a base."""
    return None if scenario in BASES else results.settings.first_updates


def _curve(pairs: Iterable[tuple[int, float]]) -> Curve | None:
    kept = [(update, value) for update, value in pairs if not math.isnan(value)]
    if not kept:
        return None
    updates, values = zip(*kept, strict=True)
    return Curve(np.array(updates, dtype=np.int64), np.array(values, dtype=np.float64))
