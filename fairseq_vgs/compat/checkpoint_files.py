"""Checkpoints that fairseq writes appear whole or not at all, and are verified before they are used.

fairseq 0.12.2 truncates ``checkpoint_last.pt`` before it copies a checkpoint there, so a kill or a full disk
at that moment ruins the file that the next run restores.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from fairseq_vgs.files.atomic import FULL_DISK
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.torch_files import named_errors, refuse_other_files, verify

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
PARTIAL = ".partial"
"""Folder of files under way, next to what they become."""
# of a run, by epoch, by update, or the best; never crash.pt, which holds weights that are not finite
_RESUMABLE = re.compile(r"checkpoint(\d+|_\d+_\d+|_best)\.pt")


def write_whole_checkpoints() -> bool:
    """Let fairseq write and copy local checkpoints through files that appear when they are complete."""
    from fairseq import checkpoint_utils

    original = checkpoint_utils.torch_persistent_save
    if hasattr(original, "__wrapped__"):
        return False

    class WholeCopies(checkpoint_utils.PathManager):
        @staticmethod
        def copy(src: str, dst: str, overwrite: bool = False) -> bool:
            """Copy a file; the copy replaces another one when it is complete."""
            if not overwrite and Path(dst).exists():
                return False
            with whole(Path(dst)) as partial:
                shutil.copyfile(src, partial)
            return True

    @functools.wraps(original)
    def torch_persistent_save(obj: Any, filename: str, async_write: bool = False) -> None:
        if async_write or checkpoint_utils.PathManager.path_requires_pathmanager(filename):
            original(obj, filename, async_write=async_write)
            return
        with whole(Path(filename)) as partial, partial.open("wb") as file:
            torch.save(obj, file)

    checkpoint_utils.torch_persistent_save = torch_persistent_save
    checkpoint_utils.PathManager = WholeCopies
    return True


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file that replaces ``path`` when the block ends without an error.

    Raises:
        FaultError: ``output.full``: the disk is full; the file that ``path`` was is left alone.
    """
    partial = path.parent / PARTIAL / path.name
    try:
        partial.parent.mkdir(exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        # torch reports that a write failed without the reason, which is the error's context
        if not any(isinstance(one, OSError) and one.errno in FULL_DISK for one in (error, error.__context__)):
            raise
        free = f"{shutil.disk_usage(path.parent).free} bytes free"
        step = "make room and run the same command again; earlier checkpoints are whole"
        expected = "disk must have room for a checkpoint"
        raise FaultError(fault(str(path), expected, free, step, code="output.full")) from error
    finally:
        partial.unlink(missing_ok=True)
        with suppress(OSError):  # another file may be under way
            partial.parent.rmdir()


def verify_checkpoints() -> bool:
    """Let fairseq verify every checkpoint that it loads, and name those that it cannot read."""
    from fairseq import checkpoint_utils

    original = checkpoint_utils.load_checkpoint_to_cpu
    if hasattr(original, "__wrapped__"):
        return False

    @functools.wraps(original)
    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> Any:
        with named_errors(Path(path)):
            if not checkpoint_utils.PathManager.path_requires_pathmanager(path):
                refuse_other_files(Path(path))
                verify(Path(path))
            return original(path, *args, **kwargs)

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
    return True


def restore_last(folder: Path) -> None:
    """Replace a missing or damaged ``checkpoint_last.pt`` by the newest whole checkpoint, and say so.

    The damaged file is kept under another name.

    Raises:
        FaultError: ``checkpoint.damaged`` or ``checkpoint.kind``: no checkpoint is whole.
    """
    last = folder / LAST
    missing = not last.exists()
    try:
        if not missing:
            refuse_other_files(last)
            verify(last)
            return
        damage = "is missing"
    except FaultError as error:
        damage = "is damaged"
        kept = error
    newest = next(_whole_ones(folder), None)
    if newest is None:
        if missing:
            return
        raise kept
    if not missing:
        last.replace(last.with_name(f"{LAST}.damaged"))
    with whole(last) as partial:
        shutil.copyfile(newest, partial)
    logger.warning("%s %s: going on from %s, the newest whole checkpoint", last, damage, newest.name)


def _whole_ones(folder: Path) -> Iterator[Path]:
    """Yield the run's whole checkpoints, newest first."""
    found = [path for path in folder.glob("checkpoint*.pt") if _RESUMABLE.fullmatch(path.name)]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            refuse_other_files(path)
            verify(path)
        except FaultError as error:
            logger.warning("%s", error)
        else:
            yield path


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left half written; no other run may be writing into the folder."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    for path in folder.glob("checkpoint*.pt.tmp"):  # fairseq's own
        path.unlink(missing_ok=True)
