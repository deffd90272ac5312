"""A study's page and files: complete, offline, escaped, also half-way; seen by a parser and by Chromium."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from support.browser import CHROMIUM, DRIVER, browser
from support.study_results import HOSTILE, study_results, without

from fairseq_vgs.configs.scenarios import SCENARIOS, scenario_title
from fairseq_vgs.evaluation.results import read_table
from fairseq_vgs.study.page import write_all
from fairseq_vgs.study.tables import NOTHING

VOID = {"meta", "link", "img", "input"}
FIGURES = ("contrasts", "losses", "retrieval", "abx", "abx_by_layer", "gradient_cosine", "cka")
CONTRASTS = [["vgs_plus", "vgs"], ["w2v2_then_vgs", "vgs_plus_then_vgs"]]
ANSWERS = (
    *(
        f"answer_{name}"
        for name in ("sequential_beats_simultaneous", "simultaneous_keeps_more", "vgs_transfers_better")
    ),
    "forgetting_simultaneous_keeps_more",
)
FILES = {
    *(f"{name}{suffix}" for name in ("retrieval", "abx") for suffix in (".csv", ".md", ".tex")),
    *(
        f"{name}{suffix}"
        for name in (
            *FIGURES,
            *ANSWERS,
            *(f"curve_{kind}" for kind in ("recall", "abx", "vgs_loss", "ssl_loss")),
        )
        for suffix in (".csv", ".png", ".pdf", ".svg")
    ),
    *(f"contrasts{suffix}" for suffix in (".json", ".md", ".tex")),
    *("tables.tex", "points.csv", "verdicts.json", "verdicts.md"),
}


class _Page(HTMLParser):
    """Elements with attributes, and the text; every element must be closed in order."""

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
        if self._open[-1:] != ["style"]:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study in the middle of its third seed."""
    folder = tmp_path_factory.mktemp("study")
    updates = {"evaluate_every": 80, "whole_updates": 240, "second_updates": 160}
    results = study_results(folder / "items", **updates, contrasts=CONTRASTS)
    results = without(without(results, "vgs_plus_then_vgs", 3), "vgs_then_w2v2", 3, beyond=160)
    write_all(results, folder)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return _Page((folder / "report.html").read_text(encoding="utf-8"))


def test_all_files_are_written_and_nothing_else(folder):
    assert {path.name for path in (folder / "results").iterdir()} == FILES
    found = json.loads((folder / "results" / "verdicts.json").read_text(encoding="utf-8"))
    assert [verdict["verdict"] for verdict in found] == ["supported", "undecided", "not decidable"]
    found = json.loads((folder / "results" / "contrasts.json").read_text(encoding="utf-8"))
    assert [entry["contrast"] for entry in found if entry["measure"] == "r10"] == CONTRASTS
    sentences = (folder / "results" / "verdicts.md").read_text(encoding="utf-8")
    assert "(VGS, W2V2) has not finished: seed 3." in sentences
    assert len(read_table(folder / "results" / "points.csv")) > 1000


def test_page_shows_verdicts_tables_curves_and_what_is_missing(page):
    for words in (
        "25 of 27 runs",
        "Supported.",
        "Undecided.",
        "Not decidable.",
        "(VGS, W2V2) has not finished: seed 3.",
        "2 of 3",
        "R@10, speech → image, %",
        "MFCC",
        "untrained",
        "chance",
        "How to read this",
        "whole updates",
        "vgs_plus_then_vgs, seed 3",
        "VGS+ minus VGS",
        "(VGS+, VGS) has not finished: seed 3.",
        "The lexical test was not run: the study file has no lexical.",
    ):
        assert words in page.text
    assert all(page.text.count(scenario_title(scenario)) >= 3 for scenario in SCENARIOS)
    assert len(page.all("img")) == len(FIGURES)
    assert len(page.all("svg")) == 4 + len(ANSWERS)
    assert len(page.all("input")) == len(SCENARIOS)


def test_nothing_comes_from_outside_and_nothing_can_run(folder, page):
    text = (folder / "report.html").read_text(encoding="utf-8")
    addresses = [attributes.get("src") or attributes.get("href") for _, attributes in page.elements]
    files = {address for address in addresses if address and not address.startswith(("#", "data:"))}
    assert {f"results/{name}.pdf" for name in FIGURES} < files
    assert all(address.startswith("results/") and (folder / address).exists() for address in files)
    assert re.findall(r"url\((?!#)", text) == []  # clip paths of the charts lie in the page itself
    assert "@import" not in text
    assert page.all("script") == []
    assert "<script" not in text
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert any("default-src 'none'" in meta.get("content", "") for meta in page.all("meta"))
    assert page.text.count(HOSTILE) == 4  # a setting, a fact and two things missing


