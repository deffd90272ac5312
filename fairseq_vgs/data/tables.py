"""Join a split's tables into arrays, which stay small for millions of pairs and cheap to share with workers.

N pairs, U utterances of the audio list, I pictures.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fairseq_vgs.arrays import I64
from fairseq_vgs.data.bad_items import log_skipped
from fairseq_vgs.data.masking import MIN_FRAMES
from fairseq_vgs.data.packed_strings import PackedStrings
from fairseq_vgs.data.regular_tables import (
    AudioColumns,
    read_audio_columns,
    read_image_columns,
    read_pair_columns,
)
from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.location import MediaLocation, resolve
from fairseq_vgs.files.tables import IrregularTableError, Table, line_number
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow
from fairseq_vgs.manifest.tables import scan_audio_list, scan_images, scan_pairs
from fairseq_vgs.modules.conv_spec import ConvLayers, n_frames

logger = logging.getLogger(__name__)


Row = TypeVar("Row")

# Line of the first row of each table.
_AUDIO_FIRST_LINE = 2
_PAIRS_FIRST_LINE = 2
_IMAGES_FIRST_LINE = 3


@dataclass(frozen=True)
class AudioTable:
    """An audio list.

    Attributes:
        list_path: The list, named in errors.
        root: Folder that the paths are relative to.
        paths: U paths or archive entries.
        n_samples: int64[U] lengths.
        lines: int64[U] lines of the list.
    """

    list_path: Path
    root: Path
    paths: PackedStrings
    n_samples: I64
    lines: I64

    def place(self, row: int) -> str:
        """Return file, line and path of an utterance, for errors."""
        return f"{self.list_path.name}:{self.lines[row]} ({self.paths[row]})"

    def location(self, row: int) -> MediaLocation:
        """Return the location of an utterance."""
        return resolve(self.root, self.paths[row])


@dataclass(frozen=True)
class SplitTable:
    """The pairs of a split.

    Attributes:
        split: Its name.
        audio: Its audio list; may hold utterances without a picture, which the split does not use.
        audio_row: int64[N] row of each pair's utterance.
        image_row: int64[N] row of each pair's picture in images.tsv.
        image_group: int64[I] number of each picture's group: equal for interchangeable pictures.
        image_root: Folder that picture paths are relative to.
        image_paths: I paths or archive entries.
        image_lines: int64[I] lines of images.tsv.
        image_index: Number of every picture by its id.
        n_skipped: Number of pairs that are left out because they cannot be used.
        texts: N texts, if requested.
    """

    split: str
    audio: AudioTable
    audio_row: I64
    image_row: I64
    image_group: I64
    image_root: Path
    image_paths: PackedStrings
    image_lines: I64
    image_index: dict[str, int]
    n_skipped: int
    texts: PackedStrings | None = None

    def __len__(self) -> int:
        return len(self.audio_row)

    @property
    def n_samples(self) -> I64:
        """int64[N] length of each pair's utterance."""
        return self.audio.n_samples[self.audio_row]

    def image_place(self, image_row: int) -> str:
        """Return file, line and path of a picture, for errors."""
        return f"images.tsv:{self.image_lines[image_row]} ({self.image_paths[image_row]})"

    def image_location(self, image_row: int) -> MediaLocation:
        """Return the location of a picture."""
        return resolve(self.image_root, self.image_paths[image_row])

    def select(self, keep: npt.NDArray[np.bool_]) -> SplitTable:
        """Return the table of the pairs to keep, bool[N]; the others count as skipped.

        Raises:
            FaultError: There are none.
        """
        if not keep.any():
            what = f"split {self.split!r} has no pair that can be used; run fairseq-vgs check"
            raise FaultError(Fault(self.audio.list_path.name, what, "split.empty"))
        n_skipped = self.n_skipped + int(np.count_nonzero(~keep))
        texts = self.texts
        if texts is not None:
            texts = PackedStrings(texts[pair] for pair in np.flatnonzero(keep).tolist())
        return replace(
            self,
            audio_row=self.audio_row[keep],
            image_row=self.image_row[keep],
            n_skipped=n_skipped,
            texts=texts,
        )


