"""Removes from a data folder to be what no row of its tables names.

Earlier, interrupted runs may have written recordings that the user has since withdrawn, and those of a
picture that is left out are written before the picture is looked at. None of their bytes may get into the
folder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fairseq_vgs.files.archives import ShardWriter, is_exact, shard_name
from fairseq_vgs.files.work import Finished, WorkFolder


def drop_unused(
    work: WorkFolder, kind: str, used: Mapping[str, Finished], *, pack: str, shard_bytes: int
) -> dict[str, Finished]:
    """Removes all media of a kind that are not used, and returns where the used ones now are.

    An archive that holds anything else is copied without it, under a new number: should the run end in
    between, the journal still fits what is there.

    Args:
        work: the work folder.
        kind: ``speech`` or ``pictures``.
        used: finished media that rows will name, by path.
        pack: ``zip``, ``tar``, or empty where media are files.
        shard_bytes: size of the archives.
    """
    folder, placed = work.data / kind, dict(used)
    if not folder.is_dir():
        return placed
    if not pack:
        _keep_only(folder, {item.target for item in placed.values()})
        return placed
    shards: dict[int, list[Finished]] = defaultdict(list)
    for item in placed.values():
        shards[item.shard].append(item)
    inexact = {
        shard: sorted(items, key=lambda item: item.offset)
        for shard, items in sorted(shards.items())
        if not is_exact(_path(folder, kind, shard, pack), [item.entry() for item in items], pack=pack)
    }
    if inexact:
        first = 1 + max(item.shard for item in work.finished.values() if item.kind == kind)
        with ShardWriter(folder, kind, pack=pack, limit=shard_bytes, first=first) as writer:
            moved = [
                item
                for shard, items in inexact.items()
                for item in _copy(_path(folder, kind, shard, pack), items, writer)
            ]
        for item in moved:
            work.add(item)
            placed[item.path] = item
    _keep_only(folder, {shard_name(kind, item.shard, pack=pack) for item in placed.values()})
    return placed


def _path(folder: Path, kind: str, shard: int, pack: str) -> Path:
    return folder / shard_name(kind, shard, pack=pack)


def _copy(path: Path, items: Sequence[Finished], writer: ShardWriter) -> list[Finished]:
    moved = []
    with path.open("rb") as file:
        for item in items:
            file.seek(item.offset)
            entry = writer.add(item.target, file.read(item.length))
            moved.append(replace(item, shard=entry.shard, offset=entry.offset, crc=entry.crc))
    return moved


def _keep_only(folder: Path, names: Collection[str]) -> None:
    """Removes all files below a folder but these, and then folders that are empty."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what lies in a folder comes before it
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in names:
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
