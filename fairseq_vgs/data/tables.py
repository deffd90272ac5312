"""Join a split's tables into arrays, which stay small for millions of pairs and cheap to share with workers.

N pairs, U utterances of the audio list, I pictures.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fairseq_vgs.arrays import I64
from fairseq_vgs.data.bad_items import raise_or_log, refuse_spoilt
from fairseq_vgs.data.masking import MIN_FRAMES
from fairseq_vgs.data.regular_tables import (
    AUDIO_FIRST_LINE,
    IMAGES_FIRST_LINE,
    PAIRS_FIRST_LINE,
    AudioTable,
    PackedStrings,
    PictureTable,
    read_audio_columns,
    read_image_columns,
    read_pair_columns,
)
from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.tables import IrregularTableError, Table, line_number
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.schema import PairRow
from fairseq_vgs.manifest.tables import root_of, scan_audio_list, scan_images, scan_pairs
from fairseq_vgs.modules.conv_spec import ConvLayers, n_frames

logger = logging.getLogger(__name__)

Row = TypeVar("Row")


@dataclass(frozen=True)
class SplitTable:
    """The pairs of a split.

    Attributes:
        split: Its name.
        audio: Its audio list; may hold utterances without a picture, which the split does not use.
        images: All pictures of the data folder.
        audio_row, image_row: int64[N] rows of each pair's utterance and picture.
        n_skipped: Number of pairs that are left out because they cannot be used.
        texts: N texts, if requested.
    """

    split: str
    audio: AudioTable
    images: PictureTable
    audio_row: I64
    image_row: I64
    n_skipped: int = 0
    texts: PackedStrings | None = None

    def __len__(self) -> int:
        return len(self.audio_row)

    @property
    def n_samples(self) -> I64:
        """int64[N] length of each pair's utterance."""
        return self.audio.n_samples[self.audio_row]

    def select(self, keep: npt.NDArray[np.bool_]) -> SplitTable:
        """Return the table of the pairs to keep, bool[N]; the others count as skipped."""
        if not keep.any():
            what = f"split {self.split!r} has no pair that can be used; run fairseq-vgs check"
            raise FaultError.at(self.audio.path.name, what, "split.empty")
        texts = self.texts
        if texts is not None:
            texts = PackedStrings(texts[pair] for pair in np.flatnonzero(keep).tolist())
        n_skipped = self.n_skipped + int(np.count_nonzero(~keep))
        audio_row, image_row = self.audio_row[keep], self.image_row[keep]
        return replace(self, audio_row=audio_row, image_row=image_row, n_skipped=n_skipped, texts=texts)


def draw_pairs(table: SplitTable, n: int, seed: int) -> SplitTable:
    """Return ``n`` pairs of a table, drawn without replacement; a larger draw contains them."""
    order = np.random.default_rng([seed, len(table)]).permutation(len(table))
    keep = np.zeros(len(table), dtype=bool)
    keep[order[:n]] = True
    return replace(table.select(keep), n_skipped=table.n_skipped)


def load_split(
    folder: ManifestFolder,
    split: str,
    *,
    layers: ConvLayers,
    skip_bad: bool = False,
    with_texts: bool = False,
) -> SplitTable:
    """Read a split's tables and join them by id.

    Pairs with faulty lines, unknown ids or speech too short for the extractor's layers are refused, all of a
    kind at once; with ``skip_bad``, they are left out, each with a warning. Missing tables, faulty headers
    and an empty split are refused always. Texts are kept on request.
    """
    table = _load_regular(folder, split, with_texts=with_texts)
    if table is None:
        table = _load_by_line(folder, split, skip_bad=skip_bad, with_texts=with_texts)
    short = _too_short(table.audio, table.audio_row, layers, skip_bad=skip_bad)
    if len(short):
        table = table.select(~np.isin(np.arange(len(table)), short))
    if table.n_skipped:
        what = "split %r: %d pairs are skipped for what its tables hold, %d are left"
        logger.warning(what, split, table.n_skipped, len(table))
    return table


def _load_regular(folder: ManifestFolder, split: str, *, with_texts: bool) -> SplitTable | None:
    """Read tables without faults; return None if any has one."""
    try:
        audio, hashes = read_audio_columns(folder.audio_list(split))
        images = read_image_columns(folder.images)
        audio_row, image_row, texts = read_pair_columns(
            folder.pairs(split), audio, hashes, images, with_texts=with_texts
        )
    except (IrregularTableError, OSError):
        return None
    return SplitTable(split, audio, images, audio_row, image_row, texts=texts)


