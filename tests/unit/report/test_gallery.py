"""The gallery: complete, offline, escaped, accessible; seen by a parser, and by Chromium if there is one."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.browser import CHROMIUM, DRIVER, browser
from support.faults import raises_fault
from support.retrieval_folders import HOSTILE, N_CAPTIONS, N_IMAGES, write_media_folder, write_results

from fairseq_vgs.evaluation.results import ResultsError
from fairseq_vgs.features.heat_map import HOP_SECONDS, HeatMap
from fairseq_vgs.report import gallery

VOID = {"meta", "link", "img", "br"}
N_REGIONS, N_MOMENTS = 3, 5  # clips of 0.5 s
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here; the structure is tested above"
)


class _Page(HTMLParser):
    """Elements with attributes, all text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
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

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def classes(self, name: str) -> int:
        return sum(name in attributes.get("class", "").split() for _, attributes in self.elements)


@pytest.fixture
def built(tmp_path):
    data = write_media_folder(tmp_path / "data")
    write_results(tmp_path / "results")
    Image.new("RGB", (60, 40), "white").save(tmp_path / "training.png")
    path = gallery.build_gallery(
        tmp_path / "results", data, tmp_path / "out", n_queries=8, seed=1, plot=tmp_path / "training.png"
    )
    return path, _Page(path.read_text(encoding="utf-8"))


def test_page_has_queries_answers_summary_and_plot(built):
    _, page = built
    assert page.classes("card") == 8 + 7  # seven pictures have captions
    n_speech, n_image = page.classes("speech"), page.classes("card") - page.classes("speech")
    n_below = page.classes("below")
    assert page.classes("pictures") == n_speech == 8
    assert len(page.all("li")) == 5 * (n_speech + n_image) + n_below
    assert len(page.all("audio")) >= n_speech + 5 * n_image
    for words in (
        "trained (42 updates)",
        "untrained",
        "chance",
        "R@10",
        "drawn at random (seed 1)",
        "worst ranks",
    ):
        assert words in page.text
    assert any("Curves" in image["alt"] for image in page.all("img"))


def test_every_card_shows_a_correct_answer(built):
    path, _ = built
    for card in path.read_text(encoding="utf-8").split("<article")[1:]:
        assert "✓ correct" in card


def test_nothing_comes_from_outside(built):
    path, page = built
    addresses = [attributes.get("src") or attributes.get("href") for _, attributes in page.elements]
    addresses = [address for address in addresses if address and not address.startswith(("#", "data:"))]
    assert addresses
    for address in addresses:
        assert re.fullmatch(r"media/(caption|picture|plot|heat)-[0-9a-f]{16}\.\w+", address)
        assert (path.parent / address).is_file()
    text = path.read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert {Path(address).name for address in addresses} == {
        file.name for file in (path.parent / "media").iterdir()
    }


def test_text_of_the_data_stays_text(built):
    path, page = built
    assert page.all("script") == []
    assert HOSTILE in page.text
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "<script" not in path.read_text(encoding="utf-8")


def test_page_is_accessible(built):
    _, page = built
    assert page.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.all("img"))
    assert all(player.get("aria-label") and "controls" in player for player in page.all("audio"))
    assert all(cell.get("scope") for cell in page.all("th"))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))
    names = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert all(link["href"][1:] in names for link in page.all("a"))
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


