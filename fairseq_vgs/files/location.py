"""Locations of media below a root: a file, or a slice of an archive.

An entry is ``folder/clip.flac`` or ``speech.zip:OFFSET:LENGTH`` (a stored, not compressed, zip) or
``pictures.tar:OFFSET:LENGTH``: bytes are read by position, without the archive's index. Absolute entries and
entries with ``..`` are refused; symbolic links below the root are followed, since corpora are often linked.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.spelling import on_disk

ARCHIVE_SUFFIXES = (".zip", ".tar")
_SLICE = re.compile(r"(.+?):([0-9]{1,18}):([0-9]{1,18})", re.DOTALL)
_ARCHIVE_PART = re.compile(r"\.(?:zip|tar)(?=:|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MediaLocation:
    """A whole file (offset and length are None) or ``length`` bytes of an archive from ``offset`` on."""

    path: Path
    offset: int | None = None
    length: int | None = None

    def __str__(self) -> str:
        """Return the path, with ``:OFFSET:LENGTH`` for an archive entry."""
        return str(self.path) if self.offset is None else f"{self.path}:{self.offset}:{self.length}"


def split_entry(entry: str) -> tuple[str, int | None, int | None]:
    """Split an entry into path, offset and length without touching the disk.

    Raises:
        ValueError: The entry is malformed; the message is the expectation, to be followed by "got ...".
    """
    path, offset, length = entry, None, None
    match = _SLICE.fullmatch(entry) if ":" in entry else None
    if match:
        path, offset, length = match[1], int(match[2]), int(match[3])
        if not path.lower().endswith(ARCHIVE_SUFFIXES):
            raise ValueError("must name a .zip or .tar before :OFFSET:LENGTH")
        if length == 0:
            raise ValueError("must have a LENGTH of at least 1 byte")
    elif _ARCHIVE_PART.search(entry):
        raise ValueError("must be ARCHIVE:OFFSET:LENGTH with whole numbers where it names a .zip or .tar")
    if not path or "\0" in path:
        raise ValueError("must be a path")
    if path.startswith("/"):
        raise ValueError("must be relative to the root, not absolute")
    if ".." in path and ".." in path.split("/"):
        raise ValueError("must stay below the root, without '..'")
    return path, offset, length


def resolve(root: Path, entry: str) -> MediaLocation:
    """Return the location of an entry; the file need not exist. Refuses entries that leave the root.

    Raises:
        FaultError: ``entry.value``.
    """
    try:
        path, offset, length = split_entry(entry)
    except ValueError as error:
        expected, step = f"entry {error}", "correct the entry"
        raise FaultError(fault("media path", expected, entry, step, code="entry.value")) from error
    return MediaLocation(Path(root) / path, offset, length)


def check_present(location: MediaLocation) -> None:
    """Check without reading that a medium exists: a regular file, long enough for an archive entry.

    Raises:
        FaultError: ``file.missing``, ``file.unreadable``, ``file.kind`` or ``archive.cut``.
    """
    try:
        status = location.path.stat()
    except OSError as error:
        raise _unreadable(location, error) from error
    _check_status(location, status)


def open_descriptor(location: MediaLocation) -> tuple[int, int]:
    """Open the file that holds a medium; return its descriptor, which the caller closes, and size.

    Raises:
        FaultError: as ``check_present``.
    """
    # Without O_NONBLOCK, opening a named pipe would wait for a writer forever.
    try:
        descriptor = os.open(location.path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(location, error) from error
    try:
        status = os.fstat(descriptor)
        _check_status(location, status)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def read_descriptor(location: MediaLocation, descriptor: int, size: int) -> bytes:
    """Return all bytes of a medium opened by ``open_descriptor``, without moving the file position.

    Raises:
        FaultError: ``file.unreadable`` or ``archive.cut``.
    """
    offset, length = location.offset or 0, location.length or size
    try:
        data = os.pread(descriptor, length, offset)
        # One read returns at most 2 GB.
        while len(data) < length and (more := os.pread(descriptor, length - len(data), offset + len(data))):
            data += more
    except OSError as error:
        raise _unreadable(location, error) from error
    if location.offset is not None and len(data) != length:
        raise _truncated(location, offset + len(data))
    return data


def read_bytes(location: MediaLocation) -> bytes:
    """Return all bytes of a medium; refuse it as ``check_present``.

    Raises:
        FaultError: as ``check_present``.
    """
    descriptor, size = open_descriptor(location)
    try:
        return read_descriptor(location, descriptor, size)
    finally:
        os.close(descriptor)


def media_digest(root: Path, entries: Iterable[str]) -> str:
    """Return a SHA-256 that changes with the entries and with the sizes and times of their files.

    No file is read, so a million pictures take seconds; missing files count as missing.
    """
    stamps: dict[Path, str] = {}
    digest = hashlib.sha256()
    for entry in entries:
        try:
            path = resolve(root, entry).path
            if path not in stamps:
                status = path.stat()
                stamps[path] = f"{status.st_size} {status.st_mtime_ns}"
            stamp = stamps[path]
        except (OSError, FaultError):
            stamp = "missing"
        digest.update(f"{entry}\0{stamp}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _check_status(location: MediaLocation, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FaultError.at(location.path, "is not a regular file; check the path", "file.kind")
    # Checked before reading, so that an absurd length allocates no memory.
    if location.offset is not None and location.offset + (location.length or 0) > status.st_size:
        raise _truncated(location, status.st_size)


def _unreadable(location: MediaLocation, error: OSError) -> FaultError:
    if isinstance(error, FileNotFoundError):
        path = str(location.path.absolute())
        if (other := on_disk(Path("/"), path[1:])) != path[1:]:
            expected = f"file is missing, but there is {Path(other).name!a}, the same in other characters"
            message = f"{expected}; copy the files with their names unchanged, or prepare the folder again"
            return FaultError.at(location.path, message, "file.missing")
        return FaultError.at(location.path, "file is missing; check the root and the path", "file.missing")
    reason = error.strerror or type(error).__name__
    return FaultError.at(location.path, f"cannot be read ({reason}); check the file", "file.unreadable")


def _truncated(location: MediaLocation, size: int) -> FaultError:
    end = (location.offset or 0) + (location.length or 0)
    expected = f"archive must hold bytes {location.offset} to {end}, but ends after {size}"
    return FaultError.at(location.path, f"{expected}; copy or build the archive again", "archive.cut")
