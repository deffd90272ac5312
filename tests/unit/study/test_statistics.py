"""Means over seeds and paired differences: by hand, against loops, and how often intervals are right."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from reference.study_loops import best_layer_error, recall_both_directions
from support.faults import raises_fault
from support.study_results import write_items

from fairseq_vgs.evaluation.results import ResultsError
from fairseq_vgs.metrics.intervals import resample_weights
from fairseq_vgs.study.markers import StudyError
from fairseq_vgs.study.results import Point
from fairseq_vgs.study.statistics import MEASURES, Sampler, combination, difference, estimate, mean_over_seeds

N_IMAGES, N_PHONES = 12, 7
GROUPS = np.arange(N_IMAGES)
SPEECH_GROUPS = np.repeat(GROUPS, 2)
PHONES = np.array(list(itertools.permutations(range(N_PHONES), 2)))[3:]  # not every pair has a cell


def make_point(folder, name, seed, *, shift=0, error_shift=0.0, **arrays) -> Point:
    noise = np.random.default_rng([seed, len(name)])
    drawn = {
        "image_ranks": np.maximum(1, noise.integers(1, 22, N_IMAGES) - shift),
        "caption_ranks": np.maximum(1, noise.integers(1, 22, 2 * N_IMAGES) - shift),
        "image_groups": GROUPS,
        "speech_groups": SPEECH_GROUPS,
        "abx_errors": noise.uniform(0.1, 0.4, (3, len(PHONES))) - error_shift,
        "phones": PHONES,
    }
    path = write_items(folder / f"{name}-{seed}.npz", **{**drawn, **arrays})
    return Point(name, seed, "whole", 100, items=path)


@pytest.fixture
def models(tmp_path):
    seeds = (1, 2, 3)
    return (
        {seed: make_point(tmp_path, "a", seed, shift=4, error_shift=0.05) for seed in seeds},
        {seed: make_point(tmp_path, "bb", seed) for seed in seeds},
    )


def test_interval_by_hand():
    # mean 5, SD sqrt(13), t(0.975, 2) = 4.302653; items: SD of (4, 6) is sqrt(2)
    found = mean_over_seeds({1: 2.0, 2: 4.0, 3: 9.0}, np.array([4.0, 6.0]))
    assert found.value == 5.0
    assert found.seed_sd == pytest.approx(math.sqrt(13))
    assert found.item_se == pytest.approx(math.sqrt(2))
    half = math.sqrt((4.302653 * math.sqrt(13) / math.sqrt(3)) ** 2 + (1.96 * math.sqrt(2)) ** 2)
    assert (found.low, found.high) == pytest.approx((5 - half, 5 + half), abs=1e-5)
    assert half == pytest.approx(9.3757, abs=1e-3)
    assert found.seeds_measured


def test_one_seed_has_the_items_part_only():
    found = mean_over_seeds({7: 3.0}, np.array([2.0, 3.0, 4.0]))
    assert (found.low, found.high) == pytest.approx((3 - 1.96, 3 + 1.96))
    assert not found.seeds_measured
    assert found.as_json()["seeds_measured"] is False
    assert found.as_json()["seed_sd"] is None


def test_retrieval_equals_loops_on_the_same_draws(models):
    sampler = Sampler(n_resamples=40, seed=3)
    weights = np.concatenate(list(resample_weights(N_IMAGES, 40, seed=3)))
    for point in models[0].values():
        arrays = np.load(point.items)
        ranks = arrays["image_to_speech_ranks"], arrays["speech_to_image_ranks"]
        for name, k in (("r10", 10), ("r1", 1)):
            sample = sampler.sample(point, MEASURES[name])
            ones = np.ones(N_IMAGES)
            assert sample.value == pytest.approx(recall_both_directions(*ranks, SPEECH_GROUPS, ones, k))
            expected = [recall_both_directions(*ranks, SPEECH_GROUPS, counts, k) for counts in weights]
            np.testing.assert_allclose(sample.draws, expected)


def test_abx_resamples_phones_and_chooses_the_layer_anew(models):
    sampler = Sampler(n_resamples=60, seed=2)
    drawn = np.random.default_rng(2).multinomial(N_PHONES, [1 / N_PHONES] * N_PHONES, size=60)
    best = set()
    for point in models[1].values():
        errors = np.load(point.items)["abx_errors"]
        sample = sampler.sample(point, MEASURES["abx"])
        assert sample.value == pytest.approx(100 * errors.mean(axis=1).min())
        expected = [best_layer_error(errors, PHONES, counts) for counts in drawn]
        np.testing.assert_allclose(sample.draws, expected)
        best |= {int(np.argmin((counts[PHONES].prod(axis=1) * errors).sum(axis=1))) for counts in drawn}
        assert sample.n_items == N_PHONES
    assert len(best) > 1  # or the choice would not have been tested


@pytest.mark.parametrize("name", ["r10", "mrr", "abx", "speech_to_image_r1"])
def test_difference_is_paired_by_seed_and_item(models, name):
    sampler, measure = Sampler(n_resamples=200), MEASURES[name]
    first, second = models
    found = difference(first, second, measure, sampler)
    for seed in first:
        values = [sampler.sample(model[seed], measure).value for model in models]
        assert found.per_seed[seed] == pytest.approx(values[0] - values[1])
    draws = np.mean(
        [sampler.sample(first[s], measure).draws - sampler.sample(second[s], measure).draws for s in first],
        axis=0,
    )
    assert found.item_se == pytest.approx(draws.std(ddof=1))
    swapped = difference(second, first, measure, sampler)
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )
    same = difference(first, dict(first), measure, sampler)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_only_shared_seeds_are_compared(models):
    first, second = models
    found = difference(first, {3: second[3], 9: second[1]}, MEASURES["r10"], Sampler(n_resamples=20))
    assert list(found.per_seed) == [3]
    assert difference(first, {9: second[1]}, MEASURES["r10"], Sampler(n_resamples=20)) is None


def test_what_was_not_measured_is_none(tmp_path):
    point = make_point(tmp_path, "a", 1, abx_errors=None)
    assert estimate({1: point}, MEASURES["abx"], Sampler(n_resamples=20)) is None
    assert estimate({1: point}, MEASURES["r10"], Sampler(n_resamples=20)) is not None
    assert estimate({}, MEASURES["r10"], Sampler(n_resamples=20)) is None
    assert estimate({1: Point("a", 1, "whole", 5)}, MEASURES["r10"], Sampler(n_resamples=20)) is None


def test_picture_without_captions_is_no_query(tmp_path):
    plain = make_point(tmp_path, "a", 1)
    arrays = dict(np.load(plain.items))
    distractor = make_point(
        tmp_path,
        "a",
        2,
        image_ranks=np.append(arrays["image_to_speech_ranks"], np.nan),
        caption_ranks=arrays["speech_to_image_ranks"],
        image_groups=np.append(GROUPS, N_IMAGES),
    )
    sampler = Sampler(n_resamples=30)
    for name in ("r10", "mrr"):
        samples = [sampler.sample(point, MEASURES[name]) for point in (plain, distractor)]
        np.testing.assert_allclose(samples[0].draws, samples[1].draws)


def test_older_arrays_without_phones_are_refused_with_what_to_do(tmp_path):
    point = make_point(tmp_path, "a", 1)
    arrays = dict(np.load(point.items))
    del arrays["abx_phones"], arrays["abx_phone_names"]
    np.savez(point.items, abx_unordered_pairs=np.zeros(len(PHONES)), **arrays)
    with pytest.raises(ResultsError) as caught:
        estimate({1: point}, MEASURES["r10"], Sampler(n_resamples=20))
    assert "abx_phone_names and abx_phones" in str(caught.value)
    assert f"remove {tmp_path}" in str(caught.value)


def test_combination_is_a_difference_of_differences(models):
    sampler, measure = Sampler(n_resamples=100), MEASURES["r10"]
    first, second = models
    third = {1: second[2], 3: second[1]}
    found = combination(((1, first), (-1, second), (-1, third)), measure, sampler)
    assert list(found.per_seed) == [1, 3]
    samples = {seed: [sampler.sample(m[seed], measure) for m in (first, second, third)] for seed in (1, 3)}
    for seed, (a, b, c) in samples.items():
        assert found.per_seed[seed] == pytest.approx(a.value - b.value - c.value)
    draws = np.mean([a.draws - b.draws - c.draws for a, b, c in samples.values()], axis=0)
    assert found.item_se == pytest.approx(draws.std(ddof=1))


def test_other_items_are_refused(tmp_path, models):
    other = {
        1: make_point(
            tmp_path, "c", 1, speech_groups=np.roll(SPEECH_GROUPS, 1), phones=np.roll(PHONES, 1, axis=0)
        )
    }
    for name in ("r10", "abx"):
        with raises_fault("study.mismatch", name, error=StudyError):
            difference(models[0], other, MEASURES[name], Sampler(n_resamples=20))


@pytest.mark.parametrize(("ranks", "low", "high"), [(1, 73.5, 100.0), (50, 0.0, 26.5)])
def test_no_certainty_where_every_query_agrees(tmp_path, ranks, low, high):
    """Twelve images: 0.025 ** (1 / 12) = 0.735, the exact binomial bound."""
    points = {
        seed: make_point(
            tmp_path,
            "a",
            seed,
            image_ranks=np.full(N_IMAGES, ranks),
            caption_ranks=np.full(2 * N_IMAGES, ranks),
        )
        for seed in (1, 2)
    }
    found = estimate(points, MEASURES["r10"], Sampler(n_resamples=20))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1)


def test_bounds_stay_possible(models):
    sampler = Sampler(n_resamples=50)
    measured = [measure for name, measure in MEASURES.items() if name not in ("abx_across", "lexical")]
    for points, measure in itertools.product(models, measured):
        found = estimate(points, measure, sampler)
        assert measure.lowest <= found.low <= found.value <= found.high <= measure.highest


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_intervals_hold_the_truth_at_least_as_often_as_they_say(n_seeds):
    """Differences with a part per seed, per item and per both; both parts of the interval matter."""
    noise = np.random.default_rng(n_seeds)
    n_items, n_trials, truth = 40, 400, 1.5
    weights = np.concatenate(list(resample_weights(n_items, 300, seed=1))) / n_items
    covered, covered_by_items, covered_by_seeds = 0, 0, 0
    for _ in range(n_trials):
        values = truth + noise.normal(0, 0.5, (n_seeds, 1)) + noise.normal(0, 4.0, (1, n_items))
        values += noise.normal(0, 2.0, (n_seeds, n_items))
        per_seed = dict(enumerate(values.mean(axis=1)))
        found = mean_over_seeds(per_seed, weights @ values.mean(axis=0))
        covered += found.low <= truth <= found.high
        covered_by_items += abs(found.value - truth) <= 1.96 * found.item_se
        seeds_only = mean_over_seeds(per_seed, np.zeros(2))
        covered_by_seeds += seeds_only.low <= truth <= seeds_only.high
    assert covered / n_trials >= 0.94
    assert min(covered_by_items, covered_by_seeds) / n_trials < 0.93  # neither part alone would do
