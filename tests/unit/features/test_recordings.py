"""Recordings by name, and items that are outside of them."""

from dataclasses import replace
from decimal import Decimal

import pytest
from support.abx_material import write_recordings
from support.faults import raises_fault

from fairseq_vgs.features.recordings import check_items, open_recordings
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.metrics.abx import read_items


@pytest.fixture
def folder(tmp_path):
    return write_recordings(tmp_path / "set")


def test_names_are_those_of_files_without_ending(folder):
    recordings = open_recordings(folder)
    assert list(recordings) == ["r0", "r1", "r2"]
    recording = recordings["r1"]
    assert (recording.audio_id, recording.n_samples, recording.place) == ("r1.wav", 19_200, "test.tsv:3")
    assert recording.waveform().shape == (19_200,)


def test_names_of_a_table(folder):
    lines = ["file\ttext\taudio_id", "one\tx\tr0.wav", "two\t\tr1.wav", "three\ty\tr2.wav", "more\t\tr9.wav"]
    (folder / "utterances.tsv").write_text("\n".join(lines) + "\n")
    assert {name: row.audio_id for name, row in open_recordings(folder).items()} == {
        "one": "r0.wav",
        "two": "r1.wav",
        "three": "r2.wav",
    }


@pytest.mark.parametrize(
    ("table", "code", "place"),
    [
        ("audio_id\tname\n", "table.column", "utterances.tsv:1"),
        ("audio_id\tfile\nr0.wav\n", "table.line", "utterances.tsv:2"),
        ("audio_id\tfile\nr0.wav\ta\nr1.wav\tb\n", "recording.name", "test.tsv:4"),
        ("audio_id\tfile\nr0.wav\ta\nr0.wav\tb\n", "recording.duplicate", "utterances.tsv:3"),
        ("audio_id\tfile\nr0.wav\ta\nr1.wav\tb\nr2.wav\ta\n", "recording.duplicate", "test.tsv:4"),
    ],
)
def test_faulty_tables(folder, table, code, place):
    (folder / "utterances.tsv").write_text(table)
    with raises_fault(code, place):
        open_recordings(folder)


def test_two_files_of_one_name_in_two_folders(folder):
    (folder / "a/b").mkdir(parents=True)
    (folder / "r0.wav").rename(folder / "a/b/r1.wav")
    (folder / "test.tsv").write_text((folder / "test.tsv").read_text().replace("r0.wav", "a/b/r1.wav"))
    recordings = open_recordings(folder)
    assert list(recordings) == ["a/b/r1", "r1", "r2"]
    first, *_ = read_items(folder / "phones.item")
    named = ("a/b/r1", "b/r1", "r1", "r2", "a/b/r1.wav")
    found = check_items([replace(first, file=name) for name in named], recordings, name="x.item")
    assert [item.file for item in found] == ["a/b/r1", "a/b/r1", "r1", "r2", "a/b/r1"]


def test_a_name_that_fits_two_recordings_is_refused(folder):
    for name in ("anna", "bob"):
        (folder / name).mkdir()
        (folder / f"r{int(name == 'bob')}.wav").rename(folder / name / "é.wav")
    rows = (folder / "test.tsv").read_text().replace("r0.wav", "anna/é.wav").replace("r1.wav", "bob/é.wav")
    (folder / "test.tsv").write_text(rows)
    recordings = open_recordings(folder)
    first, *_ = read_items(folder / "phones.item")
    with raises_fault("recording.ambiguous", "x.item:2") as caught:
        check_items([replace(first, file="e\u0301")], recordings, name="x.item")
    assert "not both anna/é and bob/é, got" in str(caught.value)
    (found,) = check_items([replace(first, file="bob/e\u0301")], recordings, name="x.item")
    assert found.file == "bob/é"


def test_two_recordings_of_one_name(folder):
    (folder / "test.tsv").write_text((folder / "test.tsv").read_text().replace("r0.wav", "r1.flac"))
    with raises_fault("recording.duplicate", "test.tsv:3") as caught:
        open_recordings(folder)
    assert "'r1'" in str(caught.value)


def test_archive_entries_need_names(folder):
    (folder / "test.tsv").write_text(".\nspeech.zip:41:100\t1000\n")
    with raises_fault("recording.name", "test.tsv:2"):
        open_recordings(folder)


def test_items_outside_recordings(folder):
    items = list(read_items(folder / "phones.item"))
    recordings = open_recordings(folder)
    assert check_items(items, recordings, name="phones.item") == items
    items[2] = replace(items[2], file="unknown")
    items[11] = replace(items[11], offset=Decimal("1.2199"))  # within a frame of the end at 1.2 s
    items[12] = replace(items[12], offset=Decimal("1.2201"))
    with pytest.raises(FaultError) as caught:
        check_items(items, recordings, name="phones.item")
    assert [fault.place for fault in caught.value.faults] == ["phones.item:4", "phones.item:14"]
    assert "file must be one of the 3 recordings, got 'unknown'" in str(caught.value)
    assert "offset must be within the recording's 1.200 s, got '1.2201'" in str(caught.value)
