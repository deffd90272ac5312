"""Intervals over images and over phones: seeded, clustered, paired, and honest at 0 % and 100 %."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fairseq_vgs.metrics import intervals
from fairseq_vgs.metrics.intervals import Interval, difference, interval


def percentage_interval(found, groups, **draws):
    return interval(intervals.hits(found), groups, statistic="hits", **draws)


def median_interval(values, groups, **draws):
    return interval(values, groups, statistic="median", **draws)


def median_difference(first, second, groups, **draws):
    return difference(first, second, groups, statistic="median", **draws)


def test_resampling_equals_explicit_draws():
    values, groups = np.array([0.0, 100.0, 50.0, 10.0]), np.array([3, 3, 7, 9])
    found = interval(values, groups, seed=5, n_resamples=50)
    generator = np.random.default_rng(5)
    means = []
    for draw in generator.integers(3, size=(50, 3)):
        pooled = [value for group in draw for value in values[groups == [3, 7, 9][group]]]
        means.append(np.mean(pooled))
    assert found.value == 40.0
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_captions_of_one_image_do_not_narrow_the_interval():
    hits = np.random.default_rng(0).random(100) < 0.5
    single = percentage_interval(hits, np.arange(100), seed=1)
    copied = percentage_interval(np.repeat(hits, 5), np.repeat(np.arange(100), 5), seed=1)
    assert copied == single


def test_interval_covers_the_true_value():
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        skill = generator.random(80).repeat(3)
        hits = generator.random(240) < skill
        found = percentage_interval(hits, np.arange(80).repeat(3), seed=0, n_resamples=400)
        covered += found.low <= 50.0 <= found.high
    assert covered >= 180


@pytest.mark.parametrize(("hit", "bounds"), [(True, (96.38, 100.0)), (False, (0.0, 3.62))])
def test_all_or_nothing_is_not_certain(hit, bounds):
    found = percentage_interval(np.full(200, hit), np.arange(100).repeat(2), seed=1)
    assert found.method == "Clopper-Pearson over images"
    assert (found.low, found.high) == pytest.approx(bounds, abs=0.01)


def test_paired_difference_cancels_what_both_share():
    generator = np.random.default_rng(3)
    hardness = generator.normal(size=200) * 50
    first, second = hardness + 1.0, hardness + generator.normal(size=200) * 0.1
    groups = np.arange(200)
    paired = difference(first, second, groups, seed=1)
    alone = interval(first, groups, seed=1)
    assert paired.low > 0.9
    assert paired.high < 1.1
    assert alone.high - alone.low > 5
    with pytest.raises(ValueError, match="same items"):
        difference(first, second[:-1], groups, seed=1)


def test_median_difference_equals_explicit_draws():
    generator = np.random.default_rng(2)
    first, second = generator.permutation(9).astype(float), generator.permutation(9).astype(float) + 3
    groups = np.arange(9)
    found = median_difference(first, second, groups, seed=4, n_resamples=40)
    draws = np.random.default_rng(4).integers(9, size=(40, 9))  # nine: the median is one of them
    gains = [np.median(first[draw]) - np.median(second[draw]) for draw in draws]
    assert found.value == np.median(first) - np.median(second)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(gains, [2.5, 97.5])))
    itself = median_difference(first, first, groups, seed=4, n_resamples=40)
    assert (itself.low, itself.value, itself.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="expected the same items, got 9 and 8"):
        median_difference(first, second[:8], groups, seed=4)


def test_median_interval_equals_explicit_draws(monkeypatch):
    values, groups = np.array([1.0, 5.0, 9.0, 2.0, 7.0]), np.arange(5)
    found = median_interval(values, groups, seed=4, n_resamples=40)
    medians = [np.median(values[draw]) for draw in np.random.default_rng(4).integers(5, size=(40, 5))]
    assert found.value == 5.0
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(medians, [2.5, 97.5])))
    monkeypatch.setattr(intervals, "_MAX_CELLS", 15)
    assert median_interval(values, groups, seed=4, n_resamples=40) == found


def test_medians_of_even_numbers_are_the_mean_of_the_two_in_the_middle():
    generator = np.random.default_rng(6)
    first, second = generator.integers(1, 9, size=(2, 12)).astype(float)
    groups = np.arange(12) // 2
    draws = [
        np.concatenate([np.flatnonzero(groups == group) for group in draw])
        for draw in np.random.default_rng(4).integers(6, size=(40, 6))
    ]
    medians, others = (np.array([np.median(values[draw]) for draw in draws]) for values in (first, second))
    found = median_interval(first, groups, seed=4, n_resamples=40)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(medians, [2.5, 97.5])))
    gain = median_difference(first, second, groups, seed=4, n_resamples=40)
    assert (gain.low, gain.high) == pytest.approx(tuple(np.percentile(medians - others, [2.5, 97.5])))
    # every image has a rank of 1 and one of 3
    assert median_interval(np.tile([1.0, 3.0], 3), np.arange(6) // 2, seed=1) == Interval(2.0, 2.0, 2.0)


def test_one_image_has_no_interval():
    values, groups = np.array([0.0, 100.0]), np.array([4, 4])
    for found in (
        interval(values, groups, seed=1),
        percentage_interval(values > 0, groups, seed=1),
        median_interval(values, groups, seed=1),
    ):
        assert found.value == 50 and np.isnan([found.low, found.high]).all()
    gain = median_difference(values, values, groups, seed=1)
    assert gain.value == 0 and np.isnan([gain.low, gain.high]).all()


def test_no_queries_and_wrong_lengths():
    assert np.isnan(interval(np.empty(0), np.empty(0, dtype=np.int64), seed=1).value)
    with pytest.raises(ValueError, match="units for each value"):
        interval(np.ones(3), np.arange(2), seed=1)


def phone_interval(values, pairs, **draws):
    return interval(values, intervals.numbered_pairs(pairs)[1], resampled="phones", **draws)


def names_of(n_phones):
    return [f"p{number:02d}" for number in range(n_phones)]


def test_resampling_phones_equals_explicit_draws():
    pairs = [("p", "t"), ("t", "p"), ("k", "t"), ("k", "s"), ("s", "p")]  # of 4 phones, not every pair
    values = np.array([1.0, 3.0, 20.0, 60.0, 200.0])
    found = phone_interval(values, pairs, seed=5, n_resamples=80)
    generator, means = np.random.default_rng(5), []
    while len(means) < 80:
        for draw in generator.multinomial(4, [0.25] * 4, size=80 - len(means)):
            drawn = [name for name, times in zip("kpst", draw, strict=True) for _ in range(times)]
            pooled = [
                value
                for a, b in itertools.product(drawn, drawn)
                for pair, value in zip(pairs, values, strict=True)
                if pair == (a, b)
            ]
            means += [np.mean(pooled)] if pooled else []
    assert found.value == pytest.approx(56.8)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    assert found.method == "bootstrap over phones"


def test_blocks_make_up_the_number_of_resamples(monkeypatch):
    phones = np.array([[0, 1], [1, 0], [1, 2], [2, 1]])
    monkeypatch.setattr(intervals, "_MAX_CELLS", 28)
    blocks = list(intervals.resample_pairs(phones, 50, seed=1))
    assert max(len(block) for block in blocks) == 7
    assert sum(len(block) for block in blocks) == 50
    assert all((block.sum(axis=1) > 0).all() for block in blocks)


def test_numbers_of_phones():
    names, numbers = intervals.numbered_pairs([("b", "a"), ("c", "b")])
    assert names == ("a", "b", "c")
    assert numbers.tolist() == [[1, 0], [2, 1]]


def test_difference_of_equals_is_certain_and_shared_difficulty_cancels():
    noise = np.random.default_rng(3)
    pairs = list(itertools.permutations(names_of(12), 2))
    hard = 20 * noise.standard_normal(len(pairs))
    paired = phone_interval(hard + 1 - hard, pairs, seed=1)
    assert (paired.low, paired.high) == pytest.approx((1, 1))
    alone = phone_interval(hard, pairs, seed=1)
    assert alone.high - alone.low > 3


def test_pairs_that_cannot_be_resampled_are_refused():
    with pytest.raises(ValueError, match=r"units for each value \(2\), got 1"):
        phone_interval(np.zeros(2), [("a", "b")], seed=1)
    with pytest.raises(ValueError, match="pairs of two different units"):
        next(intervals.resample_pairs(np.array([[0, 0]]), 5, seed=1))


@pytest.mark.parametrize("pair_noise", [0.5, 5.0])
def test_intervals_cover_where_pairs_share_phones_and_those_over_pairs_do_not(pair_noise):
    """A pair's error is what each of its phones adds, and noise of its own, which both orders share."""
    noise = np.random.default_rng(11)
    n_phones, n_trials, truth = 40, 600, 10.0
    _, phones = intervals.numbered_pairs(list(itertools.permutations(names_of(n_phones), 2)))
    a, b = phones.T
    of_phone = noise.standard_normal((n_trials, n_phones))
    of_pair = pair_noise * noise.standard_normal((n_trials, n_phones, n_phones))
    values = truth + of_phone[:, a] + of_phone[:, b] + (of_pair + of_pair.transpose(0, 2, 1))[:, a, b]
    over_phones = np.concatenate(list(intervals.resample_pairs(phones, 300, seed=1)))
    unordered = np.unique(np.sort(phones, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    n_unordered = n_phones * (n_phones - 1) // 2
    over_pairs = np.concatenate(list(intervals.resample_weights(n_unordered, 300, seed=1)))[:, unordered]
    covered = []
    for weights in (over_phones, over_pairs):
        draws = weights @ values.T / weights.sum(axis=1, keepdims=True)
        covered.append(np.mean(np.abs(values.mean(axis=1) - truth) <= 1.96 * draws.std(axis=0, ddof=1)))
    assert covered[0] >= 0.93
    assert covered[1] < 0.85
