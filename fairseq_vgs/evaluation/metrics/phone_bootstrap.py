"""Confidence intervals of ABX errors that resample phones: pairs that share a phone are not independent.

Shapes: ``P`` phones, ``O`` ordered phone pairs, ``N`` resamples.

A resample draws ``P`` phones with replacement; the pair (a, b) counts as often as a was drawn times as often
as b was. This is the vertex bootstrap of Snijders and Borgatti, "Non-parametric standard errors and
tests for network statistics", Connections 22(2), 1999, but for one thing: a phone that was drawn twice makes
no pair with itself, where they put a random other pair in. Resampling pairs as if each was a new observation
makes intervals far too narrow, since a phone that is hard is so in all of its pairs. This one errs slightly
towards wide, as what is a single pair's own is counted more than once. Two models are compared on the same
draws, so that what is hard for both cancels. Of two phones there is one pair, and nothing to resample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.metrics.bootstrap import Interval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

METHOD = "bootstrap over phones"
_MAX_CELLS = 4_000_000  # resample x pair cells held at once


def numbered_phones(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], IntArray]:
    """Return the P phones of ordered pairs, sorted, and int64[O, 2] the numbers of each pair's two."""
    names = tuple(sorted({phone for pair in pairs for phone in pair}))
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([[numbers[a], numbers[b]] for a, b in pairs], dtype=np.int64)


def mean_interval(
    values: FloatArray,
    pairs: Sequence[tuple[str, str]],
    *,
    seed: int,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of the mean over ordered phone pairs.

    Args:
        values: f64[O] one number per pair: an error, or the difference of two models' errors.
        pairs: the O pairs; not all pairs of the phones need be there.
        seed: seed of the draws; the same seed and pairs give the same draws.
        n_resamples: number of draws.
        level: share of draws inside the interval.
    """
    if len(values) != len(pairs):
        raise ValueError(f"bootstrap: expected one value per phone pair ({len(pairs)}), got {len(values)}")
    _, phones = numbered_phones(pairs)
    weights = resample_pairs(phones, n_resamples, seed=seed)
    draws = np.concatenate([(block @ values) / block.sum(axis=1) for block in weights])
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return Interval(float(values.mean()), float(low), float(high), METHOD)


def resample_pairs(phones: IntArray, n_resamples: int, *, seed: int) -> Iterator[FloatArray]:
    """Yield f64[n, O] blocks: how often each ordered pair occurs in each of the N resamples.

    The draws depend on the arguments alone. A resample without any pair is drawn again.

    Args:
        phones: int64[O, 2] the two phones of each ordered pair.
        n_resamples: number of draws.
        seed: seed of the draws.

    Raises:
        ValueError: there is no pair of two phones.
    """
    if not (phones[:, 0] != phones[:, 1]).any():
        raise ValueError(
            f"bootstrap over phones: expected pairs of two phones, got {len(phones)} pairs, none such"
        )
    names, index = np.unique(phones, return_inverse=True)
    first, second = index.reshape(phones.shape).T
    generator = np.random.default_rng(seed)
    block, left = max(1, _MAX_CELLS // len(phones)), n_resamples
    while left:
        times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=min(block, left))
        weights = (times[:, first] * times[:, second]).astype(np.float64)
        weights = weights[weights.any(axis=1)]
        left -= len(weights)
        yield weights
