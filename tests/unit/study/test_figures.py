"""A study's figures: what is drawn, and the CSV of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image
from support.study_results import study_results, without

from fairseq_vgs.evaluation.results import read_table
from fairseq_vgs.report.plots import write_figure
from fairseq_vgs.study.figures import recall_at, study_figures

SCENARIOS = ("w2v2", "vgs_plus", "w2v2_then_vgs")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return study_results(tmp_path_factory.mktemp("items"), seeds=(1, 2), scenarios=SCENARIOS)


def by_name(results):
    return {figure.name: figure for figure in study_figures(results)}


def test_figures_and_their_panels(results):
    found = by_name(results)
    assert list(found) == ["losses", "retrieval", "abx", "abx_by_layer", "gradient_cosine", "cka"]
    for name in ("losses", "retrieval", "abx", "abx_by_layer"):
        assert [panel.title for panel in found[name].panels] == ["W2V2", "VGS+", "(W2V2, VGS)"]
    assert [panel.title for panel in found["cka"].panels] == ["VGS+"]
    assert [panel.boundary for panel in found["retrieval"].panels] == [None, None, 80]
    levels = {level.label: level.y[0] for level in found["abx"].panels[0].series if level.x is None}
    untrained = sum(point.best_abx for point in results.untrained.values()) / 2
    assert levels == {"MFCC": 7.2, "chance": 50.0, "untrained": pytest.approx(untrained)}
    chances = [level.y for level in found["retrieval"].panels[0].series if "chance" in level.label]
    assert chances == [[20.0], [20.0]]


def test_no_figure_without_data(tmp_path, results):
    assert "cka" not in by_name(study_results(tmp_path / "plain", seeds=(1,), scenarios=("vgs",)))
    assert by_name(replace(results, points=(), training={}, untrained={})) == {}


def test_unfinished_scenario_keeps_its_panel(results):
    half = without(without(results, "vgs_plus", 1), "vgs_plus", 2)
    panels = by_name(half)["retrieval"].panels
    has_lines = [any(line.x is not None for line in panel.series) for panel in panels]
    assert has_lines == [True, False, True]


def test_png_and_csv_of_what_was_drawn(results, tmp_path):
    figures = by_name(results)
    table = write_figure(figures["retrieval"], tmp_path / "retrieval.png")
    with Image.open(tmp_path / "retrieval.png") as picture:
        assert picture.width >= 1000
        assert len(picture.convert("L").getcolors()) > 20
    rows = {(r["panel"], r["series"], r["seed"], r["x"]): r["value"] for r in read_table(table)}
    finals = results.finals("w2v2_then_vgs")
    ends = [
        float(rows["(W2V2, VGS)", way, seed, "280"])
        for seed in ("1", "2", "mean")
        for way in ("speech → image", "image → speech")
    ]
    assert sum(ends[:2]) / 2 == pytest.approx(recall_at(10)(finals[1]))
    assert ends[4] == pytest.approx((ends[0] + ends[2]) / 2)
    assert ("W2V2", "chance, image → speech", "", "") in rows


def test_layers_are_named_on_their_axis(results, tmp_path):
    table = write_figure(by_name(results)["abx_by_layer"], tmp_path / "abx_by_layer.png")
    rows = {(r["panel"], r["series"], r["seed"], r["x"]): float(r["value"]) for r in read_table(table)}
    final = results.finals("vgs_plus")[2]
    assert rows["VGS+", "end of training", "2", "3"] == final.abx["layer_3"]
    assert rows["VGS+", "untrained", "1", "4"] == results.untrained[1].abx["layer_4"]


def test_older_files_are_replaced(results, tmp_path):
    figure = by_name(results)["cka"]
    for name in ("cka.png", "cka.csv"):
        (tmp_path / name).write_text("old")
    write_figure(figure, tmp_path / "cka.png", force=True)
    assert (tmp_path / "cka.png").read_bytes().startswith(b"\x89PNG")
    assert len(read_table(tmp_path / "cka.csv")) > 10
