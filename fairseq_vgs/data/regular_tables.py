"""Read a split's tables by columns, if they have no faults.

A million rows take a few seconds and little more memory than the result. Tables with any fault are left to
the line-by-line reader, which names all faults. Readers raise ``IrregularTableError`` or ``OSError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.arrays import F32, I64
from fairseq_vgs.files.location import MediaLocation, resolve
from fairseq_vgs.files.tables import IrregularTableError, column_chunks, read_header, read_root
from fairseq_vgs.manifest.tables import AUDIO, IMAGES, PAIRS, REGIONS, ROOT_MARK

AUDIO_FIRST_LINE, PAIRS_FIRST_LINE, IMAGES_FIRST_LINE = 2, 2, 3
"""Line of the first row of each table."""


@dataclass(frozen=True)
class MediaTable:
    """The table at ``path`` of M media: M paths or archive entries below ``root``, and their line numbers."""

    path: Path
    root: Path
    paths: PackedStrings
    lines: I64 | range

    def place(self, row: int) -> str:
        """Return file, line and path of a medium, for errors."""
        return f"{self.path.name}:{self.lines[row]} ({self.paths[row]})"

    def location(self, row: int) -> MediaLocation:
        """Return the location of a medium."""
        return resolve(self.root, self.paths[row])


@dataclass(frozen=True)
class AudioTable(MediaTable):
    """An audio list of U utterances; int64[U] lengths in samples."""

    n_samples: I64


@dataclass(frozen=True)
class PictureTable(MediaTable):
    """The table of I pictures: int64[I] numbers of their groups of interchangeable pictures; number by id."""

    groups: I64
    index: dict[str, int]


@dataclass(frozen=True)
class RegionColumns:
    """A table of M regions: int64[M] numbers of their pictures and rows of their features.

    Boxes are float32[M, 4]: x0, y0, x1, y1 as fractions of the picture's width and height.
    """

    image_row: I64
    feature_row: I64
    boxes: F32


def read_audio_columns(path: Path) -> tuple[AudioTable, I64]:
    """Read an audio list; return it and int64[U] hashes of its paths, all different."""
    paths, lengths, hashes = StringPacker(), [], []
    with path.open("rb") as file:
        root = read_root(file, path, mark="")
        for ids, n_samples in column_chunks(file, AUDIO, order=(0, 1)):
            paths.extend(ids)
            lengths.append(np.array(n_samples, dtype=np.int64))
            hashes.append(_hashes(ids))
    all_hashes = np.concatenate(hashes)
    if len(np.unique(all_hashes)) < len(all_hashes):
        raise IrregularTableError
    lines = range(AUDIO_FIRST_LINE, AUDIO_FIRST_LINE + len(all_hashes))
    return AudioTable(path, root, paths.strings(), lines, np.concatenate(lengths)), all_hashes


def read_image_columns(path: Path) -> PictureTable:
    """Read the table of pictures."""
    paths, groups = StringPacker(), []
    index: dict[str, int] = {}
    numbers: dict[str, int] = {}
    n_rows = 0
    with path.open("rb") as file:
        root = read_root(file, path, mark=ROOT_MARK)
        for ids, found, _, _, group in column_chunks(file, IMAGES, order=read_header(file, IMAGES)):
            paths.extend(found)
            index.update(zip(ids, range(n_rows, n_rows + len(ids)), strict=True))
            n_rows += len(ids)
            names = (name or image_id for name, image_id in zip(group, ids, strict=True))
            groups += [numbers.setdefault(name, len(numbers)) for name in names]
    if len(index) < n_rows:
        raise IrregularTableError
    lines = range(IMAGES_FIRST_LINE, IMAGES_FIRST_LINE + n_rows)
    return PictureTable(path, root, paths.strings(), lines, np.array(groups, dtype=np.int64), index)


def read_pair_columns(
    path: Path, audio: AudioTable, hashes: I64, images: PictureTable, *, with_texts: bool
) -> tuple[I64, I64, PackedStrings | None]:
    """Read a pair table: int64[N] rows of utterances and of pictures, and texts; refuse unknown ids."""
    texts, audio_rows, image_rows = StringPacker(), [], []
    order = np.argsort(hashes)
    hashes = hashes[order]
    with path.open("rb") as file:
        for ids, image_ids, _, text in column_chunks(file, PAIRS, order=read_header(file, PAIRS)):
            audio_rows.append(order[_positions(_hashes(ids), hashes)])
            if not audio.paths.same_at(audio_rows[-1], PackedStrings(ids)):
                raise IrregularTableError
            image_rows.append(_image_rows(image_ids, images.index))
            if with_texts:
                texts.extend(text)
    audio_row = np.concatenate(audio_rows)
    if len(np.unique(audio_row)) < len(audio_row):
        raise IrregularTableError
    return audio_row, np.concatenate(image_rows), texts.strings() if with_texts else None


def read_region_columns(path: Path, image_index: Mapping[str, int]) -> RegionColumns:
    """Read a region table; refuse unknown ids."""
    image_rows, feature_rows, boxes = [], [], []
    with path.open("rb") as file:
        for ids, rows, *edges in column_chunks(file, REGIONS, order=read_header(file, REGIONS)):
            image_rows.append(_image_rows(ids, image_index))
            feature_rows.append(np.array(rows, dtype=np.int64))
            box = np.array(edges).T  # compared before they are rounded
            if not (box[:, :2] < box[:, 2:]).all():
                raise IrregularTableError
            boxes.append(np.ascontiguousarray(box, dtype=np.float32))
    columns = RegionColumns(_joined(image_rows), _joined(feature_rows), _joined(boxes))
    # Boxes that are equal only in float32 are left to the other reader, too.
    if _any_repeated(columns.image_row, columns.feature_row) and _any_repeated(
        columns.image_row, columns.feature_row, *columns.boxes.T
    ):
        raise IrregularTableError
    return columns


def _hashes(strings: Sequence[str]) -> I64:
    return np.fromiter(map(hash, strings), dtype=np.int64, count=len(strings))


def _positions(wanted: I64, known: I64) -> I64:
    """Return the position of each hash among the known ones, which are sorted."""
    positions = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    if not np.array_equal(known[positions], wanted):
        raise IrregularTableError
    return positions


def _image_rows(image_ids: Sequence[str], index: Mapping[str, int]) -> I64:
    rows = np.fromiter(map(index.get, image_ids, repeat(-1)), dtype=np.int64, count=len(image_ids))
    if (rows < 0).any():
        raise IrregularTableError
    return rows


def _joined(parts: list[Any]) -> Any:
    joined = np.concatenate(parts)
    parts.clear()  # free the memory before other columns are joined
    return joined


def _any_repeated(*columns: npt.NDArray[Any]) -> bool:
    """Return whether two rows have the same values in all columns."""
    order = np.lexsort(columns)
    same = np.ones(len(order) - 1, dtype=bool)
    for column in columns:
        ordered = column[order]
        same &= ordered[1:] == ordered[:-1]
    return bool(same.any())


_CHUNK = 65_536


class PackedStrings:
    """An immutable list of strings in one block of bytes, a tenth of the memory of Python strings."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        remaining = iter(strings)
        packer = StringPacker()
        while chunk := list(islice(remaining, _CHUNK)):
            packer.extend(chunk)
        self._bytes, self._ends = packer.packed()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        start, end = int(self._ends[index]), int(self._ends[index + 1])
        return self._bytes[start:end].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def same_at(self, rows: I64, other: PackedStrings) -> bool:
        """Return whether the strings at int64[N] rows equal those of another list of N, one by one."""
        starts = self._ends[rows]
        if not np.array_equal(self._ends[rows + 1] - starts, np.diff(other._ends)):
            return False
        if not len(rows) or np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            start = int(starts[0]) if len(rows) else 0
            return self._bytes[start : start + len(other._bytes)] == other._bytes
        places = zip(starts.tolist(), other._ends[:-1].tolist(), other._ends[1:].tolist(), strict=True)
        return all(
            self._bytes[start : start + end - begin] == other._bytes[begin:end]
            for start, begin, end in places
        )


class StringPacker:
    """Collect strings for ``PackedStrings`` in chunks."""

    def __init__(self) -> None:
        # grows in place: joining blocks at the end would need twice the memory
        self._bytes = bytearray()
        self._lengths: list[I64] = [np.zeros(1, dtype=np.int64)]

    def extend(self, strings: Sequence[str]) -> None:
        """Append strings."""
        joined = "".join(strings)
        self._bytes += joined.encode("utf-8", "surrogateescape")
        lengths: Iterable[int] = map(len, strings)
        if not joined.isascii():
            lengths = (len(string.encode("utf-8", "surrogateescape")) for string in strings)
        self._lengths.append(np.fromiter(lengths, np.int64, len(strings)))

    def packed(self) -> tuple[bytearray, I64]:
        """Return all bytes and int64[N + 1] boundaries of the N strings."""
        return self._bytes, np.cumsum(np.concatenate(self._lengths))

    def strings(self) -> PackedStrings:
        """Return the list."""
        packed = PackedStrings()
        packed._bytes, packed._ends = self.packed()
        return packed
