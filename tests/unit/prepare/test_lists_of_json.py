from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairseq_vgs.files.faults import Fault
from fairseq_vgs.prepare import lists as module
from fairseq_vgs.prepare.lists import TextFields, read_entries


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "list.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("indent", [None, 2])
def test_entries_are_what_json_says(tmp_path: Path, indent: int | None) -> None:
    entries = [{"a": 'Ёж \\ " ]}', "b": [1, -2.5e3, None, True]}, [], "text", 123456, {}, "\U0001f600"]
    content = {"version": 17, "before": {"data": [1]}, "data": entries, "after": [[]], "data2": 12}
    text = json.dumps(content, indent=indent, ensure_ascii=indent is None)
    faults: list[Fault] = []
    placed = [(f"list.json: data[{index}]", entry) for index, entry in enumerate(entries)]
    assert list(read_entries(written(tmp_path, text), "data", faults)) == placed
    assert faults == []


def test_an_empty_list_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    faults: list[Fault] = []
    assert list(read_entries(written(tmp_path, b'\xef\xbb\xbf{"data": [ ] }\n'), "data", faults)) == []
    assert faults == []


@pytest.mark.parametrize(
    ("text", "place", "code"),
    [
        ('{"data": [1, 2', "list.json: character 15", "json.syntax"),
        ('{"data": [1, {"a": tru]}', "list.json: character 20", "json.syntax"),
        ('{"data": [1 2]}', "list.json: character 13", "json.syntax"),
        ('{"data": [NaN]}', "list.json", "json.syntax"),
        ('{"data": {"a": 1}}', "list.json", "json.list"),
        ('{"date": [1]}', "list.json", "json.list"),
        ("[1]", "list.json", "json.list"),
        ("", "list.json: character 1", "json.syntax"),
        ('{"data": []} x', "list.json: character 14", "json.syntax"),
        ("{1: 2}", "list.json: character 2", "json.syntax"),
        ('{"data": [' + "[" * 100_000, "list.json", "json.syntax"),
        ('{"data": [' + "9" * 5000 + "]}", "list.json", "json.syntax"),
        (b'{"data": ["\xff"]}', "list.json:1", "file.encoding"),
    ],
)
def test_what_is_no_such_file_is_a_fault_with_its_place(
    tmp_path: Path, text: str | bytes, place: str, code: str
) -> None:
    faults: list[Fault] = []
    assert list(read_entries(written(tmp_path, text), "data", faults)) == []
    assert [(Path(fault.place).name, fault.code) for fault in faults] == [(place, code)]
    assert len(str(faults[0])) < 600


def test_a_file_of_absurd_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 20)
    faults: list[Fault] = []
    assert list(read_entries(written(tmp_path, '{"data": [1, 2, 3, 4]}'), "data", faults)) == []
    assert [fault.code for fault in faults] == ["json.size"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    faults: list[Fault] = []
    assert list(read_entries(tmp_path / "none.json", "data", faults)) == []
    assert [(fault.place, fault.code) for fault in faults] == [(str(tmp_path / "none.json"), "file.missing")]


FIELDS = {"required": ("wav", "text"), "filled": ("wav",), "optional": ("asr",), "passed_over": ("more",)}


def test_fields_are_taken_in_order_and_unknown_ones_counted(caplog: pytest.LogCaptureFixture) -> None:
    fields, faults = TextFields("caption", **FIELDS), list[Fault]()
    assert fields.take({"text": "", "wav": "a.wav", "more": 1}, "x", faults) == ("a.wav", "", "")
    fields.log_unknown()
    assert caplog.messages == []
    assert fields.take({"text": "b", "wav": "é", "asr": "c", "new": 1}, "x", faults) == ("é", "b", "c")
    assert fields.take({"text": "b", "wav": "é", "asr": 3, "new": 1, "old": 1}, "x", faults) == ("é", "b", "")
    fields.log_unknown()
    assert caplog.messages == ["caption: unknown fields were skipped: 'new' (2), 'old' (1)"]
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