def _load_by_line(folder: ManifestFolder, split: str, *, skip_bad: bool, with_texts: bool) -> SplitTable:
    """Read any tables line by line, and raise or skip their faults."""
    audio = _audio_by_line(folder.audio_list(split), skip_bad=skip_bad)
    pairs = _scan(scan_pairs, folder.pairs(split), PAIRS_FIRST_LINE, skip_bad=skip_bad)
    images = _pictures_by_line(folder.images, skip_bad=skip_bad)
    audio_index = {name: row for row, name in enumerate(audio.paths)}
    audio_row = _rows((pair.audio_id for pair in pairs.rows), audio_index)
    image_row = _rows((pair.image_id for pair in pairs.rows), images.index)
    raise_or_log(list(_unknown_ids(pairs, audio, audio_row, images, image_row)), skip_bad=skip_bad)
    texts = PackedStrings(row.text for row in pairs.rows) if with_texts else None
    n_skipped = len({line_number(item) for item in pairs.faults})
    table = SplitTable(split, audio, images, audio_row, image_row, n_skipped, texts)
    keep = (audio_row >= 0) & (image_row >= 0)
    return table if keep.all() else table.select(keep)


def load_audio_table(path: Path, *, layers: ConvLayers, skip_bad: bool = False) -> AudioTable:
    """Read an audio list on its own, for speech without pictures; see ``load_split``.

    With ``skip_bad``, too short utterances get the length 0; a list of which none can be used is refused.
    """
    try:
        audio, _ = read_audio_columns(path)
    except (IrregularTableError, OSError):
        audio = _audio_by_line(path, skip_bad=skip_bad)
    short = _too_short(audio, np.arange(len(audio.n_samples)), layers, skip_bad=skip_bad)
    if len(short):
        # Nothing draws an utterance of length 0.
        n_samples = audio.n_samples.copy()
        n_samples[short] = 0
        if not n_samples.any():
            what = "no utterance can be used, all are too short; choose another list"
            raise FaultError.at(path.name, what, "split.empty")
        audio = replace(audio, n_samples=n_samples)
    return audio


def _scan(scan: Callable[[Path], Table[Row]], path: Path, first_line: int, *, skip_bad: bool) -> Table[Row]:
    table = scan(path)
    refuse_spoilt(table, first_line, skip_bad=skip_bad)
    raise_or_log(table.faults, skip_bad=skip_bad)
    return table


def _audio_by_line(path: Path, *, skip_bad: bool) -> AudioTable:
    table = _scan(scan_audio_list, path, AUDIO_FIRST_LINE, skip_bad=skip_bad)
    n_samples = np.array([row.n_samples for row in table.rows], dtype=np.int64)
    paths = PackedStrings(row.audio_id for row in table.rows)
    return AudioTable(path, root_of(table), paths, np.array(table.lines, dtype=np.int64), n_samples)


def _pictures_by_line(path: Path, *, skip_bad: bool) -> PictureTable:
    table = _scan(scan_images, path, IMAGES_FIRST_LINE, skip_bad=skip_bad)
    numbers: dict[str, int] = {}
    groups = [numbers.setdefault(row.group_id, len(numbers)) for row in table.rows]
    return PictureTable(
        path,
        root_of(table),
        PackedStrings(row.path for row in table.rows),
        np.array(table.lines, dtype=np.int64),
        np.array(groups, dtype=np.int64),
        {row.image_id: index for index, row in enumerate(table.rows)},
    )


def _rows(names: Iterable[str], index: Mapping[str, int]) -> I64:
    """Return the row of every name; -1 for unknown ones."""
    return np.array([index.get(name, -1) for name in names], dtype=np.int64)


def _unknown_ids(
    pairs: Table[PairRow], audio: AudioTable, audio_row: I64, images: PictureTable, image_row: I64
) -> Iterator[Fault]:
    step = "correct the id or rerun fairseq-vgs prepare"
    for index in np.flatnonzero((audio_row < 0) | (image_row < 0)).tolist():
        place, pair = f"{pairs.name}:{pairs.lines[index]}", pairs.rows[index]
        if audio_row[index] < 0:
            expected = f"audio_id must be one of {audio.path.name}"
            yield fault(place, expected, pair.audio_id, step, code="sound.unknown")
        if image_row[index] < 0:
            expected = f"image_id must be one of {images.path.name}"
            yield fault(place, expected, pair.image_id, step, code="picture.unknown")


def _too_short(audio: AudioTable, rows: I64, layers: ConvLayers, *, skip_bad: bool) -> I64:
    """Return which of the rows are too short for the extractor; raise or log them."""
    short = np.flatnonzero(n_frames(audio.n_samples[rows], layers) < MIN_FRAMES)
    expected = f"speech must fill at least {MIN_FRAMES} frames of model.conv_feature_layers"
    step = "remove it, or skip such items with task.skip_bad=true"
    faults = []
    for row in rows[short].tolist():
        length = int(audio.n_samples[row])
        got = f"{n_frames(length, layers)} ({length} samples)"
        faults.append(fault(audio.place(row), expected, got, step, code="sound.too_short"))
    raise_or_log(faults, skip_bad=skip_bad)
    if faults:
        logger.warning("%s: %d too short utterances are skipped", audio.path.name, len(faults))
    return short
