from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from fairseq_vgs.files.archives import ShardEntry, ShardWriter, shard_name, whole_entries
from fairseq_vgs.files.location import read_bytes, resolve

CONTENTS = {f"папка {i}/a{i}.flac": bytes([i]) * (700 + i) for i in range(12)} | {"x" * 150 + ".wav": b"long"}
PACKS = ["zip", "tar"]


def pack_all(folder: Path, pack: str, *, limit: int = 3000) -> list[ShardEntry]:
    with ShardWriter(folder, "speech", pack=pack, limit=limit) as shards:
        return [shards.add(name, content) for name, content in CONTENTS.items()]


def read(folder: Path, pack: str, entry: ShardEntry) -> bytes:
    name = shard_name("speech", entry.shard, pack=pack)
    return read_bytes(resolve(folder, f"{name}:{entry.offset}:{entry.length}"))


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("pack", PACKS)
def test_every_entry_is_read_at_its_place(tmp_path: Path, pack: str) -> None:
    entries = pack_all(tmp_path, pack)
    assert {entry.name: read(tmp_path, pack, entry) for entry in entries} == CONTENTS
    assert {entry.shard for entry in entries} == set(range(len(list(tmp_path.iterdir()))))
    assert entries[-1].shard > 1


@pytest.mark.parametrize("pack", PACKS)
def test_others_read_them_too(tmp_path: Path, pack: str) -> None:
    pack_all(tmp_path, pack)
    found = {}
    for path in tmp_path.iterdir():
        if pack == "zip":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
                assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
                found |= {name: archive.read(name) for name in archive.namelist()}
        else:
            with tarfile.open(path) as archive:
                found |= {member.name: archive.extractfile(member).read() for member in archive}
    assert found == CONTENTS


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("n_done", [0, 1, 4, 5, 12])
@pytest.mark.parametrize("torn", [b"", b"half an entry" * 9])
def test_interrupted_packing_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, pack: str, n_done: int, torn: bytes
) -> None:
    pack_all(tmp_path / "whole", pack)
    writer = ShardWriter(tmp_path / "killed", "speech", pack=pack, limit=3000)
    items = list(CONTENTS.items())
    done = [writer.add(*item) for item in items[:n_done]]
    if done:  # killed: never closed, and an entry was under way
        with (tmp_path / "killed" / writer.name(done[-1].shard)).open("ab") as file:
            file.write(torn)
    assert whole_entries(tmp_path / "killed", done, "speech", pack=pack) == done
    with ShardWriter(tmp_path / "killed", "speech", pack=pack, limit=3000, written=done) as shards:
        for item in items[n_done:]:
            shards.add(*item)
    assert all_bytes(tmp_path / "killed") == all_bytes(tmp_path / "whole")


def test_entries_that_an_archive_is_too_short_for_are_not_whole(tmp_path: Path) -> None:
    entries = pack_all(tmp_path, "tar", limit=1 << 20)
    path = tmp_path / "speech-00000.tar"
    path.write_bytes(path.read_bytes()[: entries[5].offset + 10])
    assert whole_entries(tmp_path, entries, "speech", pack="tar") == entries[:5]
    path.unlink()
    assert whole_entries(tmp_path, entries, "speech", pack="tar") == []


def test_archives_of_an_earlier_run_that_hold_nothing_whole_are_removed(tmp_path: Path) -> None:
    pack_all(tmp_path, "zip")
    with ShardWriter(tmp_path, "speech", pack="zip") as shards:
        shards.add("a", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["speech-00000.zip"]


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of zip, tar, got 'rar'"):
        ShardWriter(tmp_path, "speech", pack="rar")
