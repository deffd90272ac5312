"""Batches of similar length, and the unpaired speech that is added to them for the SSL loss only.

Lengths are in samples. A batch of P pairs also takes ``unpaired_rows(P)`` utterances without pictures, none
longer than its longest pair, so its size is (P + unpaired rows) times its longest pair, padding included.

A *slot* is one use of an unpaired utterance in an epoch. Slots are numbered across the epoch's batches; if
the epoch needs more utterances than there are, the list is repeated in another order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairseq_vgs.arrays import I64
from fairseq_vgs.files.faults import FaultError, fault


@dataclass(frozen=True)
class BatchLimits:
    """What a batch may hold.

    ``max_tokens`` counts samples, padding and unpaired rows included; batches of more pairs than ``multiple``
    hold a multiple of it; ``unpaired_ratio`` is unpaired utterances per pair. None is no limit.
    """

    max_tokens: int | None = None
    max_pairs: int | None = None
    multiple: int = 1
    unpaired_ratio: float = 0.0

    def fits(self, lengths: I64) -> bool:
        """Return whether pairs of these lengths may share a batch."""
        n_pairs = len(lengths)
        return (self.max_pairs is None or n_pairs <= self.max_pairs) and self.fits_tokens(lengths)

    def fits_tokens(self, lengths: I64) -> bool:
        """Return whether pairs of these lengths stay within ``max_tokens``."""
        n_rows = len(lengths) + unpaired_rows(len(lengths), self.unpaired_ratio)
        return self.max_tokens is None or n_rows * int(lengths.max()) <= self.max_tokens


def unpaired_rows(n_pairs: int, ratio: float) -> int:
    """Return the number of unpaired utterances in a batch: ``ratio * n_pairs``, halves rounded up."""
    return math.floor(ratio * n_pairs + 0.5)


def bucket_lengths(lengths: I64, n_buckets: int) -> I64:
    """Choose at most so many lengths to pad batches to: equally many of int64[N] lengths are below each.

    The longest is among them, so that every item fits.
    """
    shares = np.arange(1, n_buckets + 1) / n_buckets
    return np.unique(np.quantile(lengths, shares, method="higher")).astype(np.int64)


def noisy_order(lengths: I64, *, noise: float, generator: np.random.Generator) -> I64:
    """Order items from long to short, each length perturbed by up to ``noise`` of itself.

    The noise makes batches differ between epochs; ties are broken at random.
    """
    order = generator.permutation(len(lengths))
    perturbed = lengths[order] * (1.0 + noise * generator.uniform(-1.0, 1.0, len(lengths)))
    return order[np.argsort(-perturbed, kind="stable")]


def plan_batches(order: I64, lengths: I64, limits: BatchLimits) -> list[I64]:
    """Cut an order into batches.

    A pair alone has no negatives. Where the last batch would hold a single pair, batches before it give one
    up; where none can, the pair joins the last batch, which then exceeds ``max_pairs`` (never ``max_tokens``)
    by one. A single pair is left only where ``max_tokens`` or ``max_pairs=1`` allow nothing else.

    Args:
        order: int64[n] the indices to batch, neighbours of similar length.
        lengths: int64[N] length of every item.
        limits: What a batch may hold; refused if a pair alone exceeds ``max_tokens``.
    """
    batches: list[I64] = []
    window = _window(lengths[order], limits)
    start = 0
    while start < len(order):
        n_pairs = _n_that_fit(lengths[order[start : start + window]], limits)
        if n_pairs == 0:
            rows = 1 + unpaired_rows(1, limits.unpaired_ratio)
            length = int(lengths[order[start]])
            content = "one pair and its unpaired speech" if rows > 1 else "one pair"
            expected = f"must be at least {rows * length}, the samples of {content}"
            step = "raise it or lower task.max_seconds"
            got = limits.max_tokens
            raise FaultError(fault("dataset.max_tokens", expected, got, step, code="setting.value"))
        left = len(order) - start
        if limits.multiple < n_pairs < left:
            n_pairs -= n_pairs % limits.multiple
        batches.append(order[start : start + n_pairs])
        start += n_pairs
    if len(batches) > 1 and len(batches[-1]) == 1:
        _share_with_last(batches, lengths, limits)
    return batches


def _window(lengths: I64, limits: BatchLimits) -> int:
    """Return an upper bound of the batch size, to limit how many items are considered."""
    if limits.max_pairs is not None:
        return limits.max_pairs
    if limits.max_tokens is not None:
        return limits.max_tokens // max(1, int(lengths.min(initial=limits.max_tokens))) + 1
    return len(lengths)


def _n_that_fit(lengths: I64, limits: BatchLimits) -> int:
    if limits.max_tokens is None:
        return len(lengths)
    n_pairs = np.arange(1, len(lengths) + 1)
    n_rows = n_pairs + np.floor(limits.unpaired_ratio * n_pairs + 0.5).astype(np.int64)
    # Both factors grow with the number of pairs, so what fits is a prefix.
    return int(np.count_nonzero(n_rows * np.maximum.accumulate(lengths) <= limits.max_tokens))


def _share_with_last(batches: list[I64], lengths: I64, limits: BatchLimits) -> None:
    """Move or merge pairs so that the last batch holds more than one."""
    merged = np.concatenate(batches[-2:])
    if limits.fits(lengths[merged]) or (
        not _shift_one_to_last(batches, lengths, limits)
        and limits.max_pairs != 1
        and limits.fits_tokens(lengths[merged])
    ):
        batches[-2:] = [merged]


def _shift_one_to_last(batches: list[I64], lengths: I64, limits: BatchLimits) -> bool:
    """Pass a pair from the nearest batch of three or more along to the last batch, if possible."""
    donor = next((k for k in range(len(batches) - 2, -1, -1) if len(batches[k]) >= 3), None)
    if donor is None:
        return False
    changed = [batches[donor][:-1]]
    for before, batch in zip(batches[donor:], batches[donor + 1 :], strict=False):
        # Batches in between hold two pairs; each passes its last one on.
        changed.append(np.concatenate([before[-1:], batch[:-1] if len(batch) > 1 else batch]))
    if not all(limits.fits(lengths[batch]) for batch in changed):
        return False
    batches[donor:] = changed
    return True


@dataclass(frozen=True)
class UnpairedPlan:
    """The unpaired speech of an epoch: int64[slots] rows of the audio list, and limits of their lengths.

    The limit is the longest pair of the batch, so that speech without a picture adds no padding.
    """

    utterance: I64
    max_samples: I64

    def __len__(self) -> int:
        return len(self.utterance)


def plan_unpaired(
    batches: Sequence[I64], lengths: I64, *, usable: I64, ratio: float, generator: np.random.Generator
) -> tuple[UnpairedPlan, list[I64]]:
    """Draw the unpaired utterances of every batch; return the plan, and the numbers of each batch's slots.

    Args:
        batches: int64[P] pairs per batch.
        lengths: int64[N] samples of every pair.
        usable: int64[U] rows of the unpaired list to draw from, at least one.
        ratio: Unpaired utterances per pair.
        generator: Of the epoch.
    """
    if not len(usable):
        raise ValueError("usable: expected rows of the unpaired list, got none")
    counts = np.array([unpaired_rows(len(batch), ratio) for batch in batches], dtype=np.int64)
    n_slots = int(counts.sum())
    passes = [generator.permutation(usable) for _ in range(-(-n_slots // len(usable)))]
    utterance = np.concatenate(passes)[:n_slots] if passes else np.empty(0, dtype=np.int64)
    longest = np.array([int(lengths[batch].max()) for batch in batches], dtype=np.int64)
    slots = np.split(np.arange(n_slots), np.cumsum(counts)[:-1])
    return UnpairedPlan(utterance, np.repeat(longest, counts)), slots
