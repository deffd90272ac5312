"""A medium's bytes, wherever they are: in memory, in a file, or in an archive."""

from __future__ import annotations

from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.files.location import MediaLocation, read_bytes
from fairseq_vgs.media.errors import MediumError, media_fault

Source = bytes | Path | MediaLocation


def read_content(source: Source, place: str) -> bytes:
    """Return all bytes of a medium.

    Args:
        source: The bytes, a file, or a slice of an archive.
        place: File and line for errors; empty for the file's own name.

    Raises:
        MediumError: The file is missing, unreadable, empty, or ends before the slice.
    """
    if isinstance(source, Path):
        source = MediaLocation(source)
    if isinstance(source, MediaLocation):
        place = place or str(source)
        try:
            content = read_bytes(source)
        except FaultError as error:
            faults = [Fault(place, str(item), item.code or "file.unreadable") for item in error.faults]
            raise MediumError(faults) from error
    else:
        content = source
    if not content:
        raise MediumError(media_fault(place_of(source, place), "file.empty", "0 bytes"), "0 bytes")
    return content


def place_of(source: Source, place: str) -> str:
    """Return the place to name in errors."""
    return place or ("the recording" if isinstance(source, bytes) else str(source))
