"""Writes archives that are read at random access: stored zips and plain tars whose entries are byte ranges.

An archive grows entry by entry, so that a corpus of any size passes through in bounded memory; one whose
writing was interrupted is cut after the last entry known to be whole and continued there.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO

# The earliest time a zip can hold. A fixed one makes the archive a function of its content alone.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
LOCAL_HEADER_BYTES = 30
END_OF_TAR = 2 * tarfile.BLOCKSIZE
UNIX = 3
FILE_MODE = 0o100644
ZIP, TAR = KINDS = ("zip", "tar")
SHARD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """Where the content of one archive entry lies in the archive file, in bytes."""

    name: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ShardEntry(StoredEntry):
    """An entry of one of several archives: the archive's number, and the CRC-32 of the content."""

    shard: int
    crc: int


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
            archive.writestr(_zip_info(name), content)
            places[name] = StoredEntry(name, buffer.tell() - len(content), len(content))
    return buffer.getvalue(), tuple(places.values())


def _zip_info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, TIMESTAMP)
    info.create_system = UNIX
    info.external_attr = FILE_MODE << 16
    return info


class ShardWriter:
    """Appends entries to archives ``STEM-00000.zip``, ``STEM-00001.zip``, ... of about equal size.

    Args:
        folder: where the archives are.
        stem: what their names begin with.
        pack: ``zip`` or ``tar``.
        limit: an archive takes no further entry once it has this many bytes.
        written: entries of an earlier, interrupted run; what stands behind them is cut off.
        first: number of the first archive where no entries are written; later ones are removed.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        *,
        pack: str,
        limit: int = SHARD_BYTES,
        written: Sequence[ShardEntry] = (),
        first: int = 0,
    ) -> None:
        if pack not in KINDS:
            raise ValueError(f"pack: expected one of {', '.join(KINDS)}, got {pack!r}")
        self._folder = folder
        self._stem = stem
        self._pack = pack
        self._limit = limit
        self._number = max((entry.shard for entry in written), default=first)
        self._archive: _Zip | _Tar | None = None
        for path in folder.glob(f"{stem}-*.{pack}"):
            own = self.name(self._number)
            if path.name > own or (path.name == own and not written):
                path.unlink()
        last = [entry for entry in written if entry.shard == self._number]
        if last:
            self._open(last)

    def name(self, shard: int) -> str:
        """Returns the file name of an archive."""
        return shard_name(self._stem, shard, pack=self._pack)

    def add(self, name: str, content: bytes) -> ShardEntry:
        """Appends an entry; when this returns, the operating system has all of it."""
        if self._archive is not None and self._archive.file.tell() >= self._limit:
            self.close()
            self._number += 1
        archive = self._archive or self._open(())
        archive.add(name, content)
        archive.file.flush()
        return ShardEntry(name, archive.offset, len(content), self._number, zlib.crc32(content))

    def close(self) -> None:
        """Completes the last archive."""
        if self._archive is not None:
            self._archive.close()
            self._archive.file.close()
            self._archive = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, entries: Sequence[ShardEntry]) -> _Zip | _Tar:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / self.name(self._number)
        file = path.open("r+b" if entries else "w+b")
        archive = _Zip(file, entries) if self._pack == ZIP else _Tar(file, entries)
        self._archive = archive
        return archive


def shard_name(stem: str, shard: int, *, pack: str) -> str:
    """Returns the file name of an archive."""
    return f"{stem}-{shard:05d}.{pack}"


def whole_entries(folder: Path, entries: Iterable[ShardEntry], stem: str, *, pack: str) -> list[ShardEntry]:
    """Returns the entries of an interrupted run whose archive is long enough to hold them."""
    sizes: dict[int, int] = {}
    whole = []
    for entry in entries:
        if entry.shard not in sizes:
            path = folder / shard_name(stem, entry.shard, pack=pack)
            sizes[entry.shard] = path.stat().st_size if path.is_file() else 0
        if entry.offset + entry.length <= sizes[entry.shard]:
            whole.append(entry)
    return whole


def is_exact(path: Path, entries: Sequence[ShardEntry], *, pack: str) -> bool:
    """Says whether a complete archive holds these entries, in any order, and not a byte of others."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        is_tar = pack == TAR
        header = len(_tar_header(entry.name, entry.length)) if is_tar else _zip_header_bytes(entry.name)
        if entry.offset - header != end:
            return False
        end = entry.offset + entry.length
        end = _padded(end) if is_tar else end
    if pack == TAR:
        return path.stat().st_size == end + END_OF_TAR
    with zipfile.ZipFile(path) as archive:
        return archive.start_dir == end and len(archive.filelist) == len(entries)


class _Zip:
    """A zip that is appended to; its directory, at the end, is written anew each time."""

    def __init__(self, file: BinaryIO | IO[bytes], entries: Sequence[ShardEntry]) -> None:
        self.file = file
        self.offset = 0
        file.seek(max((entry.offset + entry.length for entry in entries), default=0))
        file.truncate()
        # In this mode zipfile begins at the file's position, and takes what we know of the part before it.
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        for entry in entries:
            info = _zip_info(entry.name)
            info.CRC = entry.crc
            info.file_size = info.compress_size = entry.length
            info.header_offset = entry.offset - _zip_header_bytes(entry.name)
            self._zip.filelist.append(info)
            self._zip.NameToInfo[info.filename] = info

    def add(self, name: str, content: bytes) -> None:
        self._zip.writestr(_zip_info(name), content)
        self.offset = self.file.tell() - len(content)

    def close(self) -> None:
        self._zip.close()


class _Tar:
    """A tar that is appended to: header, content, padding."""

    def __init__(self, file: BinaryIO | IO[bytes], entries: Sequence[ShardEntry]) -> None:
        self.file = file
        self.offset = 0
        file.seek(max((_padded(entry.offset + entry.length) for entry in entries), default=0))
        file.truncate()

    def add(self, name: str, content: bytes) -> None:
        self.file.write(_tar_header(name, len(content)))
        self.offset = self.file.tell()
        self.file.write(content)
        self.file.write(bytes(_padded(len(content)) - len(content)))

    def close(self) -> None:
        self.file.write(bytes(END_OF_TAR))


def _zip_header_bytes(name: str) -> int:
    return LOCAL_HEADER_BYTES + len(name.encode())


def _tar_header(name: str, length: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = length
    info.mode = FILE_MODE & 0o777
    return info.tobuf(tarfile.PAX_FORMAT)


def _padded(length: int) -> int:
    return -(-length // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
