"""Curves over updates: what is averaged, and where they begin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.study_results import study_results, without

from fairseq_vgs.report.run_logs import Curve
from fairseq_vgs.study.figures import (
    SeedCurves,
    boundary,
    levels_of,
    logged_curves,
    measured,
    point_curves,
    probe_curves,
    recall_at,
    untrained_mean,
)
from fairseq_vgs.study.results import Training


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return study_results(
        tmp_path_factory.mktemp("items"), seeds=(1, 2), scenarios=("vgs", "vgs_plus", "w2v2_then_vgs")
    )


def curve(updates, values) -> Curve:
    return Curve(np.array(updates), np.array(values, dtype=np.float64))


def test_mean_is_over_the_seeds_that_have_come_furthest():
    curves = SeedCurves(
        {1: curve([0, 40, 80], [1, 2, 3]), 2: curve([0, 80], [3, 9]), 3: curve([0, 40], [100, 100])}
    )
    assert curves.mean.updates.tolist() == [0, 80]
    assert curves.mean.values.tolist() == [2.0, 6.0]
    assert SeedCurves({}).mean is None


def test_points_begin_with_the_untrained_model(results):
    found = point_curves(results, "w2v2_then_vgs", recall_at(10))
    assert found.seeds[2].updates.tolist() == list(range(0, 281, 40))
    assert found.seeds[2].values[0] == recall_at(10)(results.untrained[2])
    assert found.seeds[2].values[-1] == recall_at(10)(results.finals("w2v2_then_vgs")[2])


def test_seeds_without_points_have_no_curve(results):
    assert list(point_curves(without(results, "vgs", 1), "vgs", recall_at(10)).seeds) == [2]
    assert point_curves(results, "vgs", measured("losses", "nothing")).seeds == {}


def test_logged_losses_are_averaged_over_equally_many_updates_without_gaps(results):
    updates = np.arange(1, 281)
    values = np.where(updates % 2 == 0, np.nan, updates.astype(np.float64))
    training = {
        ("vgs", 1): Training({"vgs_loss": (updates, values)}),
        ("vgs", 2): Training({"vgs_loss": (updates[:5], np.ones(5))}),
    }
    found = logged_curves(replace(results, training=training), "vgs", "vgs_loss").seeds
    assert found[1].updates.tolist()[:3] == [3, 5, 9]  # the last logged of 1-3, 4-6, 7-9
    assert found[1].values.tolist()[:3] == [2.0, 5.0, 8.0]
    assert (found[1].updates[-1], found[1].values[-1]) == (279, 278.0)
    assert found[2].updates.tolist() == [3, 5]  # a run that has just begun is not drawn finer
    assert logged_curves(results, "vgs", "ssl_loss").seeds == {}


def test_probes_by_layer(results):
    found = probe_curves(results, "vgs_plus", "gradient_cosine")
    assert list(found) == ["extractor", "layer_1", "layer_2", "shared"]
    record = results.training["vgs_plus", 2].probes[3]
    assert found["layer_2"].seeds[2].values[3] == record.gradient_cosine["layer_2"]
    assert probe_curves(results, "vgs", "cka") == {}
    assert probe_curves(results, "vgs_plus", "cka", is_second=True) == {}


def test_probes_of_a_second_phase_begin_with_its_own_start(tmp_path):
    results = study_results(tmp_path, seeds=(1,), scenarios=("vgs_plus_then_vgs",))
    first, second = (
        probe_curves(results, "vgs_plus_then_vgs", "cka", is_second=second)["layer_1"].seeds[1]
        for second in (False, True)
    )
    assert first.updates.tolist() == [0, 40, 80]
    assert second.updates.tolist() == [80, 120, 160, 200, 240, 280]
    assert first.values[0] == second.values[0] == 1.0
    assert first.values[-1] < 1.0


def test_boundary(results):
    assert boundary(results, "vgs") is None
    assert boundary(results, "w2v2_then_vgs") == 80


def test_levels_of_phone_discrimination(tmp_path):
    results = study_results(tmp_path, seeds=(1, 2), scenarios=("vgs",), evaluate_every=280, probes=False)
    levels = {level.label: level.y[0] for level in levels_of(results, "abx")}
    assert (levels["MFCC"], levels["chance"]) == (7.2, 50.0)
    assert [level.label for level in levels_of(replace(results, baselines={}, chance={}), "abx")] == [
        "untrained"
    ]
    both = [results.untrained[seed].best_abx for seed in (1, 2)]
    assert untrained_mean(results, lambda point: point.best_abx) == pytest.approx(sum(both) / 2)
    half = {**results.untrained, 2: replace(results.untrained[2], abx={})}
    assert untrained_mean(replace(results, untrained=half), lambda point: point.best_abx) == both[0]
    assert untrained_mean(replace(results, untrained={}), lambda point: point.best_abx) is None
