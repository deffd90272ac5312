"""Confidence intervals that resample what items depend on: images, phones of phone pairs, words.

Shapes: ``Q`` items, ``G`` units (distinct images, phones, words), ``N`` resamples.

A resample draws ``G`` units with replacement. An item of one unit, such as a caption of an image, counts as
often as its unit was drawn; ranks stay as measured against the whole gallery. An item of two units, such as
an ordered pair of phones, counts as often as one was drawn times as often as the other was. The latter is the
vertex bootstrap of Snijders and Borgatti, "Non-parametric standard errors and tests for network statistics",
Connections 22(2), 1999, except that a phone that was drawn twice makes no pair with itself, where they insert
a random other pair. Resampling pairs as if each were an independent observation makes intervals far too
narrow, since a hard phone is hard in all of its pairs. This one errs slightly towards wide, as what is
specific to a single pair is counted more than once.

Two models are compared on the same draws, so that what is hard for both cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fairseq_vgs.arrays import F64, I64, Bool, np

Statistic = Literal["mean", "median", "hits"]
"""How values of items become one number; "hits" is a mean of values that are 0 or 100 each."""

N_RESAMPLES = 2000
LEVEL = 0.95
_MAX_CELLS = 4_000_000  # resample x item cells held at once
_NAN = float("nan")


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval; NaN where there are none, as of one image."""

    value: float
    low: float
    high: float
    method: str = "bootstrap over images"


