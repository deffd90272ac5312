"""Means over seeds and paired differences of scenarios, with intervals over both seeds and test items.

Shapes: ``n`` seeds, ``G`` items resampled together, ``L`` layers, ``O`` ordered phone pairs, ``N`` resamples.

A mean m over n seeds of values measured on one test set gets the interval

    m ± sqrt((t(0.975, n - 1) * s / sqrt(n))^2 + (1.96 * se_items)^2)

s is the standard deviation between seeds, se_items the bootstrap's standard error of m over test items:
images for retrieval, phones for ABX and words for the lexical test, since captions and pairs are dependent
(``metrics.intervals``), with the best layer chosen in every resample. For a paired difference, m is the mean
over seeds of the differences between two scenarios, all on the same resampled items, so that what is hard for
both cancels. The interval is conservative: s already includes the items' influence that differs between
seeds, and with few seeds t is large. With one seed the interval covers items only, and
``Estimate.seeds_measured`` is False.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from fairseq_vgs.arrays import F64
from fairseq_vgs.evaluation.evaluators.abx import ABX_KEYS
from fairseq_vgs.evaluation.evaluators.lexical import KIND as LEXICAL
from fairseq_vgs.evaluation.results import Items
from fairseq_vgs.metrics.intervals import (
    LEVEL,
    N_RESAMPLES,
    exact_margin,
    resample_pairs,
    resample_weights,
    resampled_medians,
)
from fairseq_vgs.metrics.retrieval import DIRECTIONS, RECALL_CUTOFFS
from fairseq_vgs.study.markers import StudyError
from fairseq_vgs.study.results import Point, load_items

RESAMPLE_SEED = 1
_NORMAL_QUANTILE = 1.96


@dataclass(frozen=True)
class Measure:
    """Something measured at a checkpoint, in ``unit`` "%" or "" (a ratio or rank).

    ``name`` is its key in files, ``title`` is for tables. ``parts`` names the single-direction measures that
    it averages, else itself. Values are from ``lowest`` to ``highest`` and shown with ``decimals``.
    """

    name: str
    title: str
    unit: str
    highest: float
    parts: tuple[str, ...]
    lower_is_better: bool = False
    lowest: float = 0.0
    decimals: int = 1

    @property
    def heading(self) -> str:
        """Title with the unit, for the head of a column."""
        return ", ".join(filter(None, (self.title, self.unit)))

    def is_better(self, found: Estimate, than: float) -> bool:
        """Whether the whole interval of a value is on the better side of a number, such as chance or 0."""
        return found.high < than if self.lower_is_better else found.low > than

    @property
    def difference_unit(self) -> str:
        """Unit of a difference of two values."""
        return "percentage points" if self.unit == "%" else self.unit

    def text(self, number: float, *, signed: bool = False) -> str:
        """Write a value, or a difference with its sign."""
        if signed:
            return f"{number:+.{self.decimals}f}".replace("-", "−")
        return f"{number:.{self.decimals}f}"

    def interval(self, found: Estimate, unit: str = "", *, signed: bool = False) -> str:
        """Write a mean with its interval: "+4.1 percentage points [+1.2, +7.0]"."""
        value, low, high = (self.text(n, signed=signed) for n in (found.value, found.low, found.high))
        return f"{value}{unit and ' '}{unit} [{low}, {high}]"


_MEANS = (*(f"r{k}" for k in RECALL_CUTOFFS), "mrr")  # of items; the median rank is their median
_MEDIAN = "median_rank"
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"r{k}": (f"R@{k}", {"unit": "%", "highest": 100.0}) for k in RECALL_CUTOFFS},
    "mrr": ("MRR", {"unit": "", "highest": 1.0, "decimals": 3}),
    _MEDIAN: ("median rank", {"unit": "", "highest": math.inf, "lowest": 1.0, "lower_is_better": True}),
}


def _measures() -> Iterator[Measure]:
    for kind, (title, facts) in _KINDS.items():
        parts = tuple(f"{way}_{kind}" for way in DIRECTIONS)
        for way, part in zip(DIRECTIONS, parts, strict=True):
            yield Measure(part, f"{title}, {way.replace('_to_', ' → ')}", parts=(part,), **facts)
        yield Measure(kind, f"{title}, mean of both directions", parts=parts, **facts)
    for mode, key in ABX_KEYS.items():
        title = f"ABX error of the best layer, {mode} speaker"
        yield Measure(key, title, "%", 100.0, (key,), lower_is_better=True)
    yield Measure(LEXICAL, "recall of words of the best layer", "%", 100.0, (LEXICAL,))


def _kept_measures() -> Iterator[Measure]:
    """Yield what a second phase keeps of a recall of the first, in percent of it (``study.forgetting``)."""
    for kind in (f"r{k}" for k in RECALL_CUTOFFS):
        title = f"{_KINDS[kind][0]} kept over the second phase"
        parts = tuple(f"{way}_{kind}" for way in DIRECTIONS)
        yield Measure(f"kept_{kind}", title, "%", math.inf, parts, lowest=-math.inf)


KEPT = {measure.name: measure for measure in _kept_measures()}
MEASURES = {measure.name: measure for measure in (*_measures(), *KEPT.values())}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds (``per_seed``: seed -> value, or difference) with its 95 % interval.

    ``seed_sd`` is the standard deviation between seeds, NaN with one seed; ``item_se`` the bootstrap standard
    error over ``n_items`` test items, images or phones.
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
    """One measure of one checkpoint, on all items and on resamples of them (``draws``, f64[N]).

    ``items`` identifies the ``n_items`` resampled items; equal for comparable checkpoints.
    """

    value: float
    draws: F64
    n_items: int
    items: bytes


@dataclass
class Sampler:
    """Reads and resamples each checkpoint's items once; checkpoints with equal items get the same draws."""

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
            self._known[key] = {
                **self._retrieval(items.get("retrieval", {})),
                **self._abx(items),
                **self._lexical(items.get(LEXICAL, {})),
            }
        found = [sample for part in measure.parts if (sample := self._known[key].get(part)) is not None]
        if len(found) < len(measure.parts) or any(math.isnan(part.value) for part in found):
            return None
        value = float(np.mean([part.value for part in found]))
        draws: F64 = np.mean([part.draws for part in found], axis=0)
        return Sample(value, draws, found[0].n_items, found[0].items)

    def samples(self, points: Mapping[int, Point], measure: Measure) -> dict[int, Sample]:
        """Return one measure of several seeds' checkpoints, without those where it was not measured."""
        found = {seed: self.sample(point, measure) for seed, point in sorted(points.items())}
        return {seed: sample for seed, sample in found.items() if sample is not None}

    def _retrieval(self, sets: Mapping[str, Items]) -> dict[str, Sample]:
        if not sets:
            return {}
        names = np.unique(sets["speech_to_image"].units)
        columns, sums, counts = [], [], []
        for way in DIRECTIONS:
            found = sets[way]
            item = np.searchsorted(names, found.units)
            n_queries = np.bincount(item, minlength=len(names)).astype(np.float64)
            for column in (f"{way}_{kind}" for kind in _MEANS):
                columns.append(column)
                sums.append(np.bincount(item, weights=found.values[column], minlength=len(names)))
                counts.append(n_queries)
        weights = resample_weights(len(names), self.n_resamples, seed=self.seed)
        whole, draws = _ratios(np.stack(sums, axis=1), np.stack(counts, axis=1), weights)
        items = b"".join(sets[way].units.tobytes() for way in DIRECTIONS)
        samples = {
            name: Sample(float(value), drawn, len(names), items)
            for name, value, drawn in zip(columns, whole, draws.T, strict=True)
        }
        for way in DIRECTIONS:
            ranks = sets[way].values[name := f"{way}_{_MEDIAN}"]
            drawn = resampled_medians(ranks, sets[way].units, self.n_resamples, seed=self.seed)
            samples[name] = Sample(float(np.median(ranks)), drawn, len(names), items)
        return samples

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

    def _lexical(self, sets: Mapping[str, Items]) -> dict[str, Sample]:
        samples = {}
        for found in sets.values():
            recalls = np.stack(list(found.values.values()), axis=1)
            weights = resample_weights(len(recalls), self.n_resamples, seed=self.seed)
            whole, draws = _ratios(recalls, np.ones((len(recalls), 1)), weights)
            words = json.dumps(list(found.ids["word"])).encode()
            samples[LEXICAL] = Sample(float(whole.max()), draws.max(axis=1), len(recalls), words)
        return samples


