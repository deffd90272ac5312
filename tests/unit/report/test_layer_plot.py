"""The plot by layer: what is drawn is in the CSV, chance included."""

import csv

import pytest
from PIL import Image

from fairseq_vgs.evaluation.metrics.bootstrap import Interval
from fairseq_vgs.evaluation.results import Metric, ResultsError
from fairseq_vgs.report.layer_plot import plot_layers


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


def test_png_and_csv(tmp_path):
    table = plot_layers({"run": _content(), "other": _content(shift=5.0)}, tmp_path / "abx.png")
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
    table = plot_layers({"run": _lexical()}, tmp_path / "words.png")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recall"] for row in rows] == ["30.0", "20.0", "1.7"]
    with pytest.raises(ResultsError, match="other: kind, items and conditions must be those of run"):
        plot_layers({"run": _lexical(), "other": _lexical(manifest="1")}, tmp_path / "two.png")
    with pytest.raises(ResultsError, match="plot them apart"):
        plot_layers({"run": _lexical(), "other": _content()}, tmp_path / "two.png")


def test_refusals(tmp_path):
    with pytest.raises(ResultsError, match="other: kind, items and conditions must be those of run"):
        plot_layers({"run": _content(), "other": _content(items="b.item")}, tmp_path / "abx.png")
    plot_layers({"run": _content()}, tmp_path / "abx.png")
    with pytest.raises(FileExistsError, match="pass --force"):
        plot_layers({"run": _content()}, tmp_path / "abx.png")
    plot_layers({"run": _content()}, tmp_path / "abx.png", force=True)
