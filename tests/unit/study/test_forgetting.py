"""What a second phase keeps, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.study_results import settings, write_items

from fairseq_vgs.study.forgetting import kept, retained
from fairseq_vgs.study.results import Point, StudyResults
from fairseq_vgs.study.statistics import KEPT, MEASURES, Sampler

ARM = "vgs_then_w2v2"
CHANCE = {"speech_to_image_r1": 0.0, "image_to_speech_r1": 0.0}


def results(folder, hits_after: dict[int, int], *, start=80, chance=CHANCE) -> StudyResults:
    """One seed; ten pictures with a caption each, of which so many are found after each update."""
    chosen = settings(scenarios=[ARM], seeds=[1], evaluate_at=[10, 20], abx=None)
    points = []
    for update, hits in hits_after.items():
        ranks, groups = np.where(np.arange(10) < hits, 1, 4), np.arange(10)
        path = write_items(
            folder / f"{update}.npz",
            image_ranks=ranks,
            caption_ranks=ranks,
            image_groups=groups,
            speech_groups=groups,
        )
        points.append(Point(ARM, 1, "second", start + update, items=path))
    return StudyResults(chosen, tuple(points), {}, {}, chance, {}, (), {})


def test_retained_shares_and_their_mean_over_log_updates(tmp_path):
    found = results(tmp_path, {0: 8, 10: 6, 20: 4, 80: 2})
    curve = retained(found, ARM, MEASURES["r1"], Sampler(n_resamples=50))[1]
    assert curve.updates.tolist() == [10, 20, 80]
    assert curve.shares == pytest.approx([0.75, 0.5, 0.25])
    # trapezoids over log: (0.75 + 0.5) / 2 for log 2, (0.5 + 0.25) / 2 for log 4
    expected = (0.625 * math.log(2) + 0.375 * math.log(4)) / math.log(8)
    area = kept(found, ARM, KEPT["kept_r1"], Sampler(n_resamples=50))[1]
    assert area.value == pytest.approx(100 * expected)
    assert curve.half_life == 20.0


def test_shares_are_of_what_was_gained_over_chance(tmp_path):
    chance = dict.fromkeys(CHANCE, 20.0)
    found = results(tmp_path, {0: 8, 10: 5, 20: 2}, chance=chance)
    curve = retained(found, ARM, MEASURES["r1"], Sampler(n_resamples=50))[1]
    assert curve.shares == pytest.approx([0.5, 0.0])
    assert curve.half_life == 10.0


def test_half_life_lies_between_evaluations_or_beyond_them(tmp_path):
    found = results(tmp_path / "a", {0: 8, 10: 6, 20: 2})
    assert retained(found, ARM, MEASURES["r1"], Sampler(n_resamples=50))[1].half_life == 15.0
    found = results(tmp_path / "b", {0: 8, 10: 8, 20: 7})
    assert retained(found, ARM, MEASURES["r1"], Sampler(n_resamples=50))[1].half_life == math.inf


def test_nothing_is_kept_of_nothing(tmp_path):
    found = results(tmp_path, {0: 0, 10: 0, 20: 0})
    assert retained(found, ARM, MEASURES["r1"], Sampler(n_resamples=50)) == {}


def test_a_curve_needs_its_start_and_two_evaluations(tmp_path):
    sampler = Sampler(n_resamples=50)
    assert retained(results(tmp_path / "a", {10: 6, 20: 4}), ARM, MEASURES["r1"], sampler) == {}
    assert retained(results(tmp_path / "b", {0: 8, 10: 6}), ARM, MEASURES["r1"], sampler) == {}
    found = results(tmp_path / "c", {0: 8, 10: 6, 20: 4})
    assert retained(replace(found, chance={}), ARM, MEASURES["r1"], sampler) == {}


def test_resamples_vary_with_the_items(tmp_path):
    found = results(tmp_path, {0: 8, 10: 6, 20: 4})
    draws = kept(found, ARM, KEPT["kept_r1"], Sampler(n_resamples=300))[1].draws
    assert draws.shape == (300,)
    assert 0 < draws.std() < 30
