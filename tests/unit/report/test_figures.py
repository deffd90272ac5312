"""The figures of ``fairseq-vgs plot``: what is drawn is in the CSV, chance included."""

from __future__ import annotations

import csv
import math

import pytest
from PIL import Image
from support.faults import raises_fault

from fairseq_vgs.evaluation.results import Metric, ResultsError
from fairseq_vgs.metrics.intervals import Interval
from fairseq_vgs.report import figures
from fairseq_vgs.report.plots import write_figure
from fairseq_vgs.report.run_logs import ProbeRecord, TrainingLog, TrainingLogError, parse_training_log


@pytest.fixture
def log():
    lines = []
    for update in (10, 20, 30):
        alpha = update / 30
        lines.append(
            f'{{"loss": {40 / update}, "vgs_loss": 1, "ssl_loss": 2, "alpha": {alpha}, '
            f'"num_updates": {update}}}'
        )
        recalls = ", ".join(
            f'"valid_{direction}_r{k}": {update + k}'
            for direction in ("speech_to_image", "image_to_speech")
            for k in (1, 5, 10)
        )
        pool = '"valid_retrieval_images": 50, "valid_retrieval_captions": 150'
        lines.append(f'{{"valid_loss": 3, {recalls}, {pool}, "valid_num_updates": {update}}}')
    return parse_training_log(lines)


def test_png_and_csv_hold_the_curves(log, tmp_path):
    table = write_figure(figures.training_figure(log), tmp_path / "training.png")
    with Image.open(tmp_path / "training.png") as picture:
        assert picture.width > 1000
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [(row["update"], row["value"]) for row in rows if row["series"] == "total, train"]
    assert losses == [("10", "4.0"), ("20", "2.0"), ("30", repr(40 / 30))]
    recalls = {row["series"] for row in rows if row["panel"].startswith("Retrieval, image → speech")}
    assert {"R@1, valid", "R@10, valid", "R@10, valid (chance)"} <= recalls
    assert {row["unit"] for row in rows} == {"nats per item", "recall, %", "alpha"}


def test_recall_of_several_runs(log, tmp_path):
    other = parse_training_log(['{"valid_speech_to_image_r1": 7, "valid_num_updates": 5}'])
    table = write_figure(figures.recall_figure({"VGS": log, "VGS+": other}), tmp_path / "recall.png")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["panel"] for row in rows} == {
        f"{direction}, R@{k}" for direction in ("speech → image", "image → speech") for k in (1, 10)
    }
    first = [row for row in rows if row["panel"] == "speech → image, R@1"]
    assert [(row["series"], row["update"], float(row["value"])) for row in first] == [
        ("VGS", "10", 11.0),
        ("VGS", "20", 21.0),
        ("VGS", "30", 31.0),
        ("VGS+", "5", 7.0),
        ("VGS (chance)", "", pytest.approx(2.0)),
    ]
    silent = parse_training_log(['{"loss": 1, "num_updates": 1}'])
    with raises_fault("log.empty", "silent", error=TrainingLogError):
        figures.recall_figure({"silent+": log, "silent": silent})


def test_chance_comes_from_the_pool_in_the_log(log):
    assert figures.recall_chance(log, "valid", "speech_to_image", 5) == pytest.approx(10.0)
    chance = figures.recall_chance(log, "valid", "image_to_speech", 5)
    assert 9.0 < chance < 10.0
    assert figures.recall_chance(TrainingLog({}), "valid", "speech_to_image", 5) is None


def test_panels_name_pool_and_leave_out_what_is_missing(log):
    titles = [panel.title for panel in figures.training_figure(log).panels]
    assert titles == [
        "Loss",
        "Retrieval, speech → image (50 images, 150 captions)",
        "Retrieval, image → speech (50 images, 150 captions)",
        "Weight of the VGS loss",
    ]
    short = parse_training_log(['{"loss": 1, "alpha": 0.5, "num_updates": 1}'])
    assert [panel.title for panel in figures.training_figure(short).panels] == ["Loss"]


def test_recalls_that_any_order_reaches_are_named_but_not_drawn(tmp_path):
    recalls = ", ".join(f'"valid_speech_to_image_r{k}": 100' for k in (1, 5, 10))
    pool = '"valid_retrieval_images": 10, "valid_retrieval_captions": 10'
    small = parse_training_log([f'{{{recalls}, {pool}, "valid_num_updates": 5}}'])
    (panel,) = figures.training_figure(small).panels
    legend = [series.legend_text for series in panel.series]
    assert legend[:3] == ["R@1, valid", "R@5, valid", "R@10, valid: not drawn (k ≥ pool)"]
    assert legend[3:] == ["chance (same colour)"] * 2
    table = write_figure(figures.recall_figure({"VGS": small}), tmp_path / "recall.png")
    assert "R@10" not in table.read_text(encoding="utf-8")


