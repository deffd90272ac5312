"""What a second phase keeps of what the first one learned.

With s(u) a score after u updates of the second phase and c its chance, the retained share is

    r(u) = (s(u) - c) / (s(0) - c)

1 at the start and 0 at chance. ``kept`` is the mean of r over log updates, from the first to the last
evaluated one (trapezoids): how much is left, whatever number of updates one cares about. Evaluate early
(``evaluate_at``), since most is lost within a few updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fairseq_vgs.arrays import F64, I64
from fairseq_vgs.report.run_logs import Curve
from fairseq_vgs.study.results import Point, StudyResults
from fairseq_vgs.study.statistics import KEPT, MEASURES, Measure, Sample, Sampler

_PERCENT = 100.0


@dataclass(frozen=True)
class Retained:
    """Retained shares of one seed after i64[U] updates of the second phase.

    ``shares`` are f64[U], ``draws`` f64[N, U] on resampled items; ``n_items`` and ``items`` as in ``Sample``.
    """

    updates: I64
    shares: F64
    draws: F64
    n_items: int
    items: bytes

    @property
    def curve(self) -> Curve:
        """Percent over updates."""
        return Curve(self.updates, _PERCENT * self.shares)

    @property
    def half_life(self) -> float:
        """Updates after which half is lost (linear between evaluations); infinite if it never is."""
        updates, shares = np.concatenate([[0], self.updates]), np.concatenate([[1.0], self.shares])
        below = np.flatnonzero(shares < 0.5)
        if not len(below):
            return float("inf")
        place = int(below[0])
        (x0, x1), (y0, y1) = updates[place - 1 : place + 1], shares[place - 1 : place + 1]
        return float(x0 + (y0 - 0.5) / (y0 - y1) * (x1 - x0))


def retained(results: StudyResults, arm: str, measure: Measure, sampler: Sampler) -> dict[int, Retained]:
    """Return what each seed retains of a recall (a ``KEPT`` measure); seeds without a curve are left out.

    A curve needs the score at the start of the second phase, above chance, and two evaluations after it.
    """
    start = results.settings.arm(arm).boundary
    chance = results.chance_of(measure.parts)
    if start is None or chance is None:
        return {}
    found = {}
    for seed in results.settings.seeds:
        points = {
            point.update - start: point
            for point in results.points
            if (point.scenario, point.seed) == (arm, seed) and point.update >= start
        }
        curve = _retained(points, measure, chance, sampler)
        if curve is not None:
            found[seed] = curve
    return found


def kept(results: StudyResults, arm: str, measure: Measure, sampler: Sampler) -> dict[int, Sample]:
    """Return the percentage that each seed keeps, averaged over log updates of the second phase."""
    samples = {}
    for seed, one in retained(results, arm, measure, sampler).items():
        weights = _log_weights(one.updates)
        value = float(_PERCENT * (one.shares @ weights))
        samples[seed] = Sample(value, _PERCENT * (one.draws @ weights), one.n_items, one.items)
    return samples


def _retained(
    points: Mapping[int, Point], measure: Measure, chance: float, sampler: Sampler
) -> Retained | None:
    samples = sampler.samples(points, _underlying(measure))
    start, updates = samples.pop(0, None), sorted(samples)
    if start is None or len(updates) < 2 or start.value <= chance or updates[-1] != max(points):
        return None
    gain = start.value - chance
    shares = np.array([(samples[u].value - chance) / gain for u in updates])
    gained = np.maximum(start.draws - chance, gain / 10)  # few resamples are near chance, and would explode
    draws = np.stack([(samples[u].draws - chance) / gained for u in updates], axis=1)
    return Retained(np.array(updates, dtype=np.int64), shares, draws, start.n_items, start.items)


def _underlying(measure: Measure) -> Measure:
    """Return the recall whose retained share a ``KEPT`` measure is."""
    return MEASURES[measure.name.removeprefix("kept_")] if measure.name in KEPT else measure


def _log_weights(updates: I64) -> F64:
    """Return the weight of each evaluation in a mean over log updates: f64[U], their sum is 1."""
    steps = np.diff(np.log(updates.astype(np.float64)))
    weights = np.zeros(len(updates))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return weights / weights.sum()
