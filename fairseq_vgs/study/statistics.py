"""Means over seeds and paired differences of scenarios, with intervals over both seeds and test items.

Shapes: ``n`` seeds, ``G`` items resampled together, ``L`` layers, ``O`` ordered phone pairs, ``N`` resamples.

A mean m over n seeds of values measured on one test set gets the interval

    m ± sqrt((t(0.975, n - 1) * s / sqrt(n))^2 + (1.96 * se_items)^2)

s is the standard deviation between seeds, se_items the bootstrap's standard error of m over test items:
images for retrieval, whose captions are dependent, and phones for ABX, whose pairs are dependent
(``metrics.intervals``), with the best layer chosen in every resample. For a paired difference, m
is the mean over seeds of the differences between two scenarios, all on the same resampled items, so that what
is hard for both cancels.

The interval is conservative: s already includes the items' influence that differs between seeds, and with few
seeds t is large. With one seed the interval covers items only, and ``Estimate.seeds_measured`` is False.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from fairseq_vgs.arrays import F64
from fairseq_vgs.evaluation.evaluators.abx import ABX_KEYS
from fairseq_vgs.evaluation.results import Items
from fairseq_vgs.files.faults import Fault
from fairseq_vgs.metrics.intervals import resample_pairs, resample_weights
from fairseq_vgs.metrics.retrieval import DIRECTIONS, RECALL_CUTOFFS
from fairseq_vgs.study.markers import StudyError
from fairseq_vgs.study.results import Point, load_items

N_RESAMPLES = 2000
RESAMPLE_SEED = 1
LEVEL = 0.95
_NORMAL_QUANTILE = 1.96


@dataclass(frozen=True)
class Measure:
    """Something measured at a checkpoint.

    Attributes:
        name: key in files.
        title: for tables.
        unit: "%" or "" (a ratio).
        highest: the largest possible value; the smallest is 0.
        parts: single-direction measures that this one averages; otherwise itself.
        lower_is_better: true for errors.
    """

    name: str
    title: str
    unit: str
    highest: float
    parts: tuple[str, ...]
    lower_is_better: bool = False

    @property
    def heading(self) -> str:
        """Title with the unit, for the head of a column."""
        return f"{self.title}, {self.unit}"

    @property
    def difference_unit(self) -> str:
        """Unit of a difference of two values."""
        return "percentage points" if self.unit == "%" else self.unit

    @property
    def decimals(self) -> int:
        """Number of decimals shown."""
        return 1 if self.unit == "%" else 3


_ARROWS = {"speech_to_image": "speech → image", "image_to_speech": "image → speech"}
_KINDS = {**{f"r{k}": (f"R@{k}", "%", 100.0) for k in RECALL_CUTOFFS}, "mrr": ("MRR", "", 1.0)}
MEASURES = {
    measure.name: measure
    for measure in (
        *(
            Measure(f"{way}_{kind}", f"{title}, {_ARROWS[way]}", unit, highest, (f"{way}_{kind}",))
            for way in DIRECTIONS
            for kind, (title, unit, highest) in _KINDS.items()
        ),
        *(
            Measure(
                kind,
                f"{title}, mean of both directions",
                unit,
                highest,
                tuple(f"{way}_{kind}" for way in DIRECTIONS),
            )
            for kind, (title, unit, highest) in _KINDS.items()
        ),
        *(
            Measure(
                key, f"ABX error of the best layer, {mode} speaker", "%", 100.0, (key,), lower_is_better=True
            )
            for mode, key in ABX_KEYS.items()
        ),
    )
}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval.

    Attributes:
        value: mean over seeds.
        low: lower bound.
        high: upper bound.
        per_seed: seed -> value, or difference.
        seed_sd: standard deviation between seeds; NaN with one seed.
        item_se: bootstrap standard error over test items.
        n_items: number of resampled images or phones.
    """

    value: float
    low: float
    high: float
    per_seed: Mapping[int, float]
    seed_sd: float
    item_se: float
    n_items: int

    @property
    def seeds_measured(self) -> bool:
        """Whether the interval includes the variation between seeds."""
        return len(self.per_seed) > 1

    def as_json(self) -> dict[str, Any]:
        """Return plain data; NaN becomes null."""
        return {
            "value": self.value,
            "interval": {"level": LEVEL, "low": self.low, "high": self.high},
            "per_seed": {str(seed): value for seed, value in self.per_seed.items()},
            "n_seeds": len(self.per_seed),
            "seeds_measured": self.seeds_measured,
            "seed_sd": None if math.isnan(self.seed_sd) else self.seed_sd,
            "item_se": self.item_se,
            "n_items": self.n_items,
        }


