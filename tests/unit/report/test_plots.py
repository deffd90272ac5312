"""Plots: what is drawn is in the CSV, chance included."""

from __future__ import annotations

import csv

import pytest
from PIL import Image

from fairseq_vgs.report import plots
from fairseq_vgs.report.training_log import TrainingLog, TrainingLogError, parse_training_log


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
    table = plots.plot_training(log, tmp_path / "training.png")
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
    table = plots.plot_recall({"VGS": log, "VGS+": other}, tmp_path / "recall.png")
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
    with pytest.raises(TrainingLogError, match="silent: log must hold recalls"):
        plots.plot_recall({"silent+": log, "silent": silent}, tmp_path / "other.png")


def test_chance_comes_from_the_pool_in_the_log(log):
    assert plots.recall_chance(log, "valid", "speech_to_image", 5) == pytest.approx(10.0)
    chance = plots.recall_chance(log, "valid", "image_to_speech", 5)
    assert 9.0 < chance < 10.0
    assert plots.recall_chance(TrainingLog({}), "valid", "speech_to_image", 5) is None


def test_panels_name_pool_and_leave_out_what_is_missing(log):
    titles = [panel.title for panel in plots.training_panels(log)]
    assert titles == [
        "Loss",
        "Retrieval, speech → image (50 images, 150 captions)",
        "Retrieval, image → speech (50 images, 150 captions)",
        "Weight of the VGS loss",
    ]
    short = parse_training_log(['{"loss": 1, "alpha": 0.5, "num_updates": 1}'])
    assert [panel.title for panel in plots.training_panels(short)] == ["Loss"]


def test_existing_files_are_kept(log, tmp_path):
    (tmp_path / "training.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"training\.csv"):
        plots.plot_training(log, tmp_path / "training.png")
    assert (tmp_path / "training.csv").read_text() == "mine"
    assert not (tmp_path / "training.png").exists()
    plots.plot_training(log, tmp_path / "training.png", force=True)


def test_nothing_to_draw(tmp_path):
    with pytest.raises(TrainingLogError, match="losses or recalls"):
        plots.plot_training(TrainingLog({}), tmp_path / "training.png")
