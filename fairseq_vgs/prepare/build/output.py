"""Writes data folders whole: they appear under their name only when complete, and replace only their like."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairseq_vgs.manifest import (AudioRow, ImageRow, ManifestFolder, PairRow, RegionRow, write_audio_list, write_images, write_pairs, write_regions)
from fairseq_vgs.files.faults import Fault
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.atomic import atomic_write

MADE_BY_KEY = "made_by"
MADE_BY = "fairseq-vgs prepare"
SUMMARY_NAME = "summary.json"
RELATIVE_ROOT = "."


@dataclass(frozen=True)
class CaptionedAudio:
    """One row of a split: the utterance and what it is paired with."""

    audio: AudioRow
    pair: PairRow


def maker_of(folder: Path) -> str:
    """Returns which subcommand of ``prepare`` made a folder, by its ``summary.json``; empty: none of them."""
    try:
        summary = json.loads((folder / SUMMARY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    if not isinstance(summary, dict) or summary.get(MADE_BY_KEY) != MADE_BY:
        return ""
    _, _, arguments = str(summary.get("command", "")).partition(f"{MADE_BY} ")
    return str(summary.get("corpus") or arguments.partition(" ")[0])


def refuse_inputs(folder: Path, inputs: Iterable[Path]) -> None:
    """Raises ``FaultError`` where replacing a folder would delete what it is made from.

    Args:
        folder: the output; nothing is looked at where it does not exist.
        inputs: files and folders, compared as they are written and as links lead.
    """
    try:
        own = folder.stat()
    except OSError:
        return
    seen: set[Path] = set()
    for path in inputs:
        for start in (Path(os.path.normpath(path.absolute())), Path(os.path.realpath(path))):
            for place in (start, *start.parents):
                if place in seen:
                    break
                seen.add(place)
                # By the file system's own numbers: a name may be written in several ways.
                if _is_same(place, own):
                    message = f"is, or holds, what the new folder would be made from ({path})"
                    raise FaultError(Fault(str(folder), f"{message}; choose another output folder"))


def _is_same(path: Path, other: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), other)
    except OSError:
        return False


def refuse_output(folder: Path, *, maker: str, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Raises ``FaultError`` where the folder must not be written; comes before all other work.

    Args:
        folder: the folder to be.
        maker: the subcommand of ``prepare`` that makes it, which alone may replace it.
        force: replace an older folder of the same subcommand.
        inputs: what it is made from, which must not lie in it, with ``force`` or without.
    """
    refuse_inputs(folder, inputs)
    if not os.path.lexists(folder) or (
        folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())
    ):
        return
    if not force:
        raise FaultError(Fault(str(folder), "already exists; pass --force to replace it"))
    if folder.is_symlink() or not maker or maker_of(folder) != maker:
        message = f"not made by {MADE_BY} {maker} (by its {SUMMARY_NAME}), so --force does not replace it"
        raise FaultError(Fault(str(folder), f"{message}; choose another output folder"))


@contextmanager
def staged_folder(folder: Path, *, maker: str, force: bool) -> Iterator[Path]:
    """Gives a temporary sibling to fill, which takes the folder's name and place when the block ends.

    If the block raises or is interrupted, the sibling is removed and an older folder stays as it was.

    Raises:
        FaultError: the folder exists and ``force`` is off, or another command made it.
    """
    # Absolute, since "." has no name and the working directory may change.
    folder = folder.absolute()
    refuse_output(folder, maker=maker, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    staging.mkdir()
    try:
        yield staging
        put_in_place(staging, folder, maker=maker, force=force)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def put_in_place(staging: Path, folder: Path, *, maker: str, force: bool) -> None:
    """Gives a complete folder its name; an older one is removed only when the new one stands there.

    Args:
        staging: the folder, on the same file system.
        folder: its name and place to be, absolute.
        maker: the subcommand of ``prepare`` that made it.
        force: replace an older folder of the same subcommand.

    Raises:
        FaultError: the folder exists and ``force`` is off, or another command made it.
    """
    refuse_output(folder, maker=maker, force=force)
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
    """Writes ``summary.json``.

    Where it says ``MADE_BY``, the subcommand that ``corpus``, else ``command``, names may replace the folder.
    """
    with atomic_write(folder / SUMMARY_NAME, force=force) as file:
        json.dump({MADE_BY_KEY: made_by, **content}, file, ensure_ascii=False, indent=1)
        file.write("\n")