def test_nothing_to_draw():
    for make, content in ((figures.training_figure, TrainingLog({})), (figures.probe_figure, [])):
        with raises_fault("log.empty", error=TrainingLogError):
            make(content)


def record(update, cosine=0.25, *, drift=True):
    groups = ("extractor", "input", "layer_1", "layer_2", "shared")
    cka = {"extractor": 1.0, "layer_1": 1 - update / 100} if drift else {}
    return ProbeRecord(
        update, dict.fromkeys(groups, cosine), dict.fromkeys(groups, 2.0), dict.fromkeys(groups, 0.1), cka
    )


def test_png_and_csv_hold_the_probes(tmp_path):
    table = write_figure(
        figures.probe_figure([record(0), record(10, -0.5), record(20, math.nan)]), tmp_path / "probes.png"
    )
    with Image.open(tmp_path / "probes.png") as picture:
        assert picture.width > 1000
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    drift = [(row["update"], row["value"]) for row in rows if row["unit"] == "linear CKA"]
    assert drift[:3] == [("0", "1.0"), ("10", "1.0"), ("20", "1.0")]
    assert drift[3:] == [("0", "1.0"), ("10", "0.9"), ("20", "0.8")]
    cosine = [row["value"] for row in rows if row["unit"] == "cosine" and row["series"] == "layer 2"]
    assert cosine == ["0.25", "-0.5", ""]
    assert len(rows) == 3 * (5 * 3 + 2)


def test_lines_differ():
    panel = figures.probe_figure([record(0)]).panels[0]
    assert len({series.colour for series in panel.series}) == len(panel.series) == 5
    assert [series.label for series in panel.series if series.style == "--"] == ["shared"]


def test_axes_show_small_cosines_and_all_of_the_drift():
    cosine, drift = figures.probe_figure([record(0, 0.01), record(27, -0.02), record(28, math.nan)]).panels[
        :2
    ]
    assert cosine.limits == (-0.02, 0.02)
    assert drift.limits == (0.7, 1.0)


def test_a_run_without_drift_has_no_such_panel():
    assert [panel.unit for panel in figures.probe_figure([record(5, drift=False)]).panels].count(
        "linear CKA"
    ) == 0


def _content(*, items="a.item", shift=0.0):
    def metrics(**values):
        return {
            "metrics": {
                name: Metric(
                    Interval(value + shift, value + shift - 1, value + shift + 1), 9, 50.0, "%"
                ).as_json()
                for name, value in values.items()
            }
        }

    return {
        "kind": "abx",
        "items": {"file": items, "sha256": "0"},
        "condition": {"speaker": "within", "context": "any"},
        "models": {"trained": metrics(layer_0=30.0, layer_1=20.0), "mfcc": metrics(mfcc=6.0)},
    }


def test_layers_of_several_results(tmp_path):
    table = write_figure(
        figures.layer_figure({"run": _content(), "other": _content(shift=5.0)}), tmp_path / "abx.png"
    )
    with Image.open(tmp_path / "abx.png") as picture:
        assert picture.width > 500
    with table.open(encoding="utf-8", newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        ("run", "trained", "layer_0", "30.0", "29.0", "31.0", "%"),
        ("run", "trained", "layer_1", "20.0", "19.0", "21.0", "%"),
        ("run", "mfcc", "mfcc", "6.0", "5.0", "7.0", "%"),
        ("other", "trained", "layer_0", "35.0", "34.0", "36.0", "%"),
        ("other", "trained", "layer_1", "25.0", "24.0", "26.0", "%"),
        ("other", "mfcc", "mfcc", "11.0", "10.0", "12.0", "%"),
        ("", "chance", "", "50.0", "", "", "%"),
    ]


def _lexical(*, manifest="0"):
    content = _content()
    figures = content["models"]["trained"]["metrics"]
    figures["layer_0"]["chance"] = figures["layer_1"]["chance"] = 1.7
    return {
        "kind": "lexical",
        "split": "test",
        "counts": {"tokens": 80, "words": 4, "single_tokens": 0},
        "models": {"trained": content["models"]["trained"]},
        "provenance": {"manifest": {"test.tsv": manifest}},
    }


def test_words(tmp_path):
    table = write_figure(figures.layer_figure({"run": _lexical()}), tmp_path / "words.png")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recall"] for row in rows] == ["30.0", "20.0", "1.7"]
    with raises_fault("results.other_data", "other", error=ResultsError):
        figures.layer_figure({"run": _lexical(), "other": _lexical(manifest="1")})
    with raises_fault("results.other_data", "other", error=ResultsError):
        figures.layer_figure({"run": _lexical(), "other": _content()})


def test_other_items_are_refused():
    with raises_fault("results.other_data", "other", error=ResultsError):
        figures.layer_figure({"run": _content(), "other": _content(items="b.item")})
