"""Writes data folders whole: they appear under their name only when complete, and replace only their like."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairseq_vgs.manifest import (
    AudioRow,
    Fault,
    ImageRow,
    ManifestError,
    ManifestFolder,
    PairRow,
    RegionRow,
    atomic_write,
    write_audio_list,
    write_images,
    write_pairs,
    write_regions,
)

MADE_BY_KEY = "made_by"
MADE_BY = "fairseq-vgs prepare"
SUMMARY_NAME = "summary.json"
RELATIVE_ROOT = "."


@dataclass(frozen=True)
class CaptionedAudio:
    """One row of a split: the utterance and what it is paired with."""

    audio: AudioRow
    pair: PairRow


def is_prepared_folder(folder: Path) -> bool:
    """Says whether this package made the folder, by its ``summary.json``."""
    try:
        summary = json.loads((folder / SUMMARY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(summary, dict) and summary.get(MADE_BY_KEY) == MADE_BY


def refuse_output(folder: Path, *, force: bool) -> None:
    """Raises ``ManifestError`` where the folder must not be written; costs nothing, so it comes first."""
    if not os.path.lexists(folder) or (
        folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())
    ):
        return
    if not force:
        raise ManifestError(Fault(str(folder), "already exists; pass --force to replace it"))
    if folder.is_symlink() or not is_prepared_folder(folder):
        message = f"not made by fairseq-vgs prepare (no such {SUMMARY_NAME}), so --force does not replace it"
        raise ManifestError(Fault(str(folder), f"{message}; choose another output folder"))


@contextmanager
def staged_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """Gives a temporary sibling to fill, which takes the folder's name and place when the block ends.

    If the block raises or is interrupted, the sibling is removed and an older folder stays as it was.

    Raises:
        ManifestError: the folder exists and ``force`` is off, or it is none of ours.
    """
    # Absolute, since "." has no name and the working directory may change.
    folder = folder.absolute()
    refuse_output(folder, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    staging.mkdir()
    try:
        yield staging
        put_in_place(staging, folder, force=force)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def put_in_place(staging: Path, folder: Path, *, force: bool) -> None:
    """Gives a complete folder its name; an older one is removed only when the new one stands there.

    Args:
        staging: the folder, on the same file system.
        folder: its name and place to be, absolute.
        force: replace an older folder if it is one of ours.

    Raises:
        ManifestError: the folder exists and ``force`` is off, or it is none of ours.
    """
    refuse_output(folder, force=force)
    retired = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.old"
    try:
        if os.path.lexists(folder):
            folder.rename(retired)
        staging.rename(folder)
    except BaseException:
        if retired.exists() and not folder.exists():
            retired.rename(folder)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def write_tables(
    folder: Path,
    splits: Mapping[str, Sequence[CaptionedAudio]],
    *,
    images: Sequence[ImageRow],
    root: Path | str = RELATIVE_ROOT,
    force: bool = False,
) -> None:
    """Writes audio lists, pair tables and the image table.

    Args:
        folder: where the tables go.
        splits: rows of each split, in their order.
        images: pictures of all splits; their root is the folder itself.
        root: first line of the audio lists. Stock fairseq takes a relative one from the working directory.
        force: replace existing tables.
    """
    names = ManifestFolder(folder)
    for split, rows in splits.items():
        write_audio_list(names.audio_list(split), [row.audio for row in rows], root=root, force=force)
        write_pairs(names.pairs(split), [row.pair for row in rows], force=force)
    write_images(names.images, images, root=RELATIVE_ROOT, force=force)


def write_region_tables(
    folder: Path, regions: Sequence[RegionRow], features: NDArray[np.float16], *, force: bool = False
) -> None:
    """Writes the region table and its features, float16 [rows, dims]."""
    names = ManifestFolder(folder)
    write_regions(names.regions, regions, force=force)
    with atomic_write(names.region_features, mode="wb", force=force) as file:
        np.save(file, features.astype(np.float16), allow_pickle=False)


def command_line(subcommand: str, arguments: str, settings: Mapping[str, object]) -> str:
    """Returns the command that gives a folder of these settings; paths stay out of what it writes."""
    words = ["fairseq-vgs", "prepare", subcommand, arguments]
    for name, value in settings.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            words.append(option)
        elif value is not False:
            values = value if isinstance(value, (tuple, list)) else (value,)
            words += [option, *map(str, values)]
    return " ".join(words)


def write_summary(
    folder: Path, content: Mapping[str, object], *, made_by: str = MADE_BY, force: bool = False
) -> None:
    """Writes ``summary.json``; folders marked as ``MADE_BY`` may later be replaced with ``--force``."""
    with atomic_write(folder / SUMMARY_NAME, force=force) as file:
        json.dump({MADE_BY_KEY: made_by, **content}, file, ensure_ascii=False, indent=1)
        file.write("\n")
