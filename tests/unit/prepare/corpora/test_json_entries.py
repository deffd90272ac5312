from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.prepare.corpora import json_entries as module
from fairseq_vgs.prepare.corpora.json_entries import TextFields, read_entries


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "list.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_entries_are_what_json_says_however_the_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    entries = [{"a": 'Ёж \\ " ]}', "b": [1, -2.5e3, None, True]}, [], "text", 123456, {}, "\U0001f600"]
    content = {"version": 17, "before": {"data": [1]}, "data": entries, "after": [[]], "data2": 12}
    text = json.dumps(content, indent=indent, ensure_ascii=indent is None)
    assert list(read_entries(written(tmp_path, text), "data")) == list(enumerate(entries))


def test_an_empty_list_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    assert list(read_entries(written(tmp_path, b'\xef\xbb\xbf{"data": [ ] }\n'), "data")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [1, 2', r"list.json: character 15: must be ',' here, got 'the end'"),
        ('{"data": [1, {"a": tru]}', r"list.json: character 20: data\[1\] must be JSON"),
        ('{"data": [1 2]}', r"list.json: character 13: must be ',' here, got '2\]}'"),
        ('{"data": [NaN]}', r"list.json: character 11: data\[0\] must be JSON \(NaN is no JSON\)"),
        ('{"data": {"a": 1}}', r"list.json: character 10: must be '\[' here"),
        ('{"date": [1]}', r"list.json: must be an object with the list 'data', got none"),
        ("[1]", r"list.json: character 1: must be '{' here, got '\[1\]'"),
        ("", r"list.json: character 1: must be '{' here, got 'the end'"),
        ('{"data": []} x', r"list.json: character 14: must end here"),
        ("{1: 2}", r"must be a field's name in quotes"),
        ('{"data": [' + "[" * 100_000, r"data\[0\] must be JSON"),
        ('{"data": [' + "9" * 5000 + "]}", r"data\[0\] must be JSON"),
        (b'{"data": ["\xff"]}', r"list.json: must be UTF-8 text"),
    ],
)
def test_what_is_no_such_file_is_a_fault_with_its_place(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(FaultError, match=message) as caught:
        list(read_entries(written(tmp_path, text), "data"))
    assert len(caught.value.faults) == 1
    assert len(str(caught.value)) < 600


def test_entries_before_the_fault_are_given(tmp_path: Path) -> None:
    entries = read_entries(written(tmp_path, '{"data": [1, 2, x]}'), "data")
    assert [next(entries), next(entries)] == [(0, 1), (1, 2)]
    with pytest.raises(FaultError, match=r"data\[2\] must be JSON"):
        next(entries)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match=r"none\.json: file is missing"):
        list(read_entries(tmp_path / "none.json", "data"))


def test_an_entry_without_end_does_not_read_in_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    monkeypatch.setattr(module, "MAX_ENTRY", 1000)
    path = written(tmp_path, '{"data": ["' + "a" * 100_000)
    read = []

    class Counting:
        def __init__(self, file: object) -> None:
            self.file = file

        def read(self, size: int) -> str:
            read.append(size)
            return self.file.read(size)

    with path.open() as file, pytest.raises(FaultError, match=r"data\[0\] must be JSON"):
        list(module._Text(Counting(file), "list.json").entries("data"))
    assert sum(read) < 5000


FIELDS = {"required": ("wav", "text"), "filled": ("wav",), "optional": ("asr",), "passed_over": ("more",)}


def test_fields_are_taken_in_order_and_unknown_ones_counted() -> None:
    fields, faults = TextFields("caption", **FIELDS), list[Fault]()
    assert fields.take({"text": "", "wav": "a.wav", "more": 1}, "x", faults) == ("a.wav", "", "")
    assert fields.note() is None
    assert fields.take({"text": "b", "wav": "é", "asr": "c", "new": 1}, "x", faults) == ("é", "b", "c")
    assert fields.take({"text": "b", "wav": "é", "asr": 3, "new": 1, "old": 1}, "x", faults) == ("é", "b", "")
    assert fields.note() == "caption: unknown fields were passed over: 'new' (2), 'old' (1)"
    assert faults == []


@pytest.mark.parametrize(
    ("entry", "messages"),
    [
        ("a.wav", ["caption must be an object, got 'a.wav'"]),
        ({}, ["caption must have the field 'wav'", "caption must have the field 'text'"]),
        (
            {"wav": "", "text": None},
            ["wav must be text that is not empty, got ''", "text must be text, got None"],
        ),
        ({"wav": ["a"], "text": "\ud800"}, ["wav must be text that is not empty, got", "UTF-8 can hold"]),
    ],
)
def test_every_field_at_fault_is_named(entry: object, messages: list[str]) -> None:
    faults: list[Fault] = []
    assert TextFields("caption", **FIELDS).take(entry, "data[3]", faults) is None
    assert len(faults) == len(messages)
    for item, message in zip(faults, messages, strict=True):
        assert item.place == "data[3]"
        assert message in str(item)
