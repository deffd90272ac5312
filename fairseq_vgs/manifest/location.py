"""Where a medium's bytes are: a file, or a slice of an archive, always below a root.

An entry is ``folder/clip.flac`` or ``speech.zip:OFFSET:LENGTH`` (a stored, not compressed, zip) or
``pictures.tar:OFFSET:LENGTH``: the bytes are taken from the archive by position, without reading its index.
Entries are refused lexically when they are absolute or contain ``..``; symbolic links below the root are followed,
since it is the owner of the machine who places them.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fairseq_vgs.manifest.errors import Fault, ManifestError, fault

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
    """Split an entry into path, offset and length, without touching the disk.

    Raises:
        ValueError: The entry is empty, absolute, climbs with ``..``, or is a malformed archive entry. The message is
            the expectation, a clause to continue with "got ...".
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
    """Return where an entry's bytes are; the file need not exist.

    Raises:
        ManifestError: The entry is malformed or leaves the root.
    """
    try:
        path, offset, length = split_entry(entry)
    except ValueError as error:
        raise ManifestError(fault("media path", f"entry {error}", entry, "correct the entry")) from error
    return MediaLocation(Path(root) / path, offset, length)


def read_bytes(location: MediaLocation) -> bytes:
    """Return all bytes of a medium.

    Raises:
        ManifestError: The file is missing or unreadable, or the archive ends before the entry does.
    """
    try:
        # Opening a named pipe would wait for a writer for ever.
        if not location.path.is_file():
            raise ManifestError(_missing(location.path))
        with open(location.path, "rb") as file:
            return file.read() if location.offset is None else _read_slice(file, location)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ManifestError(
            Fault(str(location.path), f"cannot be read ({reason}); check the file")
        ) from error


def open_media(location: MediaLocation) -> BinaryIO:
    """Return a seekable binary file of a medium's bytes, for decoders; the caller closes it.

    Raises:
        ManifestError: As ``read_bytes``.
    """
    return io.BytesIO(read_bytes(location))


def _read_slice(file: BinaryIO, location: MediaLocation) -> bytes:
    offset, length = location.offset or 0, location.length or 0
    # The size is compared first so that an absurd length asks for no memory.
    size = file.seek(0, io.SEEK_END)
    if offset + length > size:
        raise ManifestError(_truncated(location, size))
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise ManifestError(_truncated(location, offset + len(data)))
    return data


def _missing(path: Path) -> Fault:
    what = "is not a regular file" if path.exists() else "file is missing"
    return Fault(str(path), f"{what}; check the root and the path")


def _truncated(location: MediaLocation, size: int) -> Fault:
    end = (location.offset or 0) + (location.length or 0)
    return Fault(
        str(location.path),
        f"archive must hold the bytes {location.offset} to {end}, but ends after {size}; copy or build the archive again",
    )
