from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.corpus_trees import described_place, read_corpus, write_places
from support.faults import check_folder, raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ManifestFolder, read_images, read_pairs
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora.places import Places

NO_PICTURES = Places()
SPLITS = ["train", "valid_seen", "valid_unseen", "test_seen", "test_unseen"]


def test_files_say_split_speaker_and_text(tmp_path: Path) -> None:
    write_places(tmp_path, train=[described_place(1), described_place(2, asr_text="une île")])
    (tmp_path / "images").mkdir()
    corpus = read_corpus(Places(images=tmp_path / "images"), tmp_path)
    assert [caption.split for caption in corpus.captions] == ["train", *SPLITS]
    caption = corpus.captions[1]
    assert (caption.audio, caption.speaker, caption.text) == ("wavs/2/utterance_2.wav", "A1BC2", "une île")
    assert caption.image == "b/badlands/gsun_00000000000000000000000000000002.jpg"
    assert caption.place == "train_2020.json: data[1]"
    assert corpus.image_root == tmp_path / "images"
    assert [(picture.image_id, picture.path) for picture in corpus.pictures][1] == (caption.image,) * 2


@pytest.mark.parametrize("name", [".", "placesaudio_2020_splits", "../placesaudio_2020_splits"])
def test_the_files_are_found_in_the_corpus_and_beside_it(tmp_path: Path, name: str) -> None:
    write_places(tmp_path / "in/PlacesAudio_400k_distro")
    root = tmp_path / "in/PlacesAudio_400k_distro"
    (root / name).mkdir(exist_ok=True)
    for path in (root / "metadata").iterdir():
        path.rename(root / name / path.name)
    corpus = read_corpus(NO_PICTURES, tmp_path / "in")
    assert (corpus.audio_root, corpus.pictures) == (root, ())
    assert len(corpus.captions) == 5


def test_a_picture_that_several_describe_is_listed_once(tmp_path: Path) -> None:
    image = "c/canyon/one.JPG"
    write_places(tmp_path, train=[described_place(number, image) for number in range(3)])
    corpus = read_corpus(Places(images=tmp_path), tmp_path)
    assert [picture.path for picture in corpus.pictures].count(image) == 1
    assert [caption.image for caption in corpus.captions].count(image) == 3


def test_all_faults_are_listed_with_their_places(tmp_path: Path) -> None:
    entries: list[Any] = [
        described_place(1),
        described_place(2, wav="wavs/../../x.wav"),
        described_place(3, uttid=described_place(1)["uttid"]),
        {name: value for name, value in described_place(4).items() if name not in ("image", "speaker")},
        described_place(5, wav=None),
        [],
    ]
    write_places(tmp_path, train=entries)
    (tmp_path / "metadata/test_seen_2020.json").unlink()
    (tmp_path / "metadata/dev_seen_2020.json").write_text('{"data": [')
    with pytest.raises(FaultError) as caught:
        read_corpus(NO_PICTURES, tmp_path)
    lines = [str(item) for item in caught.value.faults]
    expected = [
        "train_2020.json: data[2]: uttid must appear only once (first at train_2020.json: data[0]), got",
        "train_2020.json: data[3]: entry must have the field 'speaker'",
        "train_2020.json: data[3]: entry must have the field 'image'",
        "train_2020.json: data[4]: wav must be text that is not empty, got None",
        "train_2020.json: data[5]: entry must be an object, got []",
        f"{tmp_path}/metadata/dev_seen_2020.json: character 11: must be JSON",
        f"{tmp_path}/metadata/test_seen_2020.json: must be there, got no file",
        "train_2020.json: data[1]: audio path must stay below the root, without '..', got 'wavs/../../x.wav'",
    ]
    assert [line.startswith(start) for line, start in zip(lines, expected, strict=True)] == [True] * 8


def test_files_that_are_nowhere_are_named(tmp_path: Path) -> None:
    with raises_fault("corpus.folder"):
        read_corpus(NO_PICTURES, tmp_path)


def test_unknown_fields_are_noted_and_a_text_may_be_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = described_place(1, alignment=[[0, 1, "there"]])
    del entry["asr_text"]
    write_places(tmp_path, train=[entry])
    assert read_corpus(NO_PICTURES, tmp_path).captions[0].text == ""
    assert [record.message for record in caplog.records] == [
        "entry: unknown fields were skipped: 'alignment' (1)"
    ]


def test_a_tree_becomes_a_sound_folder_without_its_empty_recordings(tmp_path: Path) -> None:
    root = write_places(tmp_path / "in", media=True, train=[described_place(1), described_place(2)])
    empty = described_place(2)["wav"]
    (root / empty).write_bytes(b"")
    options = BuildOptions(skip_bad=True)
    summary = Places(images=root / "images").prepare(root, tmp_path / "out", options=options)
    assert check_folder(tmp_path / "out") == []
    files = ManifestFolder(tmp_path / "out")
    assert sorted(files.splits()) == sorted(SPLITS)
    assert [len(read_pairs(files.pairs(split))) for split in SPLITS] == [1] * 5
    assert len(read_images(files.images).rows) == 6
    assert [item["items"] for item in summary["excluded"].values()] == [[empty]]
