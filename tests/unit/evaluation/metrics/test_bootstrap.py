"""Bootstrap over images: seeded, clustered, paired, and honest at 0 % and 100 %."""

from __future__ import annotations

import numpy as np
import pytest

from fairseq_vgs.evaluation.metrics import bootstrap


def test_resampling_equals_explicit_draws():
    values, groups = np.array([0.0, 100.0, 50.0, 10.0]), np.array([3, 3, 7, 9])
    found = bootstrap.mean_interval(values, groups, seed=5, n_resamples=50)
    generator = np.random.default_rng(5)
    means = []
    for draw in generator.integers(3, size=(50, 3)):
        pooled = [value for group in draw for value in values[groups == [3, 7, 9][group]]]
        means.append(np.mean(pooled))
    assert found.value == 40.0
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_captions_of_one_image_do_not_narrow_the_interval():
    hits = np.random.default_rng(0).random(100) < 0.5
    single = bootstrap.percentage_interval(hits, np.arange(100), seed=1)
    copied = bootstrap.percentage_interval(np.repeat(hits, 5), np.repeat(np.arange(100), 5), seed=1)
    assert copied == single


def test_interval_covers_the_true_value():
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        skill = generator.random(80).repeat(3)
        hits = generator.random(240) < skill
        interval = bootstrap.percentage_interval(hits, np.arange(80).repeat(3), seed=0, n_resamples=400)
        covered += interval.low <= 50.0 <= interval.high
    assert covered >= 180


@pytest.mark.parametrize(("hit", "bounds"), [(True, (96.38, 100.0)), (False, (0.0, 3.62))])
def test_all_or_nothing_is_not_certain(hit, bounds):
    interval = bootstrap.percentage_interval(np.full(200, hit), np.arange(100).repeat(2), seed=1)
    assert interval.method.startswith("Clopper-Pearson")
    assert (interval.low, interval.high) == pytest.approx(bounds, abs=0.01)


def test_paired_difference_cancels_what_both_share():
    generator = np.random.default_rng(3)
    hardness = generator.normal(size=200) * 50
    first, second = hardness + 1.0, hardness + generator.normal(size=200) * 0.1
    groups = np.arange(200)
    paired = bootstrap.paired_difference(first, second, groups, seed=1)
    alone = bootstrap.mean_interval(first, groups, seed=1)
    assert paired.low > 0.9
    assert paired.high < 1.1
    assert alone.high - alone.low > 5
    with pytest.raises(ValueError, match="same queries"):
        bootstrap.paired_difference(first, second[:-1], groups, seed=1)


def test_median_difference_equals_explicit_draws():
    generator = np.random.default_rng(2)
    first, second = generator.permutation(9).astype(float), generator.permutation(9).astype(float) + 3
    groups = np.arange(9)
    found = bootstrap.median_difference(first, second, groups, seed=4, n_resamples=40)
    draws = np.random.default_rng(4).integers(9, size=(40, 9))  # nine: the median is one of them
    gains = [np.median(first[draw]) - np.median(second[draw]) for draw in draws]
    assert found.value == np.median(first) - np.median(second)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(gains, [2.5, 97.5])))
    itself = bootstrap.median_difference(first, first, groups, seed=4, n_resamples=40)
    assert (itself.low, itself.value, itself.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="expected the same queries, got 9 and 8"):
        bootstrap.median_difference(first, second[:8], groups, seed=4)


def test_median_interval_equals_explicit_draws(monkeypatch):
    values, groups = np.array([1.0, 5.0, 9.0, 2.0, 7.0]), np.arange(5)
    found = bootstrap.median_interval(values, groups, seed=4, n_resamples=40)
    medians = [np.median(values[draw]) for draw in np.random.default_rng(4).integers(5, size=(40, 5))]
    assert found.value == 5.0
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(medians, [2.5, 97.5])))
    monkeypatch.setattr(bootstrap, "_MAX_CELLS", 15)
    assert bootstrap.median_interval(values, groups, seed=4, n_resamples=40) == found


def test_medians_of_even_numbers_are_the_mean_of_the_two_in_the_middle():
    generator = np.random.default_rng(6)
    first, second = generator.integers(1, 9, size=(2, 12)).astype(float)
    groups = np.arange(12) // 2
    draws = [
        np.concatenate([np.flatnonzero(groups == group) for group in draw])
        for draw in np.random.default_rng(4).integers(6, size=(40, 6))
    ]
    medians, others = (np.array([np.median(values[draw]) for draw in draws]) for values in (first, second))
    found = bootstrap.median_interval(first, groups, seed=4, n_resamples=40)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(medians, [2.5, 97.5])))
    gain = bootstrap.median_difference(first, second, groups, seed=4, n_resamples=40)
    assert (gain.low, gain.high) == pytest.approx(tuple(np.percentile(medians - others, [2.5, 97.5])))
    # every image has a rank of 1 and one of 3
    assert bootstrap.median_interval(np.tile([1.0, 3.0], 3), np.arange(6) // 2, seed=1) == bootstrap.Interval(
        2.0, 2.0, 2.0
    )


def test_one_image_has_no_interval():
    values, groups = np.array([0.0, 100.0]), np.array([4, 4])
    for found in (
        bootstrap.mean_interval(values, groups, seed=1),
        bootstrap.percentage_interval(values > 0, groups, seed=1),
        bootstrap.median_interval(values, groups, seed=1),
    ):
        assert found.value == 50 and np.isnan([found.low, found.high]).all()
    gain = bootstrap.median_difference(values, values, groups, seed=1)
    assert gain.value == 0 and np.isnan([gain.low, gain.high]).all()


def test_no_queries_and_wrong_lengths():
    assert np.isnan(bootstrap.mean_interval(np.empty(0), np.empty(0, dtype=np.int64), seed=1).value)
    with pytest.raises(ValueError, match="one group per value"):
        bootstrap.mean_interval(np.ones(3), np.arange(2), seed=1)