def test_page_is_accessible(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.all("img"))
    assert all(chart.get("aria-label") and chart["role"] == "img" for chart in page.all("svg"))
    assert all(cell.get("scope") for cell in page.all("th"))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(names)) == len(names)
    assert all(link["href"][1:] in names for link in page.all("a") if link["href"].startswith("#"))


def test_study_that_has_not_begun(tmp_path):
    results = study_results(tmp_path / "items", seeds=(1,), scenarios=("w2v2", "vgs"))
    nothing = replace(results, points=(), untrained={}, training={}, chance={}, baselines={}, facts={})
    text = _Page(write_all(nothing, tmp_path).read_text(encoding="utf-8")).text
    assert "0 of 2 runs" in text
    assert "Nothing has been evaluated yet." in text
    assert text.count("Undecided.") == 1
    assert text.count("Not run: ") == 2
    assert NOTHING in text
    assert not list((tmp_path / "results").glob("*.png"))


def test_older_files_are_replaced_and_one_seed_is_said_to_be_one(tmp_path):
    results = study_results(tmp_path / "items", seeds=(1,), scenarios=("w2v2", "vgs"), probes=False)
    (tmp_path / "report.html").write_text("old")
    path = write_all(results, tmp_path)
    text = _Page(path.read_text(encoding="utf-8")).text
    assert "the interval does not include the variation between seeds" in text
    assert "with one seed" in text
    assert "so that it is too narrow" in text
    assert "rather too wide" not in text
    assert "has not finished" not in text


def test_scenes_share_their_objects_and_the_page_says_so(tmp_path):
    results = study_results(tmp_path / "items", seeds=(1, 2), scenarios=("vgs",), evaluate_every=280)
    scenes = replace(results, settings=replace(results.settings, prepare=["scenes", "{output}/data"]))
    for found, is_said in ((results, False), (scenes, True)):
        text = " ".join(_Page(write_all(found, tmp_path).read_text(encoding="utf-8")).text.split())
        assert ("testing on other scenes of the same objects" in text) is is_said
        assert ("other scenes of the same objects as those of training" in text) is is_said
        assert "rather too wide than too narrow" in text
        assert "p-values are corrected for the number of questions (Holm)" in text


def test_page_says_how_the_recipe_differs_from_the_papers(tmp_path):
    results = study_results(tmp_path / "items", seeds=(1,), scenarios=("vgs",), evaluate_every=280)
    recipe = {"criterion.vgs_loss": "infonce", "model.mask_length": 10}
    text = _Page(write_all(replace(results, recipe=recipe), tmp_path).read_text(encoding="utf-8")).text
    assert (
        text.count("Model and losses are not the paper's: VGS loss infonce (the paper: masked_margin).") == 2
    )
    assert "frames per masked span (model.mask_length)10" in text
    assert "unknown: there is no checkpoint" in _Page(write_all(results, tmp_path).read_text("utf-8")).text


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium here; the structure is tested above")
def test_chromium_shows_pictures_and_hides_lines(folder, tmp_path):
    with browser(tmp_path / "profile") as window:
        window.resize(500, 900)
        window.open(folder / "report.html")
        found = window.run("""
            const pictures = [...document.images], root = document.documentElement;
            for (const picture of pictures) await picture.decode().catch(() => 0);
            const shown = name => [...document.querySelectorAll(`svg .s-${name}`)]
              .filter(line => line.getClientRects().length > 0).length;
            const before = [shown("vgs"), shown("vgs_plus")];
            document.getElementById("show-vgs").click();
            const after = [shown("vgs"), shown("vgs_plus")];
            const colours = new Set([...document.querySelectorAll("svg .s path")]
              .map(line => getComputedStyle(line).stroke).filter(colour => colour !== "none"));
            const swatches = new Set([...document.querySelectorAll(".swatch")]
              .map(swatch => getComputedStyle(swatch).backgroundColor));
            const point = document.querySelector("svg .s use");
            return {
              pictures: pictures.length,
              decoded: pictures.filter(picture => picture.naturalWidth >= 1000).length,
              before, after, colours: [...colours].sort(), swatches: [...swatches].sort(),
              point: [getComputedStyle(point).opacity, point.querySelector("title").textContent],
              requests: performance.getEntriesByType("resource")
                .map(entry => entry.name).filter(name => !name.startsWith("data:")),
              overflow: root.scrollWidth - root.clientWidth,
            };""")
        assert window.console() == []
    assert found["pictures"] == found["decoded"] == len(FIGURES)
    assert found["before"] == [4, 4]
    assert found["after"] == [0, 4]
    assert found["colours"] == found["swatches"]
    assert len(found["colours"]) == len(SCENARIOS)
    assert found["point"] == ["0", "W2V2, update 0: 23.5"]
    assert found["requests"] == []
    assert found["overflow"] == 0  # a narrow window does not scroll sideways
