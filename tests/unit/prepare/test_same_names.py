"""Recordings of the same name in two folders stay two, from the corpus to ABX items and text units."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from support.corpus_trees import described_place, write_places
from support.faults import check_folder
from support.tiny_speech import encode, picture, speech, write

from fairseq_vgs.cli.main import main
from fairseq_vgs.features.recordings import check_items, open_recordings
from fairseq_vgs.manifest import ManifestFolder, read_audio_list, read_pairs
from fairseq_vgs.metrics.abx import read_items
from fairseq_vgs.prepare.corpora.places import Places

SPEAKERS = ("anna", "bob")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of two speakers, each with ``1.wav``, and alignments as the Montreal aligner has them."""
    rows = ["audio,image,text"]
    for number, speaker in enumerate(SPEAKERS):
        write(tmp_path / f"rec/{speaker}/1.wav", encode(speech(number)))
        write(tmp_path / f"aligned/{speaker}/1.flite", f"pau:0.05 a:0.1 b:0.15 c:0.2{number}".encode())
        rows.append(f"rec/{speaker}/1.wav,p.png,said by {speaker}")
    write(tmp_path / "p.png", picture(1))
    table = write(tmp_path / "t.csv", "\n".join(rows).encode())
    splits = ("--valid-share", "0", "--test-share", "0")
    assert main(["prepare", "pairs", str(table), str(tmp_path / "data"), "--convert", "always", *splits]) == 0
    return tmp_path / "data"


def test_items_find_their_recordings(data: Path) -> None:
    path = data / "x.item"
    assert main(["prepare", "items", str(data.parent / "aligned"), str(path), "--speaker-folder"]) == 0
    items, recordings = read_items(path), open_recordings(data, "train")
    assert [(item.file, item.speaker) for item in items] == [("anna/1", "anna"), ("bob/1", "bob")]
    assert list(recordings) == [f"rec/{speaker}/1" for speaker in SPEAKERS]
    assert [item.file for item in check_items(items, recordings, name="x.item")] == list(recordings)


def test_text_units_are_those_of_each(data: Path) -> None:
    assert main(["prepare", "text", str(data), "--vocabulary-size", "40"]) == 0
    ids = [row.audio_id for row in read_audio_list(data / "text/train.tsv").rows]
    lines = (data / "text/train.ltr").read_text("utf-8").splitlines()
    assert len(ids) == len(lines) == len(SPEAKERS)
    for audio_id, units in zip(ids, lines, strict=True):
        assert units.replace(" ", "").endswith(audio_id.split("/")[1])


def test_lists_of_a_corpus_may_spell_names_otherwise_than_the_disk(tmp_path: Path) -> None:
    entries = [described_place(number, f"b/é {number}.jpg", wav=f"wavs/é/{number}.wav") for number in (1, 2)]
    root = write_places(tmp_path, train=entries, media=True)
    for folder in ("wavs", "images/b"):
        for path in sorted((root / folder).rglob("*é*")):
            path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    Places(images=root / "images").prepare(root, tmp_path / "out")
    assert check_folder(tmp_path / "out") == []
    names = ManifestFolder(tmp_path / "out")
    # Ids of pictures are those of the corpus, which region features have; paths are those of the disk.
    assert {pair.image_id for pair in read_pairs(names.pairs("train"))} == {"b/é 1.jpg", "b/é 2.jpg"}
