"""Unpaired speech, which is added to the pairs of each training batch for the SSL loss only.

A *slot* is one use of an unpaired utterance in an epoch. Slots are numbered across the epoch's batches; if
the epoch needs more utterances than there are, the list is repeated in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairseq_vgs.arrays import I64
from fairseq_vgs.data.batching import unpaired_rows


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
