"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload


@overload
def atomic_write(
    path: Path, *, force: bool = ..., mode: Literal["w"] = ...
) -> AbstractContextManager[TextIO]: ...
@overload
def atomic_write(
    path: Path, *, force: bool = ..., mode: Literal["wb"]
) -> AbstractContextManager[BinaryIO]: ...


def atomic_write(
    path: Path, *, force: bool = False, mode: Literal["w", "wb"] = "w"
) -> AbstractContextManager[TextIO] | AbstractContextManager[BinaryIO]:
    """Open a file for writing that appears under its name only when it is complete.

    The content goes to a hidden file beside ``path``, is flushed to disk and renamed when the block ends.
    If the block raises, that file is removed and an older ``path`` stays as it was. Missing parent folders
    are created.

    Args:
        path: Where the finished file goes.
        force: Replace an existing file.
        mode: ``"w"`` for UTF-8 text with Unix line ends, ``"wb"`` for bytes.

    Raises:
        FileExistsError: ``path`` exists and ``force`` is off; checked before writing, and again at the end.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"atomic_write: mode must be 'w' or 'wb', got {mode!r}")
    return _atomic_write(Path(path), force=force, mode=mode)


@contextmanager
def _atomic_write(path: Path, *, force: bool, mode: str) -> Iterator[Any]:
    _refuse_existing(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not derived from the target's name: that may already be as long as the file system allows.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with _open_new(temporary, mode) as file:
            yield file
            if not file.closed:
                file.flush()
                os.fsync(file.fileno())
        _refuse_existing(path, force=force)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _open_new(path: Path, mode: str) -> IO[Any]:
    # "x" refuses an existing file and, unlike tempfile, gives the permissions that the user's umask asks for.
    if mode == "wb":
        return path.open("xb")
    return path.open("x", encoding="utf-8", newline="\n")


def _refuse_existing(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give the name of a file")
    if not force and os.path.lexists(path):
        raise FileExistsError(f"{path}: already exists; pass --force (force=True) to replace it")


def _sync_folder(folder: Path) -> None:
    # The rename is on disk only once the folder is; that some file systems cannot sync folders is no failure.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
