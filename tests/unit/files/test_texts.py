"""Text and JSON files: what is read, and the one fault of each that is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.faults import raises_fault

from fairseq_vgs.alignments.read import read_alignments
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.texts import read_json, read_object, read_text, utf_16
from fairseq_vgs.files.user_tables import read_table
from fairseq_vgs.files.yaml_files import load_yaml
from fairseq_vgs.manifest import read_audio_list
from fairseq_vgs.metrics.abx.items import read_items
from fairseq_vgs.prepare.corpora.tuxpaint import read_captions

STEP = "write it again"


class OwnError(FaultError):
    """Of a caller."""


def written(folder: Path, content: bytes, name: str = "x.json") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("text", ["a\tb\n", '{"ключ": 1}\n', "File type = 'ooTextFile'\nü ɐ̃"])
def test_utf_16_is_known_with_and_without_its_mark(text: str) -> None:
    for name in ("UTF-16LE", "UTF-16BE"):
        assert utf_16(text.encode(name)) == utf_16(f"\ufeff{text}".encode(name)) == name
    assert utf_16(text.encode()) == utf_16(bytes(64)) == utf_16(b"") == utf_16(b"a\tb\0cd\n" * 9) == ""


@pytest.mark.parametrize(
    ("name", "read", "content"),
    [
        ("a.tsv", read_audio_list, ".\na\t1\n"),
        ("a.csv", lambda path: read_table(path, {"a": "a"}, required=("a",), faults=[]), "a\nx\n"),
        ("a.yaml", load_yaml, "seeds: [1]\n"),
        ("a.json", lambda path: read_json(path, STEP), '{"a": 1}'),
        ("a.item", read_items, "#file onset offset #phone prev-phone next-phone speaker\n"),
        ("a.TextGrid", lambda path: read_alignments([path]), 'File type = "ooTextFile"\n'),
        ("a.lab", lambda path: read_alignments([path]), "#\n0.1 125 a\n"),
        ("a.flite", lambda path: read_alignments([path]), "a:0.2\n"),
        ("a.alignment.txt", lambda path: read_alignments([path]), 'x ",A," "0.1,0.2,0.3"\n'),
        ("a.txt", read_captions, "An apple.\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_every_reader_names_utf_16(
    tmp_path: Path, name: str, read: Callable[[Path], object], content: str, encoding: str
) -> None:
    for mark in ("\ufeff", ""):
        path = written(tmp_path, (mark + content).encode(encoding), name)
        if mark and name in ("a.csv", "a.TextGrid"):
            continue  # read
        with raises_fault("file.encoding", name) as caught:
            read(path)
        assert "got UTF-16" in str(caught.value)
        assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        (b'{"a": tru}', "json.syntax", "x.json: character 7"),
        (b"", "json.syntax", "x.json: character 1"),
        (b"[" * 100_000, "json.syntax", "x.json"),
        (b"9" * 5000, "json.syntax", "x.json"),
        (b'{"a":\n"\xff"}', "file.encoding", "x.json:2"),
        (b"[1]", "json.kind", "x.json"),
        (b'{"b": 1}', "json.key", "x.json"),
    ],
)
def test_json_that_is_no_such_object_is_one_fault_of_the_callers_class(
    tmp_path: Path, content: bytes, code: str, place: str
) -> None:
    path = written(tmp_path, content)
    with raises_fault(code, place, error=OwnError) as caught:
        read_object(path, STEP, required=("a",), error=OwnError)
    assert str(path) in str(caught.value)


def test_what_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, b'\xef\xbb\xbf{"a": "\xc3\xbc"}\r\n')
    assert read_object(path, STEP, required=("a",)) == {"a": "ü"}
    with raises_fault("file.missing", "none.json", error=OwnError):
        read_text(tmp_path / "none.json", STEP, error=OwnError)
    with raises_fault("file.unreadable", tmp_path.name):
        read_text(tmp_path, STEP)