def _ratios(sums: F64, counts: F64, weights: Iterable[F64]) -> tuple[F64, F64]:
    """Average K columns given as f64[G, K] sums and counts: f64[K] over all, f64[N, K] over resamples."""
    blocks = [(block @ sums) / (block @ counts) for block in weights]
    return sums.sum(axis=0) / counts.sum(axis=0), np.concatenate(blocks)


def estimate(points: Mapping[int, Point], measure: Measure, sampler: Sampler) -> Estimate | None:
    """Return the mean over seeds of one scenario's checkpoints; None if no seed has been measured.

    If every query of every seed hits, or none does, all resamples agree; the bound is then the exact binomial
    one (Clopper-Pearson) for the number of items.
    """
    found = combination([(1, points)], measure, sampler)
    if found is None:
        return None
    low, high = found.low, found.high
    if measure.unit == "%" and set(found.per_seed.values()) in ({0.0}, {measure.highest}):
        margin = measure.highest * exact_margin(found.n_items)
        low, high = found.value - margin, found.value + margin
    return replace(found, low=max(low, measure.lowest), high=min(high, measure.highest))


def difference(
    first: Mapping[int, Point], second: Mapping[int, Point], measure: Measure, sampler: Sampler
) -> Estimate | None:
    """Return the mean of first minus second over the seeds that both have, see ``combination``."""
    return combination([(1, first), (-1, second)], measure, sampler)


