"""What is searched, and what is found, with a stand-in for the model whose embeddings are plain to see."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.faults import raises_fault
from support.tiny_checkpoint import save_tiny
from support.tiny_folder import make_folder, noise

from fairseq_vgs.api.load import load
from fairseq_vgs.demo.collection import Collection, Item, Side, open_collection
from fairseq_vgs.demo.search import N_ANSWERS, Search
from fairseq_vgs.features.heat_map import HeatMap
from fairseq_vgs.media.pictures import read_picture


class Plain:
    """Embeds a file as the number that its name ends with; the score of two numbers is their product."""

    measure, device = "dot", "cpu"

    def __init__(self):
        self.asked = []

    def embed_speech(self, recordings):
        return np.array([[float(Path(path).stem[-1])] for path in recordings], np.float32).reshape(-1, 1)

    embed_images = embed_speech

    def heat_map(self, speech, image):
        self.asked.append((speech, image))
        return HeatMap(
            np.zeros((1, 2), np.float32), np.array([[0, 0, 1, 1]], np.float32), np.ones(10, np.float32)
        )


class Reading(Plain):
    """Looks into files of pictures, too."""

    def embed_images(self, pictures):
        for path in pictures:
            read_picture(path, place=str(path))
        return self.embed_speech(pictures)


def search_of(vectors, groups, captions=((0, 5), (1, 7))):
    pictures = [Item(f"picture {n}", Path(f"{n}.png")) for n in range(len(vectors))]
    spoken = [
        Item(f"caption {n}", Path(f"c{value}.wav"), "text", "me") for n, (_, value) in enumerate(captions)
    ]
    collection = Collection(
        "numbers",
        Side(pictures, np.array(vectors, np.float32)[:, None], np.array(groups)),
        Side(spoken, np.array([[v] for _, v in captions], np.float32), np.array([g for g, _ in captions])),
        lambda number: f"image {number}",
    )
    return Search(Plain(), collection)


def test_pictures_are_ranked_for_a_recording_whose_picture_nobody_knows():
    found = search_of([1, 3, 2], [0, 1, 2]).pictures(Path("me9.wav"))
    assert [(one.item, one.rank, one.score) for one in found.answers] == [(1, 1, 27), (2, 2, 18), (0, 3, 9)]
    assert found.correct_rank is None
    assert found.known is None


def test_a_caption_of_the_collection_finds_its_pictures():
    search = search_of([1, 3, 2, 3], [0, 1, 0, 2])
    found = search.pictures_of(0)
    assert found.query == Path("c5.wav")
    assert [(one.item, one.is_correct) for one in found.answers] == [
        (1, False),
        (3, False),
        (2, True),
        (0, True),
    ]
    assert found.correct_rank == 3


def test_the_correct_picture_is_listed_below_the_best():
    n_pictures = N_ANSWERS + 3
    search = search_of(list(range(n_pictures, 0, -1)), range(n_pictures), [(n_pictures - 1, 2)])
    found = search.pictures_of(0)
    assert len(found.answers) == N_ANSWERS + 1
    assert found.answers[-1].is_below
    assert found.correct_rank == n_pictures


def test_captions_are_ranked_for_a_picture():
    search = search_of([1, 3], [0, 1])
    assert [one.item for one in search.captions(Path("x1.png")).answers] == [1, 0]
    assert search.captions_of(0).correct_rank == 2
    assert search.captions_of(1).correct_rank == 1


def test_without_captions_nothing_is_found():
    search = search_of([1, 3], [0, 1], [])
    assert search.captions_of(0).answers == ()
    assert search.captions(Path("x1.png")).correct_rank is None


def test_heat_maps_are_of_the_recording_and_the_picture_of_the_collection():
    search = search_of([1, 3], [0, 1])
    assert search.heat_map(Path("me9.wav"), 1).values.shape == (1, 2)
    assert search.model.asked == [(Path("me9.wav"), "image 1")]


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "my pictures ü"
    (folder / "sub").mkdir(parents=True)
    Image.new("RGB", (9, 7), "red").save(folder / "a1.png")
    Image.new("RGB", (9, 7), "blue").save(folder / "sub" / "b2.JPG", format="JPEG")
    (folder / "c3.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("x")
    soundfile.write(folder / "d4.wav", noise(8000, seed=1), 44_100)
    return folder


def test_any_folder_of_pictures_and_recordings(files, caplog):
    with caplog.at_level(logging.WARNING):
        collection = open_collection(Reading(), files)
    assert [item.name for item in collection.pictures.items] == ["a1.png", "sub/b2.JPG"]
    assert [item.name for item in collection.captions.items] == ["d4.wav"]
    assert collection.pictures.vectors.tolist() == [[1], [2]]
    assert "c3.png" in caplog.text
    assert "notes" not in caplog.text
    assert collection.image(1) == files / "sub" / "b2.JPG"
    # which of them belong together is unknown
    assert Search(Plain(), collection).pictures_of(0).correct_rank is None


def test_recordings_and_pictures_that_cannot_be_used_are_left_out_and_named(files, caplog):
    soundfile.write(files / "short5.wav", noise(100, seed=1), 16_000)
    soundfile.write(files / "silent6.wav", np.zeros(16_000), 16_000)
    (files / "sound7.png").write_bytes((files / "d4.wav").read_bytes())
    model = load(save_tiny(files.parent / "model.pt", image_encoder="patches"), "cpu")
    with caplog.at_level(logging.WARNING):
        collection = open_collection(model, files)
    assert [item.name for item in collection.captions.items] == ["d4.wav"]
    assert len(collection.pictures) == 2
    assert collection.captions.vectors.shape == (1, model.dim)
    for name in ("short5.wav", "silent6.wav", "sound7.png", "c3.png"):
        assert name in caplog.text


def test_folders_without_anything_to_search(tmp_path, files):
    with raises_fault("folder.empty", str(tmp_path / "empty")):
        (tmp_path / "empty").mkdir()
        open_collection(Plain(), tmp_path / "empty")
    with raises_fault("setting.unused", "--split"):
        open_collection(Plain(), files, "test")


@pytest.fixture
def data(tmp_path):
    lengths = {"valid": [7000, 7400], "test": [6000 + 300 * number for number in range(8)]}
    return make_folder(tmp_path / "data", lengths=lengths, n_images=4).path


def test_a_split_is_searched_with_the_regions_of_its_folder(data, tmp_path):
    model = load(save_tiny(tmp_path / "model.pt"), "cpu")
    collection = open_collection(model, data)
    assert collection.title == "split test of data"
    assert [item.name for item in collection.pictures.items] == [f"image{n}" for n in range(4)]
    assert [item.label for item in collection.captions.items] == [f"caption {n}" for n in range(8)]
    search = Search(model, collection)
    # the recording of a caption is embedded as the caption was
    known, outside = search.pictures_of(3), search.pictures(data / "test" / "3.wav")
    assert [one.item for one in known.answers] == [one.item for one in outside.answers]
    scores = [[one.score for one in found.answers] for found in (known, outside)]
    np.testing.assert_allclose(*scores, atol=1e-5)
    heat = search.heat_map(known.query, 2)
    assert heat.values.shape == (3, 5)  # image 2 has three regions; 6,900 samples are 0.43 s
    assert np.abs(heat.values).max() > 0
    assert len(open_collection(model, data, "valid").captions) == 2


def test_splits_that_do_not_fit(data, tmp_path):
    model = SimpleNamespace(embed_speech=lambda _: None)
    with raises_fault("split.unknown", "--split"):
        open_collection(model, data, "train")
    for path in data.glob("*.pairs.tsv"):
        path.unlink()
    with raises_fault("split.unknown", str(data)):
        open_collection(model, data)