def load_split(
    folder: ManifestFolder,
    split: str,
    *,
    layers: ConvLayers,
    skip_bad: bool = False,
    with_texts: bool = False,
) -> SplitTable:
    """Read a split's tables and join them by id.

    Args:
        folder: The data folder.
        split: Name of the split.
        layers: The extractor, which decides how short an utterance may be.
        skip_bad: Leave out pairs with faulty lines, unknown ids or speech too short for the extractor, each
            with a warning, instead of refusing the split.
        with_texts: Keep the captions' texts, which only models of text need.

    Raises:
        FaultError: Missing tables, faulty headers, an empty split; without ``skip_bad`` also faulty lines,
            unknown ids, too short speech; every fault of a kind.
    """
    table = _load_regular(folder, split, with_texts=with_texts)
    if table is None:
        table = _load_by_line(folder, split, skip_bad=skip_bad, with_texts=with_texts)
    short = _too_short(table.audio, layers, rows=table.audio_row)
    if len(short):
        _refuse_or_warn(table.audio, table.audio_row[short], layers, skip=skip_bad)
        table = table.select(~np.isin(np.arange(len(table)), short))
    if table.n_skipped:
        logger.warning(
            "split %r: %d pairs are skipped for what its tables hold, %d are left",
            split,
            table.n_skipped,
            len(table),
        )
    return table


def _load_regular(folder: ManifestFolder, split: str, *, with_texts: bool) -> SplitTable | None:
    """Read tables without faults; return None if any has one."""
    try:
        audio = read_audio_columns(folder.audio_list(split))
        images = read_image_columns(folder.images)
        pairs = read_pair_columns(folder.pairs(split), audio, images, with_texts=with_texts)
    except (IrregularTableError, OSError):
        return None
    return SplitTable(
        split=split,
        audio=_regular_audio_table(folder.audio_list(split), audio),
        audio_row=pairs.audio_row,
        image_row=pairs.image_row,
        image_group=images.groups,
        image_root=images.root,
        image_paths=images.paths,
        image_lines=_lines(_IMAGES_FIRST_LINE, len(images.paths)),
        image_index=images.index,
        n_skipped=0,
        texts=pairs.texts,
    )


def _load_by_line(folder: ManifestFolder, split: str, *, skip_bad: bool, with_texts: bool) -> SplitTable:
    """Read any tables line by line, and raise or skip their faults."""
    audio_list = _scan(scan_audio_list, folder.audio_list(split), _AUDIO_FIRST_LINE, skip_bad=skip_bad)
    pairs = _scan(scan_pairs, folder.pairs(split), _PAIRS_FIRST_LINE, skip_bad=skip_bad)
    images = _scan(scan_images, folder.images, _IMAGES_FIRST_LINE, skip_bad=skip_bad)
    audio = _audio_table(folder.audio_list(split), audio_list)
    image_index = {row.image_id: index for index, row in enumerate(images.rows)}
    audio_row, image_row = _join(pairs, audio_list, images, image_index=image_index, skip_bad=skip_bad)
    table = SplitTable(
        split=split,
        audio=audio,
        audio_row=audio_row,
        image_row=image_row,
        image_group=_group_numbers(images.rows),
        image_root=_root(images),
        image_paths=PackedStrings(row.path for row in images.rows),
        image_lines=np.array(images.lines, dtype=np.int64),
        image_index=image_index,
        n_skipped=len({line_number(item) for item in pairs.faults}),
        texts=PackedStrings(row.text for row in pairs.rows) if with_texts else None,
    )
    keep = (audio_row >= 0) & (image_row >= 0)
    return table if keep.all() else table.select(keep)


def load_audio_table(path: Path, *, layers: ConvLayers, skip_bad: bool = False) -> AudioTable:
    """Read an audio list on its own, for speech without pictures.

    Args:
        path: The list.
        layers: The extractor, which decides how short an utterance may be.
        skip_bad: Leave out faulty lines, and give too short utterances the length 0, with a warning each.

    Raises:
        FaultError: A missing or empty list, or none of its utterances can be used; without ``skip_bad``
            also faulty lines and too short speech; every fault of a kind.
    """
    try:
        audio = _regular_audio_table(path, read_audio_columns(path))
    except (IrregularTableError, OSError):
        audio = _audio_table(path, _scan(scan_audio_list, path, _AUDIO_FIRST_LINE, skip_bad=skip_bad))
    short = _too_short(audio, layers, rows=np.arange(len(audio.n_samples)))
    if len(short):
        _refuse_or_warn(audio, short, layers, skip=skip_bad)
        # Nothing draws an utterance of length 0.
        n_samples = audio.n_samples.copy()
        n_samples[short] = 0
        if not n_samples.any():
            what = "no utterance can be used, all are too short; choose another list"
            raise FaultError(Fault(path.name, what, "split.empty"))
        audio = replace(audio, n_samples=n_samples)
    return audio