def combination(
    terms: Sequence[tuple[int, Mapping[int, Point]]], measure: Measure, sampler: Sampler
) -> Estimate | None:
    """Return the mean of a signed sum over the seeds measured in all terms; None without such a seed.

    Terms are a sign (1 or -1), and seed -> checkpoint; a shared sampler reads a checkpoint once.

    Raises:
        StudyError: ``study.mismatch``, they were measured on different items.
    """
    return combined([(sign, sampler.samples(points, measure)) for sign, points in terms], measure)


def combined(terms: Sequence[tuple[int, Mapping[int, Sample]]], measure: Measure) -> Estimate | None:
    """Return the mean of a signed sum over the seeds sampled in all terms, as ``combination`` does."""
    signs, samples = [sign for sign, _ in terms], [found for _, found in terms]
    seeds = [seed for seed in samples[0] if all(seed in found for found in samples)]
    if not seeds:
        return None
    if len({sample.items for found in samples for sample in found.values()}) > 1:
        step = "delete the study's evaluations and run it again"
        raise StudyError.at(
            measure.name, f"checkpoints must be measured on the same items; {step}", "study.mismatch"
        )
    of_seed = {seed: [found[seed] for found in samples] for seed in seeds}
    values = {seed: float(np.dot(signs, [s.value for s in found])) for seed, found in of_seed.items()}
    draws = [np.dot(signs, [s.draws for s in found]) for found in of_seed.values()]
    return mean_over_seeds(values, np.mean(draws, axis=0), n_items=samples[0][seeds[0]].n_items)


def mean_over_seeds(per_seed: Mapping[int, float], draws: F64, *, n_items: int = 0) -> Estimate:
    """Combine the variation between seeds and items (see the module).

    ``per_seed`` maps a seed to its value or paired difference; ``draws`` are f64[N] means over seeds on
    resampled items.
    """
    values = np.array(list(per_seed.values()), dtype=np.float64)
    n, value, item_se = len(values), float(values.mean()), float(draws.std(ddof=1))
    seed_sd, seed_part = math.nan, 0.0
    if n > 1:
        seed_sd = float(values.std(ddof=1))
        seed_part = float(stdtrit(n - 1, (1.0 + LEVEL) / 2.0)) * seed_sd / math.sqrt(n)
    half = math.hypot(seed_part, _NORMAL_QUANTILE * item_se)
    return Estimate(value, value - half, value + half, dict(per_seed), seed_sd, item_se, n_items)
