"""The arithmetic of benchmarks/learning_curve.py, by hand; its runs take minutes and are not repeated."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import learning_curve
from fairseq_vgs.media.rates import SAMPLE_RATE


def curve(arm, seed, recalls):
    points = [{"speech_to_image_r1": value / 2, "speech_to_image_r10": value} for value in recalls]
    return {
        "arm": arm,
        "seed": seed,
        "updates": [0, 10, 20],
        "cpu_seconds": [0.0, 60.0, 120.0],
        "recalls": points,
    }


RESULT = {
    "minutes": 2,
    "curves": [
        curve("authors", 1, [5.0, 5.0, 15.0]),
        curve("ours", 1, [5.0, 45.0, 90.0]),
        curve("ours", 2, [5.0, 35.0, 80.0]),
    ],
}


def test_a_level_is_reached_between_points():
    minutes, recall = np.array([0.0, 1.0, 2.0]), np.array([5.0, 45.0, 40.0])
    assert learning_curve.minutes_to(15.0, minutes, recall) == 0.25
    assert learning_curve.minutes_to(5.0, minutes, recall) == 0.0
    assert learning_curve.minutes_to(42.0, minutes, recall) == pytest.approx(0.925)
    assert math.isinf(learning_curve.minutes_to(46.0, minutes, recall))


def test_the_mean_is_over_seeds():
    minutes, mean, low, high = learning_curve.mean_curve(RESULT["curves"][1:], "speech_to_image_r10")
    assert minutes.tolist() == [0.0, 1.0, 2.0]
    assert (mean.tolist(), low.tolist(), high.tolist()) == ([5, 40, 85], [5, 35, 80], [5, 45, 90])


def test_the_table_compares_times_and_marks_levels_that_are_not_reached():
    rows = {line.split()[0]: line.split() for line in learning_curve.table(RESULT).splitlines()}
    # authors: 10 % half way from 1 to 2 minutes; ours: 5/35 of the first minute
    assert rows["10"] == ["10", "1.50", "0.14", "0.10"]
    assert rows["50"] == ["50", "-", "1.22", "-"]
    assert rows["95"] == ["95", "-", "-", "-"]


def test_the_plot_is_drawn_from_the_results(tmp_path):
    learning_curve.draw(json.loads(json.dumps(RESULT)), tmp_path / "curve.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


@pytest.mark.parametrize("name", learning_curve.ARMS)
def test_arms_have_the_same_sizes_and_their_own_recipe(name):
    cfg = learning_curve.configure(learning_curve.ARMS[name], Path("data"), Path("run"), updates=200, seed=2)
    sizes = (cfg.model.encoder_layers, cfg.model.encoder_embed_dim, cfg.dataset.batch_size)
    assert sizes == (4, 128, 32)
    assert cfg.lr_scheduler.total_num_update == cfg.optimization.max_update == 200
    ours = name == "ours"
    assert cfg.task.pad_to_max is not ours
    assert (cfg.model.padding, cfg.model.arithmetic) == (
        ("exact", "fast") if ours else ("fast_vgs", "fairseq")
    )
    assert cfg.criterion.vgs_loss == ("infonce" if ours else "masked_margin")
    assert list(cfg.optimization.lr) == [0.0001 if name == "authors" else 0.001]
    assert ours or round(cfg.task.max_seconds * SAMPLE_RATE) == 96_000
