"""Collate the items of a batch into tensors for model and criterion.

Shapes: P pairs, U unpaired utterances, B = P + U rows (pairs first), S samples, T frames of which M are
masked, R regions, D dims, H = W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairseq_vgs.arrays import F32, I64, Bool
from fairseq_vgs.data.masking import trim_masks
from fairseq_vgs.data.seeding import Stream, generator


@dataclass(frozen=True)
class SpeechItem:
    """An utterance: its number in the data set, waveform float32[S], and mask bool[T] or None.

    Of a caption as text the waveform is int64[S]: its units.
    """

    index: int
    waveform: F32 | I64
    mask: Bool | None


@dataclass(frozen=True)
class PairItem(SpeechItem):
    """An utterance with the numbers of its picture and of the picture's group of interchangeable ones.

    The picture is float32[3, H, W], or its regions are features float32[R, D] and boxes float32[R, 4].
    """

    image_row: int
    image_group: int
    picture: F32 | None = None
    features: F32 | None = None
    boxes: F32 | None = None


@dataclass(frozen=True)
class SkippedItem:
    """Placeholder of an item that ``task.skip_bad`` skipped."""

    index: int


Item = SpeechItem | SkippedItem


@dataclass(frozen=True)
class CollationOptions:
    """Settings of collation.

    ``mask_dropout`` is the share of masked frames to unmask again. ``drop_lone_pair`` leaves out a pair that
    skipping has left alone in its batch: it has no negatives. Speech is padded to the least length in
    ``pad_to``, samples, that holds the batch's longest, or to that where there is none.
    """

    seed: int
    mask_dropout: float = 0.0
    drop_lone_pair: bool = False
    pad_to: Sequence[int] = ()


def collate(items: Sequence[Item], options: CollationOptions, *, epoch: int) -> dict[str, Any]:
    """Collate a batch.

    Returns:
        fairseq's sample with ``id`` int64[P], ``image_id`` int64[P] (the picture's group), ``image_index``
        int64[P], the counts ``n_pairs``, ``nsentences``, ``ntokens``, ``n_padded``, ``n_skipped``, and
        ``net_input``: ``source`` float32[B, S], ``padding_mask`` bool[B, S], ``mask_indices`` int64[B, M]
        (indices of masked frames, so that a GPU need not search for them; absent without masking) and
        ``image``. Captions as text are int64[B, S] units. Empty if no pair is left, which makes fairseq use
        its dummy batch.
    """
    pairs = [item for item in items if isinstance(item, PairItem)]
    speech: list[SpeechItem] = [*pairs]
    speech += [item for item in items if isinstance(item, SpeechItem) and not isinstance(item, PairItem)]
    n_skipped = len(items) - len(speech)
    if not pairs or (options.drop_lone_pair and n_skipped and len(pairs) == 1):
        return {}
    source, padding_mask = _pad_speech([item.waveform for item in speech], pad_to=options.pad_to)
    net_input = {"source": source, "padding_mask": padding_mask, "image": _stack_images(pairs)}
    if masks := [item.mask for item in speech if item.mask is not None]:
        net_input["mask_indices"] = _stack_masks(speech, masks, options, epoch=epoch)
    n_samples = sum(len(item.waveform) for item in speech)
    return {
        "id": _integers(item.index for item in pairs),
        "image_id": _integers(item.image_group for item in pairs),
        "image_index": _integers(item.image_row for item in pairs),
        "n_pairs": len(pairs),
        "nsentences": len(speech),
        "ntokens": n_samples,
        "n_padded": source.numel() - n_samples,
        "n_skipped": n_skipped,
        "net_input": net_input,
    }


def _integers(values: Any) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


def _pad_speech(waveforms: Sequence[F32 | I64], *, pad_to: Sequence[int]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, waveforms))
    longest = min((length for length in pad_to if length >= longest), default=longest)
    source = torch.zeros(len(waveforms), longest, dtype=torch.from_numpy(waveforms[0]).dtype)
    padding_mask = torch.ones(len(waveforms), longest, dtype=torch.bool)
    for row, waveform in enumerate(waveforms):
        source[row, : len(waveform)] = torch.from_numpy(waveform)
        padding_mask[row, : len(waveform)] = False
    return source, padding_mask


def _stack_masks(
    speech: Sequence[SpeechItem], masks: Sequence[Bool], options: CollationOptions, *, epoch: int
) -> Tensor:
    generators = [generator(options.seed, epoch, index=item.index, stream=Stream.TRIM) for item in speech]
    trimmed = trim_masks(masks, generators, dropout=options.mask_dropout)
    return torch.from_numpy(np.stack([np.flatnonzero(mask) for mask in trimmed]))


def _stack_images(pairs: Sequence[PairItem]) -> dict[str, Tensor]:
    if pictures := [torch.from_numpy(pair.picture) for pair in pairs if pair.picture is not None]:
        return {"pictures": torch.stack(pictures)}
    regions = [
        (torch.from_numpy(pair.features), torch.from_numpy(pair.boxes))
        for pair in pairs
        if pair.features is not None and pair.boxes is not None
    ]
    n_regions, dim = max(len(features) for features, _ in regions), regions[0][0].size(1)
    stacked = torch.zeros(len(pairs), n_regions, dim)
    boxes = torch.zeros(len(pairs), n_regions, 4)
    padding_mask = torch.ones(len(pairs), n_regions, dtype=torch.bool)
    for row, (features, places) in enumerate(regions):
        stacked[row, : len(features)] = features
        boxes[row, : len(features)] = places
        padding_mask[row, : len(features)] = False
    return {"features": stacked, "boxes": boxes, "padding_mask": padding_mask}
