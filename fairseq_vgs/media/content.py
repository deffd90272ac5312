"""The bytes of a recording or picture, wherever they are: in memory, in a file, or in an archive."""

from __future__ import annotations

import os
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.files.location import MediaLocation, open_descriptor, read_descriptor
from fairseq_vgs.media.errors import MediumError, media_fault

Source = bytes | Path | MediaLocation


class OpenMedium:
    """A medium whose file stays open until the end of a ``with`` block; ``place`` is named in MediumErrors.

    ``descriptor`` is that of a file that holds this medium alone, at its first byte; otherwise None.
    """

    def __init__(self, source: Source, place: str) -> None:
        self.place = place_of(source, place)
        self.descriptor: int | None = None
        self._source = MediaLocation(source) if isinstance(source, Path) else source
        self._opened = -1
        if isinstance(self._source, MediaLocation):
            try:
                self._opened, self._size = open_descriptor(self._source)
            except FaultError as error:
                raise _medium_error(self.place, error) from error
            self.descriptor = self._opened if self._source.offset is None else None

    def __enter__(self) -> OpenMedium:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened >= 0:
            os.close(self._opened)

    def read(self) -> bytes:
        """Return all bytes; refuse an empty medium."""
        try:
            if isinstance(content := self._source, MediaLocation):
                content = read_descriptor(content, self._opened, self._size)
        except FaultError as error:
            raise _medium_error(self.place, error) from error
        if not content:
            raise MediumError(media_fault(self.place, "file.empty", "0 bytes"), "0 bytes")
        return content


def read_content(source: Source, place: str) -> bytes:
    """Return all bytes of a medium; see ``OpenMedium``."""
    with OpenMedium(source, place) as medium:
        return medium.read()


def place_of(source: Source, place: str) -> str:
    """Return the place to name in errors."""
    return place or ("the recording" if isinstance(source, bytes) else str(source))


def _medium_error(place: str, error: FaultError) -> MediumError:
    return MediumError(Fault(place, str(item), "file.unreadable") for item in error.faults)
