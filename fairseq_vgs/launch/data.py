"""What a data folder offers to training, found out without reading its tables whole."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.tables import require_table
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.tables import ROOT_MARK

_CHUNK_BYTES = 1 << 20
_PREPARE = "build it with fairseq-vgs prepare (your own recordings: fairseq-vgs prepare pairs MINE.csv DATA)"


@dataclass(frozen=True)
class TrainingData:
    """A data folder: its pairs to train on, and what it has of pictures.

    Attributes:
        path: the folder, absolute.
        n_pairs: training pairs.
        has_regions: features of regions are there.
        has_pictures: ``images.tsv`` names picture files.
        splits: all splits.
        n_valid_images: pictures of the validation pairs, which its recalls rank.
    """

    path: Path
    n_pairs: int
    has_regions: bool
    has_pictures: bool
    splits: tuple[str, ...]
    n_valid_images: int


def training_data(path: Path) -> TrainingData:
    """Look at a data folder.

    Raises:
        FaultError: ``folder.missing``; ``file.missing`` for every table that training needs; ``table.empty``,
            no pairs to train on.
    """
    path = path.expanduser().absolute()
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing"
        raise FaultError(fault(str(path), "must be a data folder", got, _PREPARE, code="folder.missing"))
    folder = ManifestFolder(path)
    tables = [
        table for split in ("train", "valid") for table in (folder.audio_list(split), folder.pairs(split))
    ]
    faults: list[Fault] = []
    for table in (*tables, folder.images):
        try:
            require_table(table)
        except FaultError as error:
            faults += error.faults
    if faults:
        raise FaultError(faults)
    pairs = folder.pairs("train")
    if (n_pairs := _count_lines(pairs) - 1) < 1:
        raise FaultError(
            fault(str(pairs), "must hold pairs to train on", "none", _PREPARE, code="table.empty")
        )
    return TrainingData(
        path,
        n_pairs=n_pairs,
        has_regions=folder.regions.is_file() and folder.region_features.is_file(),
        has_pictures=_names_pictures(folder.images),
        splits=tuple(folder.splits()),
        n_valid_images=len(_column(folder.pairs("valid"), "image_id")),
    )


def require_pictures(data: TrainingData) -> None:
    """Refuse a data folder with neither regions nor pictures.

    Raises:
        FaultError: ``file.missing``.
    """
    if not data.has_regions and not data.has_pictures:
        step = f"compute them with fairseq-vgs prepare regions efficientnet {shlex.quote(str(data.path))}"
        expected = "must hold the regions of the pictures, since images.tsv names no picture files"
        place = str(ManifestFolder(data.path).region_features)
        raise FaultError(fault(place, expected, "no file", step, code="file.missing"))


def _count_lines(path: Path) -> int:
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


def _column(path: Path, name: str) -> set[str]:
    """Return the values of a column; training names faulty lines later."""
    header, *rows = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    names = header.split("\t")
    if name not in names:
        return set()
    number = names.index(name)
    return {fields[number] for row in rows if len(fields := row.split("\t")) > number}


def _names_pictures(images: Path) -> bool:
    """Whether the first picture of ``images.tsv`` has a path; training names faulty lines later."""
    with images.open("rb") as file:
        lines = [file.readline().decode("utf-8", errors="replace").rstrip("\r\n") for _ in range(3)]
    header, row = lines[1:] if lines[0].startswith(ROOT_MARK) else lines[:2]
    fields = dict(zip(header.split("\t"), row.split("\t"), strict=False))
    return bool(fields.get("path"))
