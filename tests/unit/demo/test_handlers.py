"""The pieces of HTML that answer what somebody says, shows or chooses."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.retrieval_folders import HOSTILE, write_media_folder
from support.tiny_checkpoint import save_tiny
from support.tiny_folder import make_folder, noise

from fairseq_vgs.api.load import load
from fairseq_vgs.demo import about, show
from fairseq_vgs.demo.collection import Side, open_collection
from fairseq_vgs.demo.handlers import Handlers
from fairseq_vgs.demo.search import Search

VOID = {"img", "br"}


class Piece(HTMLParser):
    """Elements with attributes, and all text; every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], "", []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def is_harmless(self):
        addresses = [one[key] for _, one in self.elements for key in ("src", "href") if key in one]
        return (
            not self.all("script")
            and all(address.startswith(("data:image/", "data:audio/")) for address in addresses)
            and not any(name.startswith("on") for _, attributes in self.elements for name in attributes)
        )


def content(address):
    return io.BytesIO(base64.b64decode(address.partition("base64,")[2]))


@pytest.fixture(scope="module")
def handlers(tmp_path_factory):
    """A model of raw pictures, on captions whose texts try to be HTML."""
    folder = tmp_path_factory.mktemp("demo")
    checkpoint = save_tiny(folder / "model.pt", image_encoder="patches")
    model = load(checkpoint, "cpu")
    collection = open_collection(model, write_media_folder(folder / "data"))
    return Handlers(Search(model, collection), seed=1)


@pytest.fixture
def recording(tmp_path):
    soundfile.write(tmp_path / "me.wav", noise(22_050, seed=3), 44_100)
    return str(tmp_path / "me.wav")


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (70, 50), "green").save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_pictures_for_a_recording(handlers, recording):
    text, found, other = handlers.speak(recording)
    piece = Piece(text)
    assert piece.is_harmless()
    assert other is None
    buttons = piece.all("button")
    assert [button["data-index"] for button in buttons] == [str(n) for n in range(7)]  # one has no caption
    assert [button["aria-pressed"] for button in buttons] == ["true"] + 6 * ["false"]
    assert all("rank" in button["aria-label"] and "score" in button["aria-label"] for button in buttons)
    assert "correct" not in text
    shown = Image.open(content(piece.all("img")[0]["src"]))
    number = found.answers[0].item
    expected = (30 * number, 255 - 30 * number, 90)
    assert max(abs(a - b) for a, b in zip(shown.getpixel((20, 15)), expected, strict=True)) < 6


def test_pictures_for_a_caption(handlers):
    text, found, _ = handlers.choose_caption(2)
    piece = Piece(text)
    assert piece.is_harmless()
    assert HOSTILE in piece.text
    assert f"a correct one is at rank {found.correct_rank:g}" in piece.text
    assert text.count("✓ correct") == 1
    assert [item for item in piece.all("li") if item["class"].startswith("hit")]


def test_heat_map_and_player(handlers, recording):
    _, found, _ = handlers.speak(recording)
    piece = Piece(handlers.heat(found, 1))
    assert piece.is_harmless()
    (player,) = piece.all("audio")
    assert player["aria-label"]
    info = soundfile.info(content(player["src"]))
    assert (info.samplerate, info.frames) == (44_100, 22_050)
    assert len([box for box in piece.all("span") if box.get("class") == "box"]) == 49
    pictures = piece.all("img")
    cells = Image.open(content(pictures[2]["src"]))
    assert cells.size == (5, 49)  # moments of 0.1 s by cells of the picture
    assert "Heat map of 49 regions over 0.5 s" in pictures[2]["alt"]
    assert handlers.heat(found, 99) == handlers.heat(None) == ""


def test_captions_for_a_picture(handlers, picture):
    piece = Piece(handlers.look(picture))
    assert piece.is_harmless()
    assert len(piece.all("audio")) == 8
    assert HOSTILE in piece.text
    assert "correct" not in piece.text
    assert "a correct one is at rank" in handlers.choose_picture(3)
    assert "hint" in handlers.look(None)


def test_choices(handlers):
    names = [label for label, _ in handlers.captions()]
    assert len(names) == 14
    assert names[1] == "speech/1.wav (speaker <1>)"  # it has no text
    assert 0 <= handlers.draw_caption() < 14
    piece = Piece(handlers.draw_pictures())
    assert piece.is_harmless()
    assert sorted(int(button["data-index"]) for button in piece.all("button")) == list(range(7))


