"""Archives for random access: uncompressed zips and tars, whose entries are byte ranges.

Files are packed in a last pass, once all exist. An interrupted pass resumes and gives the same bytes.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO

from fairseq_vgs.files.atomic import atomic_write

# The earliest time a zip can hold; fixed, so that the same content gives the same archive.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
_UNIX, _FILE_MODE = 3, 0o100644
ZIP, TAR = KINDS = ("zip", "tar")
SHARD_BYTES = 1 << 30
# The fixed part of a zip's local header ends with the lengths of the name and the extra field.
_LOCAL_HEADER = struct.Struct("<26xHH")


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """The position of an entry's content in its archive, in bytes."""

    name: str
    offset: int
    length: int


def write_archive(file: BinaryIO, entries: Iterable[tuple[str, bytes]], *, pack: str) -> None:
    """Write (name, content) entries as an uncompressed, reproducible archive."""
    if pack == ZIP:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, content in entries:
                info = zipfile.ZipInfo(name, _TIMESTAMP)
                info.create_system = _UNIX
                info.external_attr = _FILE_MODE << 16
                archive.writestr(info, content)
        return
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive_:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = _FILE_MODE & 0o777
            archive_.addfile(member, io.BytesIO(content))


def list_entries(file: BinaryIO, *, pack: str) -> list[StoredEntry]:
    """Return the positions of an uncompressed archive's entries, in order."""
    file.seek(0)
    if pack == TAR:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            return [StoredEntry(member.name, member.offset_data, member.size) for member in archive]
    entries = []
    with zipfile.ZipFile(file) as archive_:
        for info in archive_.infolist():
            file.seek(info.header_offset)
            n_names = sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size)))
            entries.append(StoredEntry(info.filename, file.tell() + n_names, info.file_size))
    return entries


def packed_sizes(folder: Path, stem: str, *, pack: str) -> dict[str, int]:
    """Return the length of every file that an interrupted ``pack_files`` has already packed."""
    paths = _archives(folder, stem, pack)
    return {entry.name: entry.length for path in paths for entry in _listed(path, pack)}


def pack_files(
    folder: Path, names: Sequence[str], stem: str, *, pack: str, limit: int = SHARD_BYTES
) -> dict[str, str]:
    """Move a folder's files into archives ``STEM-00000.zip``, ``STEM-00001.zip``, ... in the same folder.

    Files are removed once their archive is complete, so at most one archive exists twice on disk. After an
    interruption, the next pass keeps the archives that still fit and unpacks the others; a loose file
    replaces an archive entry of the same name. Files that are not named are left alone.

    Names are relative to the folder, in archive order; an archive is closed at ``limit`` bytes. Returns the
    archive entry of every file, ``ARCHIVE:OFFSET:LENGTH``.

    Raises:
        ValueError: ``pack`` is neither ``zip`` nor ``tar``.
    """
    if pack not in KINDS:
        raise ValueError(f"pack: expected one of {', '.join(KINDS)}, got {pack!r}")
    sizes = packed_sizes(folder, stem, pack=pack)
    sizes |= {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}
    shards = enumerate(_shards({name: sizes[name] for name in names}, limit))
    plan = {folder / f"{stem}-{number:05d}.{pack}": members for number, members in shards}
    kept = _keep_finished(plan, sizes, pack)
    for path in _archives(folder, stem, pack):
        if path not in kept:
            _unpack(path, frozenset(names), pack)
    for path, members in plan.items():
        if path not in kept:
            contents = ((name, (folder / name).read_bytes()) for name in members)
            with atomic_write(path, mode="wb", force=True, partial=True) as file:
                write_archive(file, contents, pack=pack)
            for name in members:
                (folder / name).unlink()
    remove_empty_folders(folder)
    placed = ((path.name, entry) for path in plan for entry in _listed(path, pack))
    return {entry.name: f"{archive}:{entry.offset}:{entry.length}" for archive, entry in placed}


def remove_empty_folders(folder: Path) -> None:
    """Remove empty folders below a folder, and the folder itself if it ends up empty."""
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:  # contents first
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def _shards(sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    members: list[str] = []
    length = 0
    for name, size in sizes.items():
        if length >= limit:
            yield members
            members, length = [], 0
        members.append(name)
        length += size
    if members:
        yield members


def _keep_finished(plan: dict[Path, list[str]], sizes: dict[str, int], pack: str) -> set[Path]:
    """Return the leading archives that already hold exactly their planned members."""
    kept: set[Path] = set()
    for path, members in plan.items():
        wanted = [(name, sizes[name]) for name in members]
        found = [(entry.name, entry.length) for entry in _listed(path, pack)] if path.is_file() else []
        if found != wanted or any((path.parent / name).is_file() for name in members):
            break
        kept.add(path)
    return kept


def _unpack(path: Path, names: Collection[str], pack: str) -> None:
    with path.open("rb") as file:
        for entry in list_entries(file, pack=pack):
            target = path.parent / entry.name
            if entry.name in names and not target.is_file():
                file.seek(entry.offset)
                write_whole(target, file.read(entry.length))
    path.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears only when complete; not synced to disk, since there may be very many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{next(_NUMBERS)}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# Distinct for the threads of a process; only one process works in a folder.
_NUMBERS = count()


def _archives(folder: Path, stem: str, pack: str) -> list[Path]:
    return sorted(folder.glob(f"{stem}-[0-9][0-9][0-9][0-9][0-9].{pack}"))


def _listed(path: Path, pack: str) -> list[StoredEntry]:
    with path.open("rb") as file:
        return list_entries(file, pack=pack)
