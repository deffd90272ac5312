from __future__ import annotations

import hashlib
from pathlib import Path

from fairseq_vgs.files.faults import Fault
from fairseq_vgs.files.tables import Table
from fairseq_vgs.manifest.media_check import MediaCheck


def run(
    root: Path, entries: list[str], *, read_media: bool = True, progress: list[tuple[int, int]] | None = None
) -> tuple[list[str | None], list[Fault]]:
    table = Table("t.tsv", tuple(entries), tuple(range(2, 2 + len(entries))), root=root)
    add = None if progress is None else lambda done, total: progress.append((done, total))
    media = MediaCheck(read_media=read_media, total=len(entries), progress=add)

    def problems(data: bytes, row: str, place: str) -> list[Fault]:
        return [Fault(place, f"{row}: bad", "thing.bad")] if data == b"bad" else []

    prints = media.run(table, entry=str, problems=problems)
    return prints, media.faults


def test_problems_get_their_line_and_content_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"good")
    (tmp_path / "b").write_bytes(b"bad")
    (tmp_path / "c").write_bytes(b"")
    prints, faults = run(tmp_path, ["a", "b", "c"])
    assert prints == [hashlib.sha256(b"good").hexdigest(), hashlib.sha256(b"bad").hexdigest(), None]
    assert faults == [Fault("t.tsv:3", "b: bad", "thing.bad")]


def test_missing_files_get_a_line_each_but_a_missing_archive_one(tmp_path: Path) -> None:
    prints, faults = run(tmp_path, ["a", "x.zip:0:1", "b", "x.zip:1:1", "y.zip:1:1"])
    assert prints == [None] * 5
    assert [item.place for item in faults] == ["t.tsv:2", "t.tsv:4", "t.tsv:3", "t.tsv:6"]
    assert [item.code for item in faults] == [*["file.missing"] * 2, *["archive.missing"] * 2]
    assert "2 lines" in faults[2].message


def test_without_reading_places_identify_media(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bad")
    (tmp_path / "x.zip").write_bytes(b"bad")
    prints, faults = run(tmp_path, ["a", "./a", "x.zip:0:1", "x.zip:1:1", "x.zip:1:9", "b"], read_media=False)
    assert prints[0] == prints[1]
    assert len({*prints[:4]}) == 3
    assert prints[4:] == [None, None]
    assert [item.place for item in faults] == ["t.tsv:6", "t.tsv:7"]


def test_a_missing_root_is_one_fault(tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    prints, faults = run(tmp_path / "none", ["a", "b"], progress=progress)
    assert prints == [None, None]
    assert [item.place for item in faults] == ["t.tsv:1"]
    assert progress == [(2, 2)]


def test_progress_counts_every_medium(tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    (tmp_path / "a").write_bytes(b"good")
    run(tmp_path, ["a", "none", "a"], progress=progress)
    assert progress == [(1, 3), (2, 3), (3, 3)]
