"""Read a split's tables by columns, if they have no faults.

A million rows take a few seconds and little more memory than the result. Tables with any fault are left to
the line-by-line reader, which names all faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.arrays import F32, I64
from fairseq_vgs.data.packed_strings import PackedStrings, StringPacker
from fairseq_vgs.files.tables import IrregularTableError, column_chunks, read_header, read_root
from fairseq_vgs.manifest.tables import AUDIO, IMAGES, PAIRS, REGIONS

_IMAGE_ROOT_MARK = "#root\t"


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
    n_samples: I64
    hashes: I64


@dataclass(frozen=True)
class ImageColumns:
    """The table of I pictures: root, I paths, int64[I] numbers of their groups, and number by id."""

    root: Path
    paths: PackedStrings
    groups: I64
    index: dict[str, int]


@dataclass(frozen=True)
class PairColumns:
    """A table of N pairs: int64[N] rows of utterances and pictures; N texts where they are asked for."""

    audio_row: I64
    image_row: I64
    texts: PackedStrings | None


@dataclass(frozen=True)
class RegionColumns:
    """A table of M regions.

    Attributes:
        image_row: int64[M] numbers of their pictures.
        feature_row: int64[M] rows of their features.
        boxes: float32[M, 4], x0, y0, x1, y1 as fractions of the picture's width and height.
    """

    image_row: I64
    feature_row: I64
    boxes: F32


def read_audio_columns(path: Path) -> AudioColumns:
    """Read an audio list. Raises IrregularTableError, OSError."""
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
    return AudioColumns(root, paths.strings(), np.concatenate(lengths), all_hashes)


def read_image_columns(path: Path) -> ImageColumns:
    """Read the table of pictures. Raises IrregularTableError, OSError."""
    paths, groups = StringPacker(), []
    index: dict[str, int] = {}
    numbers: dict[str, int] = {}
    n_rows = 0
    with path.open("rb") as file:
        root = read_root(file, path, mark=_IMAGE_ROOT_MARK)
        for ids, found, _, _, group in column_chunks(file, IMAGES, order=read_header(file, IMAGES)):
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
    texts, audio_rows, image_rows = StringPacker(), [], []
    order = np.argsort(audio.hashes)
    hashes = audio.hashes[order]
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
    return PairColumns(audio_row, np.concatenate(image_rows), texts.strings() if with_texts else None)


def read_region_columns(path: Path, image_index: Mapping[str, int]) -> RegionColumns:
    """Read a region table and join it by id. Raises as ``read_pair_columns``."""
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