@dataclass(frozen=True)
class Sample:
    """One measure of one checkpoint, on all items and on resamples of them.

    Attributes:
        value: on all items.
        draws: f64[N] on resamples.
        n_items: number of resampled items.
        items: identifies the items; equal for comparable checkpoints.
    """

    value: float
    draws: F64
    n_items: int
    items: bytes


@dataclass
class Sampler:
    """Read and resample the items of checkpoints, each checkpoint once.

    Checkpoints with equal items get the same draws.
    """

    n_resamples: int = N_RESAMPLES
    seed: int = RESAMPLE_SEED
    _known: dict[str, dict[str, Sample]] = field(default_factory=dict, repr=False)

    def sample(self, point: Point, measure: Measure) -> Sample | None:
        """Return one measure of a checkpoint; None if it was not measured."""
        if point.items is None:
            return None
        key = str(point.items)
        if key not in self._known:
            items = load_items(point.items)
            self._known[key] = {**self._retrieval(items.get("retrieval", {})), **self._abx(items)}
        parts = [self._known[key].get(part) for part in measure.parts]
        found = [part for part in parts if part is not None and not math.isnan(part.value)]
        if len(found) < len(parts):
            return None
        value = float(np.mean([part.value for part in found]))
        draws: F64 = np.mean([part.draws for part in found], axis=0)
        return Sample(value, draws, found[0].n_items, found[0].items)

    def _retrieval(self, sets: Mapping[str, Items]) -> dict[str, Sample]:
        if not sets:
            return {}
        names = np.unique(sets["speech_to_image"].units)
        sums, counts, columns = [], [], []
        for way in DIRECTIONS:
            found = sets[way]
            item = np.searchsorted(names, found.units)
            n_queries = np.bincount(item, minlength=len(names)).astype(np.float64)
            for column in (f"{way}_{kind}" for kind in _KINDS):
                columns.append(column)
                sums.append(np.bincount(item, weights=found.values[column], minlength=len(names)))
                counts.append(n_queries)
        weights = resample_weights(len(names), self.n_resamples, seed=self.seed)
        whole, draws = _ratios(np.stack(sums, axis=1), np.stack(counts, axis=1), weights)
        items = b"".join(sets[way].units.tobytes() for way in DIRECTIONS)
        return {
            name: Sample(float(whole[column]), draws[:, column], len(names), items)
            for column, name in enumerate(columns)
        }

    def _abx(self, items: Mapping[str, Mapping[str, Items]]) -> dict[str, Sample]:
        samples = {}
        for key in (key for key in ABX_KEYS.values() if key in items):
            (found,) = items[key].values()
            errors = np.stack(list(found.values.values()), axis=1)
            weights = resample_pairs(found.units, self.n_resamples, seed=self.seed)
            whole, draws = _ratios(errors, np.ones((len(errors), 1)), weights)
            names = json.dumps([found.ids["phone_a"], found.ids["phone_b"]]).encode()
            n_phones = len(np.unique(found.units))
            samples[key] = Sample(float(whole.min()), draws.min(axis=1), n_phones, names)
        return samples


def _ratios(sums: F64, counts: F64, weights: Iterable[F64]) -> tuple[F64, F64]:
    """Average K columns given as f64[G, K] sums and counts: f64[K] over all, f64[N, K] over resamples."""
    blocks = [(block @ sums) / (block @ counts) for block in weights]
    return sums.sum(axis=0) / counts.sum(axis=0), np.concatenate(blocks)


