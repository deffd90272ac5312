"""Time masks of wav2vec 2.0, drawn per utterance.

fairseq draws masks inside the model from NumPy's global generator, which no checkpoint saves: a resumed run
masks differently. Here every utterance's mask depends on (seed, epoch, index) alone. The distribution is that
of fairseq's ``compute_mask_indices`` with ``mask_type="static"`` and ``min_masks=2``.

Shapes: T frames of an utterance (its own, without padding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairseq_vgs.arrays import I64, Bool

MIN_FRAMES = 3
"""From 3 frames on, every mask has at least 2 frames; wav2vec 2.0 needs 2 to draw a negative."""

_MIN_SPANS = 2  # as fairseq's wav2vec 2.0


@dataclass(frozen=True)
class MaskOptions:
    """How many frames to mask; the names are those of fairseq's wav2vec 2.0 without ``mask_``.

    ``prob`` is the share of frames that start a span, times ``length`` (frames per span); 0 masks nothing.
    ``min_space`` frames lie between spans that do not overlap; ``dropout`` is the share to unmask again.
    """

    prob: float
    length: int
    no_overlap: bool = False
    min_space: int = 1
    dropout: float = 0.0


def draw_mask(n_frames: int, options: MaskOptions, generator: np.random.Generator) -> Bool:
    """Draw an utterance's mask bool[T], True where masked: at least 2 of ``MIN_FRAMES`` or more frames."""
    n_spans = max(_MIN_SPANS, int(options.prob * n_frames / options.length + generator.random()))
    mask = np.zeros(n_frames, dtype=bool)
    # Where not even one span fits, spans that overlap (and are cut at the end) are the only ones there are.
    if options.no_overlap and n_frames >= options.length + options.min_space:
        starts = _separate_starts(n_frames, n_spans, options, generator)
    else:
        starts = generator.choice(max(n_frames - options.length, n_spans + 1), n_spans, replace=False)
    frames = (starts[:, None] + np.arange(options.length)).ravel()
    mask[frames[frames < n_frames]] = True
    return mask


def trim_masks(
    masks: Sequence[Bool], generators: Sequence[np.random.Generator], *, dropout: float = 0.0
) -> list[Bool]:
    """Unmask random frames until all utterances of a batch have the same number of masked frames.

    wav2vec 2.0 gathers the masked frames of a batch into one tensor and needs this. Masks are bool[T], T of
    each utterance; a share ``dropout`` of the remaining masked frames is unmasked as well.
    """
    if not masks:
        return []
    n_kept = min(int(np.count_nonzero(mask)) for mask in masks)
    n_kept -= round(n_kept * dropout)
    trimmed = []
    for mask, generator in zip(masks, generators, strict=True):
        masked = np.flatnonzero(mask)
        result = np.zeros_like(mask)
        kept = masked if len(masked) == n_kept else generator.choice(masked, n_kept, replace=False)
        result[kept] = True
        trimmed.append(result)
    return trimmed


def _separate_starts(
    n_frames: int, n_spans: int, options: MaskOptions, generator: np.random.Generator
) -> I64:
    """Place spans one by one into the free parts, each part chosen in proportion to its length."""
    length, space = options.length, options.min_space
    free = [(0, n_frames)]
    starts: list[int] = []
    for _ in range(n_spans):
        sizes = np.array([end - begin for begin, end in free], dtype=float)
        room = np.where(sizes >= length + space, sizes, 0)
        if not room.sum():
            break
        begin, end = free.pop(int(generator.choice(len(free), p=room / room.sum())))
        start = int(generator.integers(begin, max(end - length, begin + 1)))
        starts.append(start)
        if start - begin - space >= length:
            free.append((begin, start - space + 1))
        if end - start - length - space > length:
            free.append((start + length + space, end))
    return np.array(starts, dtype=np.int64)
