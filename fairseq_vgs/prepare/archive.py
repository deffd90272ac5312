"""Writes archives that are read at random access: stored zips whose entries are plain byte ranges."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

# The earliest time a zip can hold. A fixed one makes the archive a function of its content alone.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
LOCAL_HEADER_BYTES = 30
UNIX = 3
FILE_MODE = 0o100644


@dataclass(frozen=True)
class StoredEntry:
    """Where the content of one archive entry lies in the archive file, in bytes."""

    name: str
    offset: int
    length: int


def build_stored_zip(entries: Iterable[tuple[str, bytes]]) -> tuple[bytes, tuple[StoredEntry, ...]]:
    """Returns an uncompressed zip of the (name, content) entries, in their order, and where each lies in it.

    Raises:
        ValueError: two entries have the same name, or a name is not plain ASCII.
    """
    buffer = io.BytesIO()
    places: dict[str, StoredEntry] = {}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            if name in places or not name.isascii():
                raise ValueError(f"{name!r}: expected an ASCII entry name used once; rename the entry")
            info = zipfile.ZipInfo(name, TIMESTAMP)
            info.create_system = UNIX
            info.external_attr = FILE_MODE << 16
            archive.writestr(info, content)
            offset = info.header_offset + LOCAL_HEADER_BYTES + len(name) + len(info.extra)
            places[name] = StoredEntry(name, offset, len(content))
    return buffer.getvalue(), tuple(places.values())
