"""Recordings alone: what is taken of a folder, and that training can use it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.faults import check_folder, raises_fault
from support.tiny_speech import encode, speech, write

from fairseq_vgs.data.tables import load_audio_table
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import read_audio_list
from fairseq_vgs.modules.conv_spec import parse_conv_layers
from fairseq_vgs.prepare.corpora.speech import Speech

CONV = parse_conv_layers("[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2")


def make_recordings(folder: Path) -> Path:
    for number, name in enumerate(("a/1.wav", "a/2.WAV", "b/1_fr.flac", "c d/ü_fr.ogg", ".hidden/3.wav")):
        kind = {".flac": "FLAC", ".ogg": "OGG"}.get(Path(name).suffix, "WAV")
        subtype = "VORBIS" if kind == "OGG" else "PCM_16"
        write(folder / name, encode(speech(number), kind=kind, subtype=subtype))
    write(folder / "notes.txt", b"not speech")
    return folder


def taken(output: Path, split: str = "train") -> list[str]:
    return [row.audio_id for row in read_audio_list(output / f"{split}.tsv").rows]


def test_every_recording_becomes_part_of_the_split(tmp_path: Path) -> None:
    summary = Speech().prepare(make_recordings(tmp_path / "in"), tmp_path / "out")
    assert taken(tmp_path / "out") == ["a/1.wav", "a/2.WAV", "b/1_fr.flac", "c d/ü_fr.ogg"]
    assert summary["splits"]["train"]["recordings"] == 4
    assert check_folder(tmp_path / "out") == []


def test_patterns_choose(tmp_path: Path) -> None:
    source = make_recordings(tmp_path / "in")
    Speech(only=("*_fr.*", "a/1*"), split="more").prepare(source, tmp_path / "out")
    assert taken(tmp_path / "out", "more") == ["a/1.wav", "b/1_fr.flac", "c d/ü_fr.ogg"]


def test_training_reads_it_as_unpaired_speech(tmp_path: Path) -> None:
    Speech().prepare(make_recordings(tmp_path / "in"), tmp_path / "out")
    table = load_audio_table(tmp_path / "out" / "train.tsv", layers=CONV)
    assert len(table.n_samples) == 4


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in" / "notes.txt", b"")
    with raises_fault("recording.missing", str(tmp_path / "in")):
        Speech().prepare(tmp_path / "in", tmp_path / "out")
    with raises_fault("recording.missing", str(tmp_path / "more")):
        Speech(only=("x*",)).prepare(make_recordings(tmp_path / "more"), tmp_path / "out")
    with raises_fault("corpus.folder", str(tmp_path / "nowhere")):
        Speech().prepare(tmp_path / "nowhere", tmp_path / "out")


def test_an_impossible_split_is_refused() -> None:
    with raises_fault("setting.value", "--split"):
        Speech(split="a/b")


@pytest.mark.parametrize("name", ["broken.wav", "short.flac"])
def test_broken_recordings_are_named(tmp_path: Path, name: str) -> None:
    source = make_recordings(tmp_path / "in")
    write(source / name, b"RIFF")
    with pytest.raises(FaultError) as caught:
        Speech().prepare(source, tmp_path / "out")
    assert [fault.place for fault in caught.value.faults] == [name]
