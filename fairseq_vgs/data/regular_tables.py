"""Reading a split's tables column by column, where nothing is wrong with them.

A million rows take a few seconds and little more memory than what is kept. Tables with any fault at all are
left to the line by line reader, which names every one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fairseq_vgs.data.packed_strings import PackedStrings, StringPacker
from fairseq_vgs.manifest.fields import parse_all
from fairseq_vgs.manifest.parsing import TableFormat, parse_header
from fairseq_vgs.manifest.tables import AUDIO, IMAGES, PAIRS

IntArray = npt.NDArray[np.int64]

_CHUNK_BYTES = 4 << 20
_IMAGE_ROOT_MARK = "#root\t"


class IrregularTableError(ValueError):
    """There is something to say about a table, which this reader does not do."""


@dataclass(frozen=True)
class AudioColumns:
    """An audio list of U utterances.

    Attributes:
        root: Folder that the paths start from.
        paths: U paths or archive entries, all different.
        n_samples: int64[U] lengths.
        hashes: int64[U] of the paths, all different.
    """

    root: Path
    paths: PackedStrings
    n_samples: IntArray
    hashes: IntArray


@dataclass(frozen=True)
class ImageColumns:
    """The table of I pictures: root, I paths, int64[I] numbers of their groups, and number by id."""

    root: Path
    paths: PackedStrings
    groups: IntArray
    index: dict[str, int]


@dataclass(frozen=True)
class PairColumns:
    """A table of N pairs: int64[N] rows of utterances and pictures; N texts where they are asked for."""

    audio_row: IntArray
    image_row: IntArray
    texts: PackedStrings | None


def read_audio_columns(path: Path) -> AudioColumns:
    """Read an audio list. Raises IrregularTableError, OSError."""
    paths, lengths, hashes = StringPacker(), [], []
    with path.open("rb") as file:
        root = _root(file, path, mark="")
        for ids, n_samples in _chunks(file, AUDIO, order=(0, 1)):
            paths.extend(ids)
            lengths.append(np.array(n_samples, dtype=np.int64))
            hashes.append(_hashes(ids))
    all_hashes = np.concatenate(hashes)
    if len(np.unique(all_hashes)) < len(all_hashes):
        raise IrregularTableError
    return AudioColumns(root, paths.strings(), np.concatenate(lengths), all_hashes)


def read_image_columns(path: Path) -> ImageColumns:
    """Read the table of pictures. Raises IrregularTableError, OSError."""
    paths, groups = StringPacker(), []
    index: dict[str, int] = {}
    numbers: dict[str, int] = {}
    n_rows = 0
    with path.open("rb") as file:
        root = _root(file, path, mark=_IMAGE_ROOT_MARK)
        for ids, found, _, _, group in _chunks(file, IMAGES, order=_header(file, IMAGES)):
            paths.extend(found)
            index.update(zip(ids, range(n_rows, n_rows + len(ids)), strict=True))
            n_rows += len(ids)
            names = (name or image_id for name, image_id in zip(group, ids, strict=True))
            groups += [numbers.setdefault(name, len(numbers)) for name in names]
    if len(index) < n_rows:
        raise IrregularTableError
    return ImageColumns(root, paths.strings(), np.array(groups, dtype=np.int64), index)


def read_pair_columns(
    path: Path, audio: AudioColumns, images: ImageColumns, *, with_texts: bool = False
) -> PairColumns:
    """Read a pair table and join it by id. Raises IrregularTableError, also for unknown ids, and OSError."""
    audio_ids, texts, hashes, image_rows = StringPacker(), StringPacker(), [], []
    with path.open("rb") as file:
        for ids, image_ids, _, text in _chunks(file, PAIRS, order=_header(file, PAIRS)):
            audio_ids.extend(ids)
            hashes.append(_hashes(ids))
            image_rows.append(np.array([images.index.get(i, -1) for i in image_ids], dtype=np.int64))
            if with_texts:
                texts.extend(text)
    image_row = np.concatenate(image_rows)
    audio_row = _rows_of(np.concatenate(hashes), audio.hashes)
    if (image_row < 0).any() or not audio.paths.same_at(audio_row, audio_ids.strings()):
        raise IrregularTableError
    return PairColumns(audio_row, image_row, texts.strings() if with_texts else None)


def _root(file: BinaryIO, path: Path, *, mark: str) -> Path:
    line = _text(file.readline()).removesuffix("\n")
    text = line.removeprefix(mark)
    if not line.startswith(mark) or not text or text != text.strip() or "\t" in text:
        raise IrregularTableError
    return path.parent.absolute() / text


def _header(file: BinaryIO, table: TableFormat[Any]) -> Sequence[int]:
    order, faults = parse_header(_text(file.readline()).removesuffix("\n"), table, place="")
    if faults:
        raise IrregularTableError
    return order


def _chunks(
    file: BinaryIO, table: TableFormat[Any], *, order: Sequence[int]
) -> Iterator[list[Sequence[Any]]]:
    """Yield the values of some rows at a time, checked, one sequence per column of the format."""
    n_chunks = 0
    while lines := file.readlines(_CHUNK_BYTES):
        n_chunks += 1
        text = _text(b"".join(lines)).removesuffix("\n")
        try:
            fields = list(zip(*[line.split("\t") for line in text.split("\n")], strict=True))
            if len(fields) != len(table.columns):
                raise IrregularTableError
            columns = zip(table.columns, order, strict=True)
            yield [parse_all(column, fields[position]) for column, position in columns]
        except ValueError as error:
            raise IrregularTableError from error
    if not n_chunks:
        raise IrregularTableError


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise IrregularTableError from error
    if "\r" in text or "\0" in text or text.startswith("\ufeff"):
        raise IrregularTableError
    return text


def _hashes(strings: Sequence[str]) -> IntArray:
    return np.fromiter(map(hash, strings), dtype=np.int64, count=len(strings))


def _rows_of(wanted: IntArray, known: IntArray) -> IntArray:
    """Return the position of each hash among the known ones; each must be wanted once at most."""
    order = np.argsort(known)
    rows = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
    if not np.array_equal(known[rows], wanted) or len(np.unique(rows)) < len(rows):
        raise IrregularTableError
    return rows