class _Heats:
    """Region r is hottest at moment r + 1; remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def heat_map(self, audio_id, image_id):
        self.asked.append((audio_id, image_id))
        values = np.full((N_REGIONS, N_MOMENTS), -0.1, dtype=np.float32)
        for region in range(N_REGIONS):
            values[region, region + 1] = 0.4
        boxes = np.array([[0.1 * n, 0.2, 0.1 * n + 0.3, 0.8] for n in range(N_REGIONS)], dtype=np.float32)
        return HeatMap(values, boxes, np.linspace(0, 1, 25, dtype=np.float32))


@pytest.fixture
def heated(tmp_path):
    data, heats = write_media_folder(tmp_path / "data"), _Heats()
    items = write_results(tmp_path / "results")
    ranks = items.ranks
    path = gallery.build_gallery(tmp_path / "results", data, tmp_path / "out", n_queries=8, heat_maps=heats)
    return path, heats, items, ranks


def test_heat_maps_of_the_first_and_of_the_correct_picture(heated):
    path, heats, items, ranks = heated
    asked: dict[str, list[str]] = {}
    for audio_id, image_id in heats.asked:
        asked.setdefault(audio_id, []).append(image_id)
    assert len(asked) == 8
    n_hits = 0
    for audio_id, image_ids in asked.items():
        caption = items.audio_ids.index(audio_id)
        right = items.image_ids[items.caption_image[caption]]
        is_hit = ranks.speech_to_image[caption] == 1
        n_hits += is_hit
        assert image_ids[-1] == right
        assert len(image_ids) == 1 if is_hit else image_ids[0] != right
    assert 0 < n_hits < 8
    page = _Page(path.read_text(encoding="utf-8"))
    assert page.classes("heat") == len(heats.asked) == 16 - n_hits
    assert page.classes("box") == N_REGIONS * len(heats.asked)
    assert page.classes("hit") >= 8
    shares = [attributes["data-shares"] for attributes in page.all("figure")]
    assert all(json.loads(text)[1] == [-0.25, -0.25, 1.0, -0.25, -0.25] for text in shares)
    spoken = [image["alt"] for image in page.all("img") if "Heat map" in image["alt"]]
    assert all("region 1 at 0.15 s, region 2 at 0.25 s, region 3 at 0.35 s" in text for text in spoken)
    assert "Measured by leaving out" in page.text


def test_heat_maps_are_pictures_of_one_pixel_per_region_and_moment(heated):
    path = heated[0]
    drawn = [np.asarray(Image.open(file)) for file in (path.parent / "media").glob("heat-*.png")]
    loudness, pixels = sorted(drawn, key=len, reverse=True)  # all are alike here, and stored once
    assert pixels.shape == (N_REGIONS, N_MOMENTS, 4)
    assert loudness.shape[1] == 25
    assert (np.diff(loudness[..., 3].sum(axis=0, dtype=int)) >= 0).all()  # louder towards the end
    hot, cold = pixels[1, 2].astype(int), pixels[1, 0].astype(int)
    assert hot[3] == 255
    assert cold[3] == 64
    assert hot[0] > hot[2]  # orange
    assert cold[0] < cold[2]  # blue


def test_the_only_script_is_the_packages_own(heated):
    path = heated[0]
    text = path.read_text(encoding="utf-8")
    page = _Page(text)
    assert len(page.all("script")) == 1
    script = text.partition("<script>")[2].partition("</script>")[0]
    own = resources.files("fairseq_vgs.report").joinpath("templates/heat.js").read_text(encoding="utf-8")
    assert script.strip() == own.strip()
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert all(image.get("alt") is not None for image in page.all("img"))


def test_same_seed_same_page(built, tmp_path):
    path, _ = built
    arguments = (tmp_path / "results", tmp_path / "data", tmp_path / "again")
    again = gallery.build_gallery(*arguments, n_queries=8, seed=1, plot=tmp_path / "training.png")
    assert again.read_bytes() == path.read_bytes()


def test_existing_page_is_kept_and_force_removes_only_own_media(built, tmp_path):
    path, _ = built
    arguments = (tmp_path / "results", tmp_path / "data", tmp_path / "out")
    with raises_fault("output.exists", "index.html"):
        gallery.build_gallery(*arguments)
    mine = path.parent / "media" / "mine.txt"
    mine.write_text("x")
    before = len(list(mine.parent.iterdir()))
    gallery.build_gallery(*arguments, n_queries=1, force=True)
    assert mine.exists()
    assert len(list(mine.parent.iterdir())) < before


def test_unreadable_picture_is_counted_and_the_page_made(tmp_path):
    data = write_media_folder(tmp_path / "data")
    write_results(tmp_path / "results")
    for number in range(N_IMAGES):
        (data / f"{number}.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 6)).save(data / "0.png", format="EPS")  # which Pillow would decode by Ghostscript
    page = _Page(
        gallery.build_gallery(tmp_path / "results", data, tmp_path / "out").read_text(encoding="utf-8")
    )
    assert page.all("img") == []
    assert f"{N_IMAGES} pictures could not be read" in page.text
    assert "picture not available" in page.text


def test_animated_pictures_are_said_to_show_their_first_frame(tmp_path, caplog):
    data = write_media_folder(tmp_path / "data")
    write_results(tmp_path / "results")
    first, second = (Image.new("RGB", (40, 30), colour) for colour in ("red", "green"))
    for number in range(N_IMAGES):
        first.save(data / f"{number}.png", format="GIF", save_all=True, append_images=[second])
    page = gallery.build_gallery(tmp_path / "results", data, tmp_path / "out")
    assert "animated pictures: only the first frame is used" in caplog.text
    shown = next((page.parent / "media").glob("picture-*.jpg"))
    assert Image.open(shown).convert("RGB").getpixel((20, 15))[0] > 200


def test_results_of_other_data_are_refused(tmp_path):
    data = write_media_folder(tmp_path / "data")
    write_results(tmp_path / "results")
    text = (data / "test.pairs.tsv").read_text(encoding="utf-8").replace("speech/3.wav", "speech/other.wav")
    (data / "test.pairs.tsv").write_text(text, encoding="utf-8")
    with raises_fault("results.other_data", str(tmp_path / "results"), error=ResultsError) as caught:
        gallery.build_gallery(tmp_path / "results", data, tmp_path / "out")
    assert "1 unknown ids (first: speech/3.wav)" in str(caught.value)


@pytest.mark.parametrize(
    "path", ["similarity", "pool.images", "provenance.command", "models.trained.metrics"]
)
def test_a_key_that_the_page_shows_is_named_with_its_file_if_it_is_missing(path, tmp_path):
    data = write_media_folder(tmp_path / "data")
    write_results(tmp_path / "results")
    metrics = tmp_path / "results" / "metrics.json"
    content = part = json.loads(metrics.read_text(encoding="utf-8"))
    *parents, key = path.split(".")
    for name in parents:
        part = part[name]
    del part[key]
    metrics.write_text(json.dumps(content), encoding="utf-8")
    with raises_fault("results.broken", str(metrics), error=ResultsError):
        gallery.build_gallery(tmp_path / "results", data, tmp_path / "out", n_queries=1)


def test_choice_holds_a_seeded_draw_and_the_worst():
    ranks = np.array([1.0, 1, 9, 1, np.nan, 2, 1, 50, 1, 1])
    choices = gallery.choose_queries(ranks, 8, seed=3)
    assert [choice.index for choice in choices if choice.is_worst] == [7, 2]
    drawn = [choice.index for choice in choices if not choice.is_worst]
    assert len(set(drawn)) == 6
    assert 4 not in drawn
    assert choices == gallery.choose_queries(ranks, 8, seed=3)
    assert drawn != [
        choice.index for choice in gallery.choose_queries(ranks, 8, seed=4) if not choice.is_worst
    ]
    assert len(gallery.choose_queries(ranks, 99, seed=3)) == 9
    assert not any(choice.is_worst for choice in gallery.choose_queries(np.ones(5), 4, seed=1))
    assert gallery.choose_queries(np.full(3, np.nan), 4, seed=1) == []


@pytest.mark.parametrize(
    ("score", "shown"), [(0.5, "0.500"), (12.34567, "12.346"), (-0.25, "−0.250"), (-0.0001, "0.000")]
)
def test_scores_have_equally_many_decimals(score, shown):
    assert gallery.Answer(None, "a", score=score).score_text == shown


@needs_chromium
def test_chromium_loads_pictures_and_plays_sound(built, tmp_path):
    with browser(tmp_path / "profile") as window:
        window.resize(500, 900)
        window.open(built[0])
        report = window.run("""
            const clips = [...document.querySelectorAll("audio")], pictures = [...document.images];
            const pause = () => new Promise(done => setTimeout(done, 50));
            for (const picture of pictures) {
              picture.loading = "eager"; await picture.decode().catch(() => 0);
            }
            for (let i = 0; i < 200 && clips.some(clip => clip.readyState < 1 && !clip.error); i++)
              await pause();
            await clips[0].play();
            for (let i = 0; i < 100 && clips[0].currentTime === 0; i++) await pause();
            const root = document.documentElement;
            return {
              clips: clips.length, playable: clips.filter(clip => clip.duration > 0).length,
              played: clips[0].currentTime, pictures: pictures.length,
              shown: pictures.filter(picture => picture.naturalWidth > 0).length,
              overflow: root.scrollWidth - root.clientWidth,
            };""")
        assert window.console() == []
    assert report["clips"] == report["playable"] > N_CAPTIONS
    assert report["pictures"] == report["shown"] > N_IMAGES
    assert report["played"] > 0
    assert report["overflow"] == 0  # a narrow window does not scroll sideways


@needs_chromium
def test_chromium_moves_the_cursor_and_lights_the_boxes(heated, tmp_path):
    with browser(tmp_path / "profile") as window:
        window.resize(500, 900)
        window.open(heated[0])
        report = window.run(f"""
            const figure = document.querySelector(".heat"), card = figure.closest(".card");
            const clip = card.querySelector("audio"), map = figure.querySelector(".map");
            const cursor = figure.querySelector(".cursor"), boxes = [...figure.querySelectorAll(".box")];
            const pause = () => new Promise(done => setTimeout(done, 20));
            const heats = () => boxes.map(box => Number(box.style.getPropertyValue("--heat")));
            const seek = async time => {{
              const sought = new Promise(done => clip.addEventListener("seeked", done, {{once: true}}));
              clip.currentTime = time; await sought; return heats();
            }};
            for (let i = 0; i < 200 && clip.readyState < 1; i++) await pause();
            const before = getComputedStyle(cursor).visibility;
            await clip.play();
            const places = new Set();
            for (let i = 0; i < 200 && !clip.ended; i++) {{ places.add(cursor.style.left); await pause(); }}
            const middle = await seek(2.5 * {HOP_SECONDS});
            const left = parseFloat(cursor.style.left);
            const between = await seek(3.0 * {HOP_SECONDS});
            const frame = map.getBoundingClientRect(), root = document.documentElement;
            const sought = new Promise(done => clip.addEventListener("seeked", done, {{once: true}}));
            const clientX = frame.left + 0.8 * frame.width;
            map.dispatchEvent(new MouseEvent("click", {{bubbles: true, clientX}}));
            await sought;
            return {{
              before, after: getComputedStyle(cursor).visibility, places: places.size, middle, left, between,
              clicked: clip.currentTime, overflow: root.scrollWidth - root.clientWidth,
              cells: map.querySelector("img").naturalWidth,
            }};""")
        assert window.console() == []
    assert report["before"] == "hidden"
    assert report["after"] == "visible"
    assert report["places"] > 3  # it moved along while the clip played
    assert report["left"] == pytest.approx(50)
    assert report["middle"] == [0, 1, 0]
    assert report["between"] == pytest.approx([0, 0.375, 0.375], abs=1e-3)  # halfway between 1 and -0.25
    assert report["clicked"] == pytest.approx(0.8 * 0.5, abs=0.01)
    assert report["cells"] == N_MOMENTS
    assert report["overflow"] == 0