def _scan(scan: Callable[[Path], Table[Row]], path: Path, first_line: int, *, skip_bad: bool) -> Table[Row]:
    table = scan(path)
    if table.faults:
        spoilt = not table.usable or any(line_number(item) < first_line for item in table.faults)
        if spoilt or not table.rows or not skip_bad:
            raise FaultError(table.faults)
        log_skipped(table.faults)
    return table


def _audio_table(path: Path, audio_list: Table[AudioRow]) -> AudioTable:
    rows = audio_list.rows
    return AudioTable(
        list_path=path,
        root=_root(audio_list),
        paths=PackedStrings(row.audio_id for row in rows),
        n_samples=np.fromiter((row.n_samples for row in rows), dtype=np.int64, count=len(rows)),
        lines=np.array(audio_list.lines, dtype=np.int64),
    )


def _regular_audio_table(path: Path, audio: AudioColumns) -> AudioTable:
    lines = _lines(_AUDIO_FIRST_LINE, len(audio.n_samples))
    return AudioTable(path, audio.root, audio.paths, audio.n_samples, lines)


def _lines(first: int, n_rows: int) -> I64:
    return np.arange(first, first + n_rows, dtype=np.int64)


def _root(table: Table[Row]) -> Path:
    if table.root is None:  # a fault, so it was refused before
        raise ValueError(f"{table.name}: has no root")
    return table.root


def _join(
    pairs: Table[PairRow],
    audio_list: Table[AudioRow],
    images: Table[ImageRow],
    *,
    image_index: dict[str, int],
    skip_bad: bool,
) -> tuple[I64, I64]:
    """Return the rows of each pair's utterance and picture; -1 for unknown ids, where those are skipped."""
    audio_index = {row.audio_id: index for index, row in enumerate(audio_list.rows)}
    n_pairs = len(pairs.rows)
    audio_row = np.fromiter((audio_index.get(pair.audio_id, -1) for pair in pairs.rows), np.int64, n_pairs)
    image_row = np.fromiter((image_index.get(pair.image_id, -1) for pair in pairs.rows), np.int64, n_pairs)
    step = "correct the id or rerun fairseq-vgs prepare"
    faults = []
    for index in np.flatnonzero((audio_row < 0) | (image_row < 0)).tolist():
        place, pair = f"{pairs.name}:{pairs.lines[index]}", pairs.rows[index]
        if audio_row[index] < 0:
            expected = f"audio_id must be one of {audio_list.name}"
            faults.append(fault(place, expected, pair.audio_id, step, code="sound.unknown"))
        if image_row[index] < 0:
            expected = f"image_id must be one of {images.name}"
            faults.append(fault(place, expected, pair.image_id, step, code="picture.unknown"))
    if faults and not skip_bad:
        raise FaultError(faults)
    log_skipped(faults)
    return audio_row, image_row


def _group_numbers(images: Sequence[ImageRow]) -> I64:
    numbers: dict[str, int] = {}
    groups = (numbers.setdefault(row.group_id, len(numbers)) for row in images)
    return np.fromiter(groups, dtype=np.int64, count=len(images))


def _too_short(audio: AudioTable, layers: ConvLayers, *, rows: I64) -> I64:
    return np.flatnonzero(n_frames(audio.n_samples[rows], layers) < MIN_FRAMES)


def _refuse_or_warn(audio: AudioTable, rows: I64, layers: ConvLayers, *, skip: bool) -> None:
    expected = f"speech must fill at least {MIN_FRAMES} frames of model.conv_feature_layers"
    step = "remove it, or skip such items with task.skip_bad=true"
    faults = []
    for row in rows.tolist():
        length = int(audio.n_samples[row])
        got = f"{n_frames(length, layers)} ({length} samples)"
        faults.append(fault(audio.place(row), expected, got, step, code="sound.too_short"))
    if not skip:
        raise FaultError(faults)
    log_skipped(faults)
    logger.warning("%s: %d too short utterances are skipped", audio.list_path.name, len(faults))
