"""The data set of spoken captions and pictures, with unpaired speech alongside in training.

Indices 0..N-1 are pairs. N + k is slot k of the epoch's unpaired speech (see ``unpaired.py``); such indices
occur only in the batches that ``batch_by_size`` returns.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fairseq_vgs.arrays import F32, I64, Bool
from fairseq_vgs.data.bad_items import BadItemError, BadItems, raise_or_log
from fairseq_vgs.data.batching import (
    BatchLimits,
    UnpairedPlan,
    bucket_lengths,
    noisy_order,
    plan_batches,
    plan_unpaired,
)
from fairseq_vgs.data.captions import CaptionTokens, TextUnits, encode_captions
from fairseq_vgs.data.collation import CollationOptions, Item, PairItem, SkippedItem, SpeechItem, collate
from fairseq_vgs.data.masking import MaskOptions, draw_mask
from fairseq_vgs.data.pictures import Augmentation, draw_variation, load_picture
from fairseq_vgs.data.regions import RegionStore
from fairseq_vgs.data.regular_tables import AudioTable
from fairseq_vgs.data.seeding import Stream, generator
from fairseq_vgs.data.tables import SplitTable
from fairseq_vgs.data.waveform import load_waveform, normalize_waveform
from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.modules.conv_spec import ConvLayers, n_frames

if TYPE_CHECKING:
    FairseqDataset = Any
else:
    try:
        from fairseq.data import FairseqDataset
    except ImportError:  # exported models are evaluated without fairseq, which training batches with
        from torch.utils.data import Dataset as FairseqDataset

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VgsDatasetOptions:
    """How items are made and batched.

    Attributes:
        layers: The extractor.
        max_samples: Speech is cut to this.
        pad_to_max: Shorter speech is padded to it, instead of to the longest of its batch.
        length_buckets: In training, batches are padded to one of so many lengths; 0: to their longest.
        random_crop: Keep a random part of longer speech instead of its start.
        normalize: Zero mean and unit variance per utterance (of the part kept).
        image_size: Height and width of raw pictures, pixels; see ``load_picture`` for ``image_fit``.
        augmentation: Random changes to raw pictures, in training.
        training: Batches differ between epochs, and unpaired speech is mixed in.
        length_noise: Relative noise on lengths when training batches are formed.
        unpaired_ratio: Unpaired utterances per pair.
        skip_bad: Skip, count and log bad items instead of raising.
    """

    layers: ConvLayers
    max_samples: int
    pad_to_max: bool = False
    length_buckets: int = 0
    random_crop: bool = False
    normalize: bool = True
    mask: MaskOptions | None = None
    image_size: int = 224
    image_fit: str = "squeeze"
    augmentation: Augmentation | None = None
    seed: int = 1
    training: bool = False
    length_noise: float = 0.1
    unpaired_ratio: float = 0.0
    skip_bad: bool = False


class VgsDataset(FairseqDataset):
    """Pairs of a spoken caption and a picture.

    Every item depends on (seed, epoch, index) alone. fairseq tells the epoch by ``set_epoch``; since batches
    differ between epochs, it must build a new iterator for each (``can_reuse_epoch_itr_across_epochs``).

    Args:
        table: The split.
        options: How items are made and batched.
        regions: Region features; None for raw pictures.
        unpaired: Speech without pictures; used in training only.
        units: Of the captions' texts, which then stand in place of the speech, without masks and uncut: all
            that is said of samples holds for units. ``table`` must have the texts. None for speech.

    Raises:
        FaultError: Pictures without regions or pairs without text, all of them; with ``skip_bad`` only if
            no pair is left.
    """

    def __init__(
        self,
        table: SplitTable,
        options: VgsDatasetOptions,
        *,
        regions: RegionStore | None = None,
        unpaired: AudioTable | None = None,
        units: TextUnits | None = None,
    ) -> None:
        super().__init__()
        if regions is not None:
            table = _with_regions(table, regions, skip_bad=options.skip_bad)
        self.units = units
        self._tokens: CaptionTokens | None = None
        if units is not None:
            table, self._tokens = encode_captions(table, units, skip_bad=options.skip_bad)
            options = replace(options, mask=None, pad_to_max=False)
        self.table = table
        self.options = options
        self.regions = regions
        self.unpaired = unpaired if options.training and options.unpaired_ratio > 0 else None
        self.epoch = 1
        cut = np.minimum(table.n_samples, options.max_samples)
        self.sizes: I64 = cut if self._tokens is None else self._tokens.lengths
        """int64[N] samples of each pair's speech after cutting."""
        # Speech that is padded to one length needs no neighbours of its own: batches are random then.
        padded = np.full_like(self.sizes, options.max_samples)
        self._lengths_in_batch = padded if options.pad_to_max else self.sizes
        self._pad_to = self._padded_lengths()
        self._plan = UnpairedPlan(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        self._bad: tuple[BadItems, ...] = ()
        if options.skip_bad:
            n_unpaired = 0 if self.unpaired is None else len(self.unpaired.n_samples)
            self._bad = (BadItems(len(table), noun="a pair"), BadItems(n_unpaired, noun="unpaired speech"))

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Item:
        """Load a pair, or the unpaired utterance of slot ``index - len(self)``. Raises BadItemError."""
        index = int(index)
        is_pair = index < len(self)
        try:
            return self._load_pair(index) if is_pair else self._load_unpaired(index)
        except BadItemError as error:
            if not self.options.skip_bad:
                raise
            number = index if is_pair else int(self._plan.utterance[index - len(self)])
            self._bad[0 if is_pair else 1].record(number, error)
            return SkippedItem(index)

    def collater(self, samples: Sequence[Item]) -> dict[str, Any]:
        """Collate a batch; see ``collate``."""
        options = self.options
        collation = CollationOptions(
            seed=options.seed,
            mask_dropout=0.0 if options.mask is None else options.mask.dropout,
            drop_lone_pair=options.training,
            pad_to=self._pad_to,
        )
        sample = collate(samples, collation, epoch=self.epoch)
        if samples and not sample:
            n_usable = sum(not isinstance(item, SkippedItem) for item in samples)
            logger.warning("left out a batch of %d items: only %d can be used", len(samples), n_usable)
        return sample

    def set_epoch(self, epoch: int) -> None:
        """Use the crops, masks, order and unpaired speech of this epoch from now on."""
        self.epoch = int(epoch)

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """False: every epoch has its own batches."""
        return False

    def num_tokens(self, index: int) -> int:
        """Return a pair's length in samples after cutting."""
        return int(self.sizes[index])

    def num_tokens_vec(self, indices: I64) -> I64:
        """Return the lengths of several pairs in samples after cutting."""
        return self.sizes[indices]

    size = num_tokens

    def ordered_indices(self) -> I64:
        """Order all pairs from long to short, in training with noise; with ``pad_to_max`` at random."""
        options = self.options
        return noisy_order(
            self._lengths_in_batch,
            noise=options.length_noise if options.training else 0.0,
            generator=generator(options.seed, self.epoch, index=0, stream=Stream.ORDER),
        )

    def filter_indices_by_size(
        self,
        indices: I64,
        max_sizes: Any,  # noqa: ARG002 - fairseq's signature
    ) -> tuple[I64, list[int]]:
        """Keep all pairs: one longer than ``dataset.max_tokens`` is an error of ``batch_by_size`` instead."""
        return indices, []

    def batch_by_size(
        self,
        indices: I64,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
    ) -> list[I64]:
        """Form the epoch's batches: pairs, then slots of unpaired speech.

        Args:
            indices: The pairs in the order of ``ordered_indices``.
            max_tokens: Samples per batch, padding and unpaired rows included.
            max_sentences: Pairs per batch.
            required_batch_size_multiple: Batches of more pairs than this hold a multiple of it.

        Raises:
            FaultError: A pair alone exceeds ``max_tokens``, or ``skip_bad`` leaves no batch usable pairs.
        """
        limits = BatchLimits(
            max_tokens=None if max_tokens is None else int(max_tokens),
            max_pairs=max_sentences,
            multiple=max(1, required_batch_size_multiple),
            unpaired_ratio=0.0 if self.unpaired is None else self.options.unpaired_ratio,
        )
        lengths = self._lengths_in_batch
        if len(self._pad_to):
            lengths = np.asarray(self._pad_to)[np.searchsorted(self._pad_to, lengths)]
        batches = plan_batches(np.asarray(indices, dtype=np.int64), lengths, limits)
        if self.options.training:
            _warn_of_lone_pairs(batches)
        if self.options.skip_bad:
            self._put_usable_batch_first(batches)
        return self._with_unpaired(batches)

    def _padded_lengths(self) -> tuple[int, ...]:
        """Return the lengths in samples, ascending, that batches are padded to; none for their longest."""
        options = self.options
        if options.pad_to_max:
            return (options.max_samples,)
        if not (options.training and options.length_buckets):
            return ()
        return tuple(bucket_lengths(self.sizes, options.length_buckets).tolist())

    def n_bad(self) -> dict[str, int]:
        """Return the number of distinct skipped items so far, by kind; empty if bad items are errors."""
        if not self._bad:
            return {}
        pairs, unpaired = self._bad
        return {pairs.noun: self.table.n_skipped + pairs.total(), unpaired.noun: unpaired.total()}

    def _load_pair(self, index: int) -> PairItem:
        table, options = self.table, self.options
        row, image_row = int(table.audio_row[index]), int(table.image_row[index])
        waveform: F32 | I64
        if self._tokens is not None:
            waveform = self._tokens[index]
        else:
            waveform = self._load_speech(table.audio, row, index, options.max_samples, options.random_crop)
        mask, group = self._draw_mask(waveform, index), int(table.images.groups[image_row])
        if self.regions is not None:
            features, boxes = self.regions.features(image_row), self.regions.boxes(image_row)
            return PairItem(index, waveform, mask, image_row, group, features=features, boxes=boxes)
        picture = self._load_picture(image_row, index)
        return PairItem(index, waveform, mask, image_row, group, picture=picture)

    def _load_picture(self, image_row: int, index: int) -> F32:
        options, variation = self.options, None
        if options.training and options.augmentation is not None:
            draws = generator(options.seed, self.epoch, index=index, stream=Stream.PICTURE)
            variation = draw_variation(options.augmentation, draws)
        return load_picture(
            self.table.images.location(image_row),
            place=self.table.images.place(image_row),
            image_size=options.image_size,
            fit=options.image_fit,
            variation=variation,
        )

    def _load_unpaired(self, index: int) -> SpeechItem:
        slot = index - len(self)
        if self.unpaired is None or slot >= len(self._plan):
            raise IndexError(f"item {index}: expected 0..{len(self) + len(self._plan) - 1}")
        row, max_samples = int(self._plan.utterance[slot]), int(self._plan.max_samples[slot])
        waveform = self._load_speech(self.unpaired, row, index, max_samples, random_crop=True)
        return SpeechItem(index, waveform, self._draw_mask(waveform, index))

    def _load_speech(
        self, audio: AudioTable, row: int, index: int, max_samples: int, random_crop: bool
    ) -> F32:
        options = self.options
        n_samples = int(audio.n_samples[row])
        n_wanted, start = min(n_samples, max_samples), 0
        if n_wanted < n_samples and random_crop:
            draws = generator(options.seed, self.epoch, index=index, stream=Stream.CROP)
            start = int(draws.integers(0, n_samples - n_wanted + 1))
        waveform = load_waveform(
            audio.location(row), place=audio.place(row), n_samples=n_samples, start=start, n_wanted=n_wanted
        )
        return normalize_waveform(waveform) if options.normalize else waveform

    def _draw_mask(self, waveform: F32 | I64, index: int) -> Bool | None:
        options = self.options
        if options.mask is None:
            return None
        draws = generator(options.seed, self.epoch, index=index, stream=Stream.MASK)
        return draw_mask(n_frames(len(waveform), options.layers), options.mask, draws)

    def _with_unpaired(self, batches: list[I64]) -> list[I64]:
        if self.unpaired is None or not batches:
            return batches
        self._plan, slots = plan_unpaired(
            batches,
            self.sizes,
            usable=np.flatnonzero(self.unpaired.n_samples > 0),
            ratio=self.options.unpaired_ratio,
            generator=generator(self.options.seed, self.epoch, index=0, stream=Stream.UNPAIRED),
        )
        return [np.concatenate([batch, len(self) + own]) for batch, own in zip(batches, slots, strict=True)]

    def _put_usable_batch_first(self, batches: list[I64]) -> None:
        """Move a batch with usable pairs to the front, which fairseq uses in place of empty batches."""
        for position, batch in enumerate(batches):
            n_needed = min(len(batch), 2)
            usable = (index for index in batch if isinstance(self[index], PairItem))
            if sum(1 for _, _ in zip(range(n_needed), usable, strict=False)) == n_needed:
                batches.insert(0, batches.pop(position))
                return
        if batches:
            what = f"split {self.table.split!r}: no batch has pairs that can be used; run fairseq-vgs check"
            raise FaultError.at(self.table.audio.path, what, "split.empty")


def _with_regions(table: SplitTable, regions: RegionStore, *, skip_bad: bool) -> SplitTable:
    """Return the table of the pairs whose picture has regions; raise or skip the others."""
    what = "picture has no region in regions.tsv; add one, or remove its pairs"
    faults = [
        Fault(table.images.place(row), what, "regions.missing")
        for row in np.unique(table.image_row).tolist()
        if regions.n_regions(row) == 0
    ]
    if not faults:
        return table
    raise_or_log(faults, skip_bad=skip_bad)
    keep = np.array([regions.n_regions(row) > 0 for row in table.image_row.tolist()])
    n_without, what = np.count_nonzero(~keep), "split %r: %d pairs are skipped for their regions, %d are left"
    logger.warning(what, table.split, n_without, len(keep) - n_without)
    return table.select(keep)


def _warn_of_lone_pairs(batches: Sequence[I64]) -> None:
    if n_lone := sum(len(batch) == 1 for batch in batches):
        logger.warning(
            "%d of %d batches hold a single pair, which has no negatives: the VGS loss needs 2 pairs in a "
            "batch; raise dataset.batch_size or dataset.max_tokens, or lower task.max_seconds",
            n_lone,
            len(batches),
        )