def interval(
    values: F64,
    units: I64,
    *,
    seed: int,
    statistic: Statistic = "mean",
    resampled: str = "images",
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Return a statistic over items with its percentile interval.

    Where every item is a hit, or none is, all resamples agree and would claim certainty; the exact binomial
    (Clopper-Pearson) bound for ``G`` independent units is given instead.

    Args:
        values: f64[Q] one number per item, such as a reciprocal rank, a hit (0 or 100), or the difference of
            two models.
        units: int64[Q], or int64[Q, 2] where an item has two units.
        seed: Of the draws; the same seed and units give the same draws.
        statistic: Mean or median of the values; "hits" is the mean with exact bounds at 0 and 100.
        resampled: What the units are, for the record.
        n_resamples: Number of draws.
    """
    if len(values) != len(units):
        raise ValueError(f"bootstrap: expected units for each value ({len(values)}), got {len(units)}")
    if statistic == "hits" and values.size and (values == values[0]).all():
        margin = 100.0 * exact_margin(len(np.unique(units)))
        low, high = (100.0 - margin, 100.0) if values[0] else (0.0, margin)
        return Interval(float(values[0]), low, high, f"Clopper-Pearson over {resampled}")
    options = {"seed": seed, "n_resamples": n_resamples}
    return _bootstrapped(values, None, units, statistic=statistic, resampled=resampled, **options)


def difference(
    first: F64,
    second: F64,
    units: I64,
    *,
    seed: int,
    statistic: Statistic = "mean",
    resampled: str = "images",
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Return the statistic of f64[Q] minus that of the same items of another model, on the same resamples.

    All else is as in ``interval``, but for "hits", which are like "mean".
    """
    if first.shape != second.shape:
        raise ValueError(f"paired difference: expected the same items, got {len(first)} and {len(second)}")
    options = {"seed": seed, "n_resamples": n_resamples}
    if statistic == "median":
        return _bootstrapped(first, second, units, statistic=statistic, resampled=resampled, **options)
    return _bootstrapped(first - second, None, units, statistic=statistic, resampled=resampled, **options)


def resample_weights(
    n_units: int, n_resamples: int, *, seed: int, n_columns: int | None = None
) -> Iterator[F64]:
    """Yield f64[n, G] blocks: how often each unit occurs in each of the resamples.

    The draws depend on ``n_units``, ``n_resamples`` and ``seed`` alone. ``n_columns`` is the width of what
    the caller builds per resample if it is wider, which bounds the size of a block.
    """
    generator = np.random.default_rng(seed)
    block = max(1, _MAX_CELLS // max(n_units, n_columns or 0))
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        drawn = generator.integers(n_units, size=(rows, n_units))
        flat = (drawn + n_units * np.arange(rows)[:, None]).ravel()
        yield np.bincount(flat, minlength=rows * n_units).reshape(rows, n_units).astype(np.float64)


def resample_pairs(pairs: I64, n_resamples: int, *, seed: int) -> Iterator[F64]:
    """Yield f64[n, Q] blocks: how often each of int64[Q, 2] pairs of units occurs in each of the resamples.

    A resample without any pair is drawn again.

    Raises:
        ValueError: There is no pair of two different units.
    """
    if not (pairs[:, 0] != pairs[:, 1]).any():
        raise ValueError(f"bootstrap: expected pairs of two different units, got none in {len(pairs)} pairs")
    names, index = np.unique(pairs, return_inverse=True)
    first, second = index.reshape(pairs.shape).T
    generator = np.random.default_rng(seed)
    block, left = max(1, _MAX_CELLS // len(pairs)), n_resamples
    while left:
        times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=min(block, left))
        weights = (times[:, first] * times[:, second]).astype(np.float64)
        weights = weights[weights.any(axis=1)]
        left -= len(weights)
        yield weights


def numbered_pairs(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], I64]:
    """Return the distinct names in pairs, sorted, and int64[Q, 2] the numbers of each pair's two."""
    names, numbers = np.unique(np.array(pairs), return_inverse=True)
    return tuple(names.tolist()), numbers.reshape(-1, 2)


def exact_margin(n_units: int) -> float:
    """Return the width of the Clopper-Pearson interval, as a share, where all units are hits or none is."""
    return 1.0 - ((1.0 - LEVEL) / 2.0) ** (1.0 / n_units)


def hits(found: Bool) -> F64:
    """Return f64[Q]: 100 for every hit, else 0."""
    return np.where(found, 100.0, 0.0)


def _bootstrapped(
    first: F64,
    second: F64 | None,
    units: I64,
    *,
    statistic: Statistic,
    resampled: str,
    n_resamples: int,
    seed: int,
) -> Interval:
    """Return the statistic of the first values minus that of the second, if there are any."""
    method = f"bootstrap over {resampled}"
    if not first.size:
        return Interval(_NAN, _NAN, _NAN, method)
    measure, draw = (np.median, resampled_medians) if statistic == "median" else (np.mean, _means)
    value = float(measure(first)) - (0.0 if second is None else float(measure(second)))
    if len(np.unique(units)) < 2:  # every resample is the sample
        return Interval(value, _NAN, _NAN, method)
    draws = draw(first, units, n_resamples, seed=seed)
    if second is not None:
        draws = draws - draw(second, units, n_resamples, seed=seed)
    tail = 50.0 * (1.0 - LEVEL)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return Interval(value, float(low), float(high), method)


def _means(values: F64, units: I64, n_resamples: int, *, seed: int) -> F64:
    """Return f64[N], the mean of each resample."""
    if units.ndim == 2:
        blocks = resample_pairs(units, n_resamples, seed=seed)
        return np.concatenate([(block @ values) / block.sum(axis=1) for block in blocks])
    _, index = np.unique(units, return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index).astype(np.float64)
    draws = resample_weights(len(sums), n_resamples, seed=seed)
    return np.concatenate([(weights @ sums) / (weights @ counts) for weights in draws])


def resampled_medians(values: F64, units: I64, n_resamples: int, *, seed: int) -> F64:
    """Return f64[N], the median of each resample; of an even number, the mean of the middle two."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    draws = []
    for weights in _resample_items(units, n_resamples, seed=seed):
        reached = np.cumsum(weights[:, order], axis=1)
        total = reached[:, -1:]
        lower, upper = np.argmax(2 * reached >= total, axis=1), np.argmax(2 * reached > total, axis=1)
        draws.append((ordered[lower] + ordered[upper]) / 2.0)
    return np.concatenate(draws)


def _resample_items(units: I64, n_resamples: int, *, seed: int) -> Iterator[F64]:
    """Yield f64[n, Q] blocks: how often each item occurs in each of the resamples."""
    if units.ndim == 2:
        yield from resample_pairs(units, n_resamples, seed=seed)
        return
    names, index = np.unique(units, return_inverse=True)
    for weights in resample_weights(len(names), n_resamples, seed=seed, n_columns=len(units)):
        yield weights[:, index]