@pytest.mark.parametrize("name", ["photo.png", "photo.wav"])
def test_a_picture_as_sound(handlers, picture, tmp_path, name):
    (tmp_path / name).write_bytes((tmp_path / "photo.png").read_bytes())
    text, found, _ = handlers.speak(str(tmp_path / name))
    piece = Piece(text)
    assert found is None
    assert piece.all("p")[0]["role"] == "alert"
    assert piece.text.startswith(f"{name}: ")  # nobody knows the folder
    assert show.FIND_CAPTIONS in piece.text
    assert "\n" not in piece.text
    assert handlers.heat(found) == ""


def test_a_recording_as_picture_and_damage(handlers, recording, tmp_path):
    piece = Piece(handlers.look(recording))
    assert piece.text.startswith("me.wav: ")
    assert show.FIND_PICTURES in piece.text
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n<script>")
    assert Piece(handlers.look(str(tmp_path / "cut.png"))).text.startswith("cut.png: ")
    (tmp_path / "silent.wav").write_bytes((tmp_path / "me.wav").read_bytes()[:44])
    assert Piece(handlers.speak(str(tmp_path / "silent.wav"))[0]).text.startswith("silent.wav: ")


def test_a_model_of_regions_says_how_to_look_at_other_pictures(picture, tmp_path):
    data = make_folder(tmp_path / "data", lengths={"test": [6000, 7000]}, n_images=2).path
    model = load(save_tiny(tmp_path / "model.pt"), "cpu")
    handlers = Handlers(Search(model, open_collection(model, data)), seed=1)
    piece = Piece(handlers.look(picture))
    assert piece.all("p")[0]["role"] == "alert"
    assert piece.text.startswith(str(tmp_path / "model.pt"))
    assert "--regions" in piece.text
    assert "\n" not in piece.text
    assert "✓ correct" in handlers.choose_picture(1)  # whose regions are in the data folder


def test_recordings_alone_have_no_captions(tmp_path, picture):
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "folder" / "a.png")
    model = load(save_tiny(tmp_path / "model.pt", image_encoder="patches"), "cpu")
    handlers = Handlers(Search(model, open_collection(model, tmp_path / "folder")), seed=1)
    assert handlers.captions() == []
    assert Piece(handlers.look(picture)).text == show.NO_CAPTIONS


def test_long_recordings_are_played_as_far_as_the_model_heard(handlers, tmp_path):
    soundfile.write(tmp_path / "long.wav", noise(8 * 16_000, seed=3), 16_000)
    _, found, _ = handlers.speak(str(tmp_path / "long.wav"))
    (player,) = Piece(handlers.heat(found)).all("audio")
    assert soundfile.info(content(player["src"])).frames == 5 * 16_000


class Trained:
    """A model that says where it was trained."""

    measure = "cosine"

    def __init__(self, checkpoint, **config):
        self.checkpoint = checkpoint
        checkpoint.config.clear()
        checkpoint.config.update(config)


def trained_on(folder, tmp_path, **criterion):
    from fairseq_vgs.checkpoints.load import load_checkpoint

    checkpoint = load_checkpoint(save_tiny(tmp_path / "model.pt"))
    return Trained(
        checkpoint, task={"data": str(folder)}, criterion=criterion, dataset={"train_subset": "train"}
    )


def test_the_page_says_what_the_model_is(tmp_path, handlers):
    data = make_folder(tmp_path / "data").path
    model = trained_on(data, tmp_path)
    said = about.facts(model, handlers.search.collection)
    assert said[1:] == [
        "trained on 12 captions of 6 pictures",
        "searches 7 pictures and 14 captions of split test of data",
        "score: cosine",
    ]
    assert said[0].startswith("Model model.pt (")
    assert about.caveat(model) == about.FEW
    alone = replace(
        handlers.search.collection,
        captions=Side([], np.empty((0, 1), np.float32), np.empty(0, np.int64)),
        title="Bilder",
    )
    assert about.facts(model, alone)[2] == "searches 7 pictures of Bilder"
    piece = Piece(show.about([*said, HOSTILE], about.caveat(model)))
    assert piece.is_harmless()
    assert re.search("12 captions.*little speech", piece.text, re.DOTALL)


def test_caveats(tmp_path):
    from fairseq_vgs.configs import embedded_data

    assert about.caveat(trained_on(embedded_data(), tmp_path)) == about.ONE_VOICE
    data = make_folder(tmp_path / "data").path
    (data / "summary.json").write_text('{"corpus": "scenes"}')
    assert about.caveat(trained_on(data, tmp_path)) == about.ONE_VOICE
    assert about.caveat(trained_on(data, tmp_path, alpha_values=[0.0])) == about.WITHOUT_PICTURES
    assert about.caveat(trained_on(tmp_path / "gone", tmp_path, alpha_values=[0.5])) == about.UNKNOWN
    (data / "summary.json").write_text("no JSON")
    (data / "train.pairs.tsv").write_text("nothing")
    assert about.caveat(trained_on(data, tmp_path)) == about.UNKNOWN
