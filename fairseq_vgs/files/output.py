"""Where outputs may be written, and folders that appear under their name only when they are complete."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError

MADE_BY_KEY = "made_by"
MADE_BY = "fairseq-vgs prepare"
SUMMARY_NAME = "summary.json"


class OutputExistsError(FaultError, FileExistsError):
    """An output exists, and the user has not said that it may be replaced."""


def refuse_existing(*paths: Path, force: bool = False) -> None:
    """Refuse to replace files or folders; call it before the work begins.

    Raises:
        OutputExistsError: All of them that exist, unless ``force`` is on.
    """
    found = [path for path in paths if os.path.lexists(path)]
    if found and not force:
        step = "already exists; pass --force (force=True) to replace it, or choose another output"
        raise OutputExistsError(Fault(str(path), step, "output.exists") for path in found)


def maker_of(folder: Path) -> str:
    """Return which subcommand of ``prepare`` made a folder, by its ``summary.json``; empty: none of them."""
    try:
        summary = json.loads((folder / SUMMARY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    if not isinstance(summary, dict) or summary.get(MADE_BY_KEY) != MADE_BY:
        return ""
    _, _, arguments = str(summary.get("command", "")).partition(f"{MADE_BY} ")
    return str(summary.get("corpus") or arguments.partition(" ")[0])


def refuse_inputs(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output whose replacement would delete what it is made from.

    Args:
        folder: The output; nothing is looked at where it does not exist.
        inputs: Files and folders, compared as they are written and as links lead.
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
                    step = f"{message}; choose another output folder"
                    raise FaultError(Fault(str(folder), step, "output.is_input"))


def _is_same(path: Path, other: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), other)
    except OSError:
        return False


def refuse_output(folder: Path, *, maker: str, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse a folder that must not be written; call it before all other work.

    Args:
        folder: The folder to be.
        maker: The subcommand of ``prepare`` that makes it, which alone may replace it.
        force: Replace an older folder of the same subcommand.
        inputs: What it is made from, which must not lie in it, with ``force`` or without.
    """
    refuse_inputs(folder, inputs)
    if not os.path.lexists(folder) or (
        folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())
    ):
        return
    refuse_existing(folder, force=force)
    if folder.is_symlink() or not maker or maker_of(folder) != maker:
        message = f"not made by {MADE_BY} {maker} (by its {SUMMARY_NAME}), so --force does not replace it"
        raise FaultError(Fault(str(folder), f"{message}; choose another output folder", "output.not_ours"))


@contextmanager
def staged_folder(folder: Path, *, maker: str, force: bool) -> Iterator[Path]:
    """Give a temporary sibling to fill, which takes the folder's name and place when the block ends.

    If the block raises or is interrupted, the sibling is removed and an older folder stays as it was.

    Raises:
        FaultError: The folder exists and ``force`` is off, or another command made it.
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
    """Give a complete folder its name; an older one is removed only when the new one stands there.

    Args:
        staging: The folder, on the same file system.
        folder: Its name and place to be, absolute.
        maker: The subcommand of ``prepare`` that made it.
        force: Replace an older folder of the same subcommand.

    Raises:
        FaultError: The folder exists and ``force`` is off, or another command made it.
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