def estimate(points: Mapping[int, Point], measure: Measure, sampler: Sampler) -> Estimate | None:
    """Return the mean over seeds of one scenario's checkpoints.

    If every query of every seed hits, or none does, all resamples agree; the bound is then the exact binomial
    one (Clopper-Pearson) for the number of items.

    Args:
        points: seed -> checkpoint.
        measure: one of ``MEASURES``.
        sampler: shared, so that a checkpoint is read once.

    Returns:
        None if no seed has been measured.
    """
    samples = _samples(points, measure, sampler)
    if not samples:
        return None
    n_items = next(iter(samples.values())).n_items
    found = mean_over_seeds(
        {seed: sample.value for seed, sample in samples.items()},
        np.mean([sample.draws for sample in samples.values()], axis=0),
        n_items=n_items,
    )
    low, high = found.low, found.high
    if measure.unit == "%" and set(found.per_seed.values()) in ({0.0}, {measure.highest}):
        margin = measure.highest * (1.0 - ((1.0 - LEVEL) / 2.0) ** (1.0 / n_items))
        low, high = found.value - margin, found.value + margin
    return replace(found, low=max(low, 0.0), high=min(high, measure.highest))


def difference(
    first: Mapping[int, Point], second: Mapping[int, Point], measure: Measure, sampler: Sampler
) -> Estimate | None:
    """Return the mean of first minus second over the seeds that both have.

    Args:
        first: seed -> checkpoint of one scenario.
        second: seed -> checkpoint of the other.
        measure: one of ``MEASURES``.
        sampler: shared, so that a checkpoint is read once.

    Returns:
        None if no seed has been measured for both.

    Raises:
        StudyError: ``study.mismatch``, they were measured on different items.
    """
    return combination(((1, first), (-1, second)), measure, sampler)


def combination(
    terms: Sequence[tuple[int, Mapping[int, Point]]], measure: Measure, sampler: Sampler
) -> Estimate | None:
    """Return the mean of a signed sum over the seeds that all terms have.

    Args:
        terms: sign (1 or -1), and seed -> checkpoint.
        measure: one of ``MEASURES``.
        sampler: shared, so that a checkpoint is read once.

    Returns:
        None if no seed has been measured for all.

    Raises:
        StudyError: ``study.mismatch``, they were measured on different items.
    """
    signs = [sign for sign, _ in terms]
    samples = [_samples(points, measure, sampler) for _, points in terms]
    seeds = [seed for seed in samples[0] if all(seed in found for found in samples)]
    if not seeds:
        return None
    _refuse_different_items([sample for found in samples for sample in found.values()], measure)
    of_seed = {seed: [found[seed] for found in samples] for seed in seeds}
    values = {seed: float(np.dot(signs, [s.value for s in found])) for seed, found in of_seed.items()}
    draws = [np.dot(signs, [s.draws for s in found]) for found in of_seed.values()]
    return mean_over_seeds(values, np.mean(draws, axis=0), n_items=samples[0][seeds[0]].n_items)


def mean_over_seeds(per_seed: Mapping[int, float], draws: F64, *, n_items: int = 0) -> Estimate:
    """Combine the variation between seeds and items, see the module.

    Args:
        per_seed: seed -> value, or paired difference.
        draws: f64[N] means over seeds on resampled items.
        n_items: number of resampled items, for the record.
    """
    values = np.array(list(per_seed.values()), dtype=np.float64)
    n, value = len(values), float(values.mean())
    item_se = float(draws.std(ddof=1))
    seed_sd, seed_part = math.nan, 0.0
    if n > 1:
        seed_sd = float(values.std(ddof=1))
        seed_part = float(stdtrit(n - 1, (1.0 + LEVEL) / 2.0)) * seed_sd / math.sqrt(n)
    half = math.hypot(seed_part, _NORMAL_QUANTILE * item_se)
    return Estimate(value, value - half, value + half, dict(per_seed), seed_sd, item_se, n_items)


def _samples(points: Mapping[int, Point], measure: Measure, sampler: Sampler) -> dict[int, Sample]:
    found = {seed: sampler.sample(point, measure) for seed, point in sorted(points.items())}
    samples = {seed: sample for seed, sample in found.items() if sample is not None}
    _refuse_different_items(list(samples.values()), measure)
    return samples


def _refuse_different_items(samples: Sequence[Sample], measure: Measure) -> None:
    if len({sample.items for sample in samples}) > 1:
        message = (
            "checkpoints must be measured on the same items; delete the study's evaluations and run it again"
        )
        raise StudyError(Fault(measure.name, message, "study.mismatch"))
