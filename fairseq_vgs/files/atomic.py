"""Write files so that a reader never sees an incomplete one."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, overload

from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.files.output import hold, refuse_existing, remove_leftovers

if TYPE_CHECKING:
    import numpy.typing as npt

_TEXT: dict[str, dict[str, Any]] = {"w": {"encoding": "utf-8", "newline": "\n"}, "wb": {}}
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SWEPT: set[Path] = set()
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # all that numpy says of a full disk


class OutputIsFolderError(FaultError, IsADirectoryError):
    """A folder has the name of the file to write."""


@overload
def atomic_write(
    path: Path, *, force: bool = ..., mode: Literal["w"] = ..., partial: bool = ...
) -> AbstractContextManager[TextIO]: ...
@overload
def atomic_write(
    path: Path, *, force: bool = ..., mode: Literal["wb"], partial: bool = ...
) -> AbstractContextManager[BinaryIO]: ...


@contextmanager
def atomic_write(path: Path, *, force: bool = False, mode: str = "w", partial: bool = False) -> Iterator[Any]:
    """Open a file for writing that appears under its name only when it is complete.

    A hidden file in the same folder, created if missing, receives the content and is synced and renamed when
    the block ends. If the block raises, the hidden file is removed and an existing ``path`` is left alone; if
    the process is killed, the next one that writes to the folder removes it.
    Without ``force``, an existing file is refused, before writing and at the end.

    Args:
        path: the finished file.
        force: replace an existing file.
        mode: ``"w"`` for UTF-8 text with Unix line ends, ``"wb"`` for bytes.
        partial: for large files: write to ``partial_path(path)``, which a killed run leaves for the next one
            to overwrite, and which two runs cannot write at once.

    Raises:
        OutputExistsError: ``output.exists``.
        FaultError: ``output.folder``, ``path`` is a folder; ``output.busy``, another run writes the file.
    """
    if mode not in _TEXT:
        raise ValueError(f"atomic_write: mode must be 'w' or 'wb', got {mode!r}")
    path = Path(path)
    _check_target(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _SWEPT:  # once in a process, since a folder may hold many files
        _SWEPT.add(path.parent)
        remove_leftovers(path.parent)
    # Not derived from the target's name, which may already be as long as the file system allows.
    temporary = partial_path(path) if partial else path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with _open_partial(temporary, mode, path) if partial else _open_new(temporary, mode) as file:
            try:
                yield file
                if not file.closed:
                    file.flush()
                    os.fsync(file.fileno())
                _check_target(path, force=force)
                # Rename while the file is open, so that a partial file is still locked.
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        if error.errno is None and _SHORT_WRITE.fullmatch(str(error)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if error.errno in FULL_DISK and error.filename is None:
            error.filename = str(path)
        raise
    _sync_folder(path.parent)


def partial_path(path: Path) -> Path:
    """Return where ``atomic_write`` with ``partial`` writes a file until it is complete."""
    return path.with_name(f".{path.name}.partial")


def lock(
    file: IO[Any], path: Path, *, place: Path, doing: str, step: str = "wait for it, or stop it"
) -> None:
    """Lock the open file at ``path`` until it is closed; refuse one that another run has locked, or renamed.

    The message names ``place``, the output that two runs must not write at once, and what a run is ``doing``.

    Raises:
        FaultError: ``output.busy``.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
    except BlockingIOError:
        is_ours = False
    except OSError:
        # Some network file systems have no locks; there, the user must avoid concurrent runs.
        is_ours = True
    if not is_ours:
        raise FaultError.at(place, f"another run is {doing}; {step}", "output.busy")


def _open_partial(temporary: Path, mode: str, path: Path) -> IO[Any]:
    # Neither replaced, which would take it from another run, nor truncated before it is locked.
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    file: IO[Any] = os.fdopen(descriptor, mode, **_TEXT[mode])
    try:
        lock(file, temporary, place=path, doing="writing this file")
        file.truncate(0)
    except BaseException:
        file.close()
        raise
    return file


def _open_new(path: Path, mode: str) -> IO[Any]:
    # "x" refuses an existing file and, unlike tempfile, gives the permissions that the user's umask asks for.
    file: IO[Any] = path.open(mode.replace("w", "x"), **_TEXT[mode])
    hold(file.fileno())
    return file


def _check_target(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise OutputIsFolderError(Fault(str(path), "is a folder; give the name of a file", "output.folder"))
    refuse_existing(path, force=force)


def _sync_folder(folder: Path) -> None:
    # The rename is durable only once the folder is synced; some file systems cannot sync folders.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a text file."""
    with atomic_write(path, force=force) as file:
        file.write(text)


def write_array(path: Path, array: npt.NDArray[Any], *, force: bool = False) -> None:
    """Write a ``.npy`` file."""
    import numpy as np

    with atomic_write(path, force=force, mode="wb") as file:
        np.save(file, array, allow_pickle=False)
