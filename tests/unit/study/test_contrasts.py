"""Contrasts of two scenarios: by hand, in a pool of six, and what is said."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from support.study_results import chance_of_pool, six_pictures, study_results, with_lexical, without

from fairseq_vgs.report.plots import write_figure
from fairseq_vgs.study import contrasts as module
from fairseq_vgs.study.contrasts import BETTER, CANNOT_TELL, WORSE, contrasts_figure, find_contrasts, shown
from fairseq_vgs.study.statistics import Sampler
from fairseq_vgs.study.tables import retrieval_table
from fairseq_vgs.study.verdicts import CONTAINS_0, ONE_SEED


@pytest.fixture
def pool_of_six(tmp_path):
    return six_pictures(tmp_path)


def by_pair(results, name):
    found = find_contrasts(results, Sampler(n_resamples=300))
    return {one.scenarios: one for one in found if one.measure.name == name}


def test_difference_by_hand(pool_of_six):
    found = by_pair(pool_of_six, "r1")
    one = found["vgs_plus", "vgs"]
    # of six: 6 minus 3, 2 and 3; the mean is 10/3 and the deviation sqrt(1/3) sixths
    assert one.difference.per_seed == pytest.approx({1: 50.0, 2: 200 / 3, 3: 50.0})
    assert one.difference.value == pytest.approx(500 / 9)
    assert one.difference.seed_sd == pytest.approx(math.sqrt(1 / 3) * 100 / 6)
    half = math.hypot(4.302653 * one.difference.seed_sd / math.sqrt(3), 1.96 * one.difference.item_se)
    assert one.difference.low == pytest.approx(500 / 9 - half, abs=1e-3)
    assert one.answer == BETTER
    assert one.sentence.startswith(
        "VGS+ is better than VGS. R@1, mean of both directions, VGS+ minus VGS: +55.6 "
    )
    other = found["w2v2", "vgs_plus"]
    assert other.difference.value == pytest.approx(-500 / 6)
    assert other.answer == WORSE
    assert other.sentence.startswith("W2V2 is worse than VGS+. ")


def test_a_lower_rank_is_better(pool_of_six):
    one = by_pair(pool_of_six, "median_rank")["w2v2", "vgs_plus"]
    assert [value.value for value in one.values] == [3.0, 1.0]
    assert one.difference.value == 2.0
    assert one.answer == WORSE


def test_recall_of_ten_of_six_pictures_is_not_shown(pool_of_six):
    assert pool_of_six.recall_cutoffs == (1,)
    assert {one.measure.name for one in shown(find_contrasts(pool_of_six, Sampler(50)))} == {
        "r1",
        "median_rank",
        "mrr",
    }
    table = retrieval_table(pool_of_six, Sampler(50))
    assert [measure.title.partition(",")[0] for measure in table.measures] == ["R@1", "median rank"] * 2
    assert "Not shown, as the pool is too small: R@5 and R@10" in table.note


@pytest.mark.parametrize(
    ("n_images", "cutoffs"), [(6, (1,)), (24, (1,)), (25, (1, 5)), (49, (1, 5)), (50, (1, 5, 10))]
)
def test_a_recall_suits_a_pool_of_five_times_its_k(pool_of_six, n_images, cutoffs):
    assert replace(pool_of_six, chance=chance_of_pool(n_images)).recall_cutoffs == cutoffs


def test_there_is_no_verdict_of_one_seed_of_unfinished_runs_or_of_chance(tmp_path):
    results = study_results(
        tmp_path, seeds=(1, 2), scenarios=("vgs", "vgs_plus"), contrasts=[["vgs", "vgs_plus"]], abx=None
    )
    left = by_pair(without(results, "vgs", 2, beyond=200), "r1")["vgs", "vgs_plus"]
    assert (left.answer, left.remarks) == (CANNOT_TELL, ("VGS has not finished: seed 2.",))
    assert list(left.difference.per_seed) == [1]
    one_seed = replace(results, settings=replace(results.settings, seeds=[1]))
    assert by_pair(one_seed, "r1")["vgs", "vgs_plus"].remarks == (ONE_SEED,)
    twins = [replace(point, scenario="vgs_plus") for point in results.points if point.scenario == "vgs"]
    same = tuple(p for p in results.points if p.scenario == "vgs") + tuple(twins)
    equal = by_pair(replace(results, points=same), "r1")["vgs", "vgs_plus"]
    assert (equal.difference.value, equal.answer, equal.remarks) == (0.0, CANNOT_TELL, (CONTAINS_0,))
    assert equal.sentence.startswith("Cannot tell whether VGS or VGS+ is better. ")


def test_words_are_contrasted_by_the_best_layer(pool_of_six, tmp_path):
    chosen = replace(pool_of_six.settings, lexical="words", contrasts=[["vgs_plus", "vgs"]])
    recalls = {"vgs_plus": [[10, 20, 30, 40], [80, 90, 100, 90]], "vgs": [[50, 50, 30, 30], [20, 20, 20, 20]]}
    points = [
        with_lexical(point, tmp_path / f"{point.scenario}-{point.seed}", recalls[point.scenario])
        for point in pool_of_six.points
        if point.scenario in recalls
    ]
    results = replace(pool_of_six, settings=chosen, points=tuple(points))
    one = by_pair(results, "lexical")["vgs_plus", "vgs"]
    assert [value.value for value in one.values] == [90.0, 40.0]
    assert one.difference.value == 50.0
    assert (one.answer, one.difference.n_items) == (BETTER, 4)
    assert points[0].best_layer("lexical") == "layer_2"


def test_files_say_the_same(pool_of_six, tmp_path):
    found = shown(find_contrasts(pool_of_six, Sampler(n_resamples=100)))
    data = json.loads(json.dumps([one.as_json() for one in found], allow_nan=False))
    assert data[0]["contrast"] == ["vgs_plus", "vgs"]
    assert [entry["verdict"] for entry in data] == [one.answer for one in found]
    text = module.markdown(found)
    assert "VGS+ minus VGS" in text and "own 95 %" in text
    assert "+55.6 [" in text and "+50.0 · +66.7 · +50.0" in text
    assert r"$-$83.3 [$-$" in module.latex(found) and "−" not in module.latex(found)
    table = write_figure(contrasts_figure(found), tmp_path / "contrasts.png", also=(".svg",))
    rows = table.read_text(encoding="utf-8").splitlines()
    assert rows[0] == "panel,series,x,value,low,high"
    assert any(row.startswith('"R@1, mean of both directions",better,VGS+ minus VGS,55.5') for row in rows)
    assert "VGS+ minus VGS" in (tmp_path / "contrasts.svg").read_text(encoding="utf-8")


def test_nothing_measured_makes_no_figure(pool_of_six):
    found = find_contrasts(replace(pool_of_six, points=()), Sampler(50))
    assert {one.answer for one in found} == {CANNOT_TELL}
    assert contrasts_figure(found) is None
