from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.faults import check_folder

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import (
    AudioRow,
    ManifestFolder,
    PairRow,
    UtteranceRow,
    read_utterances,
    write_audio_list,
    write_pairs,
    write_utterances,
)

ROWS = (UtteranceRow("a ж.wav", "s1", "сказал"), UtteranceRow("b.wav"))


@pytest.fixture
def folder(tmp_path: Path) -> ManifestFolder:
    files = ManifestFolder(tmp_path)
    for number, row in enumerate(ROWS):
        samples = np.random.default_rng(number).uniform(-0.5, 0.5, 800)
        soundfile.write(tmp_path / row.audio_id, samples, 16_000)
    write_audio_list(files.audio_list("train"), [AudioRow(row.audio_id, 800) for row in ROWS], root=".")
    write_utterances(files.utterances("train"), ROWS)
    return files


def test_what_is_written_is_read(folder: ManifestFolder) -> None:
    assert read_utterances(folder.utterances("train")) == ROWS
    assert (
        folder.utterances("train").read_text("utf-8")
        == "audio_id\tspeaker\ttext\na ж.wav\ts1\tсказал\nb.wav\t\t\n"
    )
    assert check_folder(folder.path) == []


def test_the_table_is_no_split_of_its_own(folder: ManifestFolder) -> None:
    assert folder.splits() == ["train"]
    folder.audio_list("train").unlink()
    assert folder.splits() == ["train"]
    assert check_folder(folder.path)[0].code == "file.missing"


def test_unknown_and_paired_utterances_are_faults(folder: ManifestFolder) -> None:
    write_utterances(folder.utterances("train"), [*ROWS, UtteranceRow("c.wav")], force=True)
    write_pairs(folder.pairs("train"), [PairRow("b.wav", "image")])
    found = [fault for fault in check_folder(folder.path) if "utterances" in fault.place]
    assert [(fault.place, fault.code) for fault in found] == [
        ("train.utterances.tsv:3", "item.duplicate"),
        ("train.utterances.tsv:4", "sound.unknown"),
    ]
    assert "'c.wav'" in found[1].message


def test_faulty_lines_are_named(folder: ManifestFolder) -> None:
    path = folder.utterances("train")
    path.write_text(path.read_text("utf-8") + "b.wav\ts2\ttwice\nshort\t\n", "utf-8")
    with pytest.raises(FaultError) as caught:
        read_utterances(path)
    assert [fault.place for fault in caught.value.faults] == [
        "train.utterances.tsv:4",
        "train.utterances.tsv:5",
    ]
