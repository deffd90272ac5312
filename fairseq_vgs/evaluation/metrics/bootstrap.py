"""Confidence intervals that resample images: the captions of one image are not independent of each other.

Shapes: ``Q`` queries, ``G`` groups (distinct images), ``N`` resamples.

A resample draws ``G`` groups with replacement and takes all queries of each; the ranks themselves stay as
measured against the whole gallery. Two models are compared on the same draws (`paired_difference`), so that
what is hard for both cancels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_MAX_CELLS = 4_000_000  # resample x query cells held at once


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval, in the unit of the estimate.

    The bounds are NaN where there are none: one image says nothing of others.
    """

    value: float
    low: float
    high: float
    method: str = "bootstrap over images"


def mean_interval(
    values: FloatArray, groups: IntArray, *, seed: int, n_resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Percentile interval of the mean over queries.

    Args:
        values: f64[Q] one number per query, such as a hit (0 or 100) or a reciprocal rank.
        groups: int64[Q] image group of each query.
        seed: seed of the draws; the same seed and groups give the same draws.
        n_resamples: number of draws.
        level: share of draws inside the interval.
    """
    if not values.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    sums, counts = _group_sums(values, groups)
    draws = np.concatenate(
        [(w @ sums) / (w @ counts) for w in resample_weights(len(sums), n_resamples, seed=seed)]
    )
    low, high = _percentiles(draws, groups, level)
    return Interval(float(values.mean()), low, high)


def percentage_interval(
    hits: npt.NDArray[np.bool_], groups: IntArray, *, seed: int, n_resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Interval of the percentage of hits.

    Where every query hits, or none does, all resamples agree and would claim certainty; the exact binomial
    (Clopper-Pearson) bound for ``G`` independent images is given instead.
    """
    if hits.size and (hits.all() or not hits.any()):
        n_groups = len(np.unique(groups))
        margin = 100.0 * (1.0 - ((1.0 - level) / 2.0) ** (1.0 / n_groups))
        low, high = (100.0 - margin, 100.0) if hits.all() else (0.0, margin)
        return Interval(100.0 if hits.all() else 0.0, low, high, method="Clopper-Pearson over images")
    return mean_interval(np.where(hits, 100.0, 0.0), groups, seed=seed, n_resamples=n_resamples, level=level)


def median_interval(
    values: FloatArray, groups: IntArray, *, seed: int, n_resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Percentile interval of the median over queries; arguments as in `mean_interval`."""
    if not values.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = _percentiles(_medians(values, groups, n_resamples, seed=seed), groups, level)
    return Interval(float(np.median(values)), low, high)


def median_difference(
    first: FloatArray,
    second: FloatArray,
    groups: IntArray,
    *,
    seed: int,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of median(first) - median(second); arguments as in `paired_difference`."""
    _check_paired(first, second)
    if not first.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    draws, others = (_medians(values, groups, n_resamples, seed=seed) for values in (first, second))
    low, high = _percentiles(draws - others, groups, level)
    return Interval(float(np.median(first) - np.median(second)), low, high)


def paired_difference(
    first: FloatArray,
    second: FloatArray,
    groups: IntArray,
    *,
    seed: int,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of mean(first) - mean(second) for two models measured on the same queries.

    Args:
        first: f64[Q] one number per query of the first model.
        second: f64[Q] the same queries, in the same order, of the second model.
        groups: int64[Q] image group of each query.
        seed: seed of the draws.
        n_resamples: number of draws.
        level: share of draws inside the interval.
    """
    _check_paired(first, second)
    return mean_interval(first - second, groups, seed=seed, n_resamples=n_resamples, level=level)


def resample_weights(
    n_groups: int, n_resamples: int, *, seed: int, n_columns: int | None = None
) -> Iterator[FloatArray]:
    """Yield f64[n, G] blocks: how often each group occurs in each of the resamples.

    The draws depend on ``n_groups``, ``n_resamples`` and ``seed`` alone. ``n_columns`` (default ``n_groups``)
    is the width of what the caller builds per resample, which bounds the size of a block.
    """
    generator = np.random.default_rng(seed)
    block = max(1, _MAX_CELLS // max(n_groups, n_columns or 0))
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        drawn = generator.integers(n_groups, size=(rows, n_groups))
        flat = (drawn + n_groups * np.arange(rows)[:, None]).ravel()
        yield np.bincount(flat, minlength=rows * n_groups).reshape(rows, n_groups).astype(np.float64)


def _check_paired(first: FloatArray, second: FloatArray) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"paired difference: expected the same queries, got {len(first)} and {len(second)} of them"
        )


def _medians(values: FloatArray, groups: IntArray, n_resamples: int, *, seed: int) -> FloatArray:
    """f64[N] median of each resample; of an even number of queries the mean of the two in the middle."""
    _, group_index = np.unique(groups, return_inverse=True)
    order = np.argsort(values, kind="stable")
    ordered, ordered_groups = values[order], group_index[order]
    draws = []
    for weights in resample_weights(
        int(group_index.max()) + 1, n_resamples, seed=seed, n_columns=len(values)
    ):
        reached = np.cumsum(weights[:, ordered_groups], axis=1)
        total = reached[:, -1:]
        lower, upper = np.argmax(2 * reached >= total, axis=1), np.argmax(2 * reached > total, axis=1)
        draws.append((ordered[lower] + ordered[upper]) / 2.0)
    return np.concatenate(draws)


def _group_sums(values: FloatArray, groups: IntArray) -> tuple[FloatArray, FloatArray]:
    if values.shape != groups.shape:
        raise ValueError(f"bootstrap: expected one group per value ({len(values)}), got {len(groups)}")
    _, index = np.unique(groups, return_inverse=True)
    sums: FloatArray = np.bincount(index, weights=values).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _percentiles(draws: FloatArray, groups: IntArray, level: float) -> tuple[float, float]:
    if (groups == groups[0]).all():  # every resample is the sample
        return float("nan"), float("nan")
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return float(low), float(high)
