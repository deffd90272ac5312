from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.faults import raises_fault

from fairseq_vgs.files.location import (
    MediaLocation,
    check_present,
    media_digest,
    read_bytes,
    resolve,
    split_entry,
)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("a/b.flac", ("a/b.flac", None, None)),
        ("a b/ж:1.flac", ("a b/ж:1.flac", None, None)),
        ("12:30.wav", ("12:30.wav", None, None)),
        ("x.zip:0:12", ("x.zip", 0, 12)),
        ("a b/я.TAR:5:12", ("a b/я.TAR", 5, 12)),
        ("x:1:2.zip:3:4", ("x:1:2.zip", 3, 4)),
        ("x.tar.gz", ("x.tar.gz", None, None)),
        ("a..b/c..wav", ("a..b/c..wav", None, None)),
    ],
)
def test_split_entry(entry: str, expected: tuple[str, int | None, int | None]) -> None:
    assert split_entry(entry) == expected


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "must be a path"),
        ("a\0b", "must be a path"),
        ("/etc/passwd", "not absolute"),
        ("/x.zip:1:2", "not absolute"),
        ("../a.wav", r"without '\.\.'"),
        ("a/../../b.wav", r"without '\.\.'"),
        ("a/..", r"without '\.\.'"),
        ("../x.zip:1:2", r"without '\.\.'"),
        ("x.zip", "must be ARCHIVE:OFFSET:LENGTH"),
        ("x.tar:5", "must be ARCHIVE:OFFSET:LENGTH"),
        ("x.zip:-1:5", "must be ARCHIVE:OFFSET:LENGTH"),
        ("x.zip:a:b", "must be ARCHIVE:OFFSET:LENGTH"),
        ("x.zip:٣:٣", "must be ARCHIVE:OFFSET:LENGTH"),
        ("x.zip:" + "9" * 30 + ":1", "must be ARCHIVE:OFFSET:LENGTH"),
        ("x.zip:5:0", "at least 1 byte"),
        ("x.bin:5:6", r"must name a \.zip or \.tar"),
    ],
)
def test_refused_entries(entry: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_entry(entry)
    with raises_fault("entry.value", "media path"):
        resolve(Path("/data"), entry)


def test_resolve_joins_to_the_root() -> None:
    assert resolve(Path("/data"), "a/b.wav") == MediaLocation(Path("/data/a/b.wav"), None, None)
    assert resolve(Path("/data"), "a/x.zip:3:4") == MediaLocation(Path("/data/a/x.zip"), 3, 4)
    assert str(resolve(Path("/data"), "x.zip:3:4")) == "/data/x.zip:3:4"


def test_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "я b.wav").write_bytes(b"abc")
    location = resolve(tmp_path, "я b.wav")
    check_present(location)
    assert read_bytes(location) == b"abc"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_reads_archive_members(tmp_path: Path, tools: Any, kind: str) -> None:
    members = {"a": b"first member", "b": b"second"}
    pack = tools.pack_zip if kind == "zip" else tools.pack_tar
    entries = pack(tmp_path / f"media.{kind}", members)
    assert [read_bytes(resolve(tmp_path, entry)) for entry in entries] == list(members.values())


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"0123456789")
    assert read_bytes(resolve(tmp_path, "x.zip:4:6")) == b"456789"
    for read in (read_bytes, check_present):
        with raises_fault("archive.cut", "x.zip") as caught:
            read(resolve(tmp_path, "x.zip:5:6"))
        assert all(number in str(caught.value) for number in ("5", "11", "10"))


def test_an_absurd_length_asks_for_no_memory(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"0123456789")
    with raises_fault("archive.cut", "x.zip"):
        read_bytes(resolve(tmp_path, "x.zip:0:999999999999999999"))


def test_missing_and_irregular_files(tmp_path: Path) -> None:
    with raises_fault("file.missing", "a.wav"):
        read_bytes(resolve(tmp_path, "a.wav"))
    (tmp_path / "folder").mkdir()
    with raises_fault("file.kind"):
        read_bytes(resolve(tmp_path, "folder"))
    os.mkfifo(tmp_path / "pipe")
    with raises_fault("file.kind"):
        read_bytes(resolve(tmp_path, "pipe"))
    (tmp_path / "file").write_bytes(b"")
    with raises_fault("file.unreadable", "below.wav"):
        read_bytes(resolve(tmp_path, "file/below.wav"))


def test_an_unreadable_file_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(b"abc")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", fail)
    with raises_fault("file.unreadable", "a.wav") as caught:
        read_bytes(resolve(tmp_path, "a.wav"))
    assert "Permission denied" in str(caught.value)


def test_a_digest_of_files_changes_with_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12")
    (tmp_path / "b.zip").write_bytes(b"123456")
    entries = ["a.png", "b.zip:0:2", "b.zip:2:2", "missing.png", ""]
    found = [media_digest(tmp_path, entries), media_digest(tmp_path, reversed(entries))]
    assert media_digest(tmp_path, entries) == found[0]
    for name in ("a.png", "b.zip"):
        os.utime(tmp_path / name, ns=(0, 1_000))
        found.append(media_digest(tmp_path, entries))
    (tmp_path / "a.png").write_bytes(b"123")
    os.utime(tmp_path / "a.png", ns=(0, 1_000))
    found.append(media_digest(tmp_path, entries))
    (tmp_path / "missing.png").touch()
    found.append(media_digest(tmp_path, entries))
    assert len(set(found)) == len(found)
