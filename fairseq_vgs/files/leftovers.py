"""Temporary files and folders that a killed run leaves, and how the next one removes them.

Whoever makes one holds a lock on it, which the system releases with the process however it ends. What nobody
holds is a leftover. Where a file system has no locks, nothing is removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SECONDS_TO_LOCK = 1.0  # between making a file and holding it, at most
FILES = r"\.[0-9a-f]{16}\.tmp|\.[0-9a-f]{8}\.partial"
"""Names next to the files that they become: of ``atomic_write``, ``try_output`` and ``staged_files``."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file or folder until the block ends, so that no other run takes it for a leftover."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        hold(descriptor)
        yield
    finally:
        os.close(descriptor)


def hold(descriptor: int) -> None:
    """Hold an open file until it is closed."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def leftovers(folder: Path, names: str) -> Iterator[Path]:
    """Yield what killed runs left in a folder under names that match an expression."""
    pattern = re.compile(names)
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if pattern.fullmatch(entry.name) and _is_left(Path(entry.path)):
                yield Path(entry.path)


def remove_leftovers(folder: Path, names: str = FILES) -> None:
    """Remove what killed runs left in a folder."""
    for path in leftovers(folder, names):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - os.fstat(descriptor).st_mtime > _SECONDS_TO_LOCK
    except OSError:
        return False
    finally:
        os.close(descriptor)
