"""Bootstrap over phones: seeded, against loops, paired, and covering where pairs share their phones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fairseq_vgs.evaluation.metrics import bootstrap, phone_bootstrap


def names_of(n_phones):
    return [f"p{number:02d}" for number in range(n_phones)]


def test_resampling_equals_explicit_draws():
    pairs = [("p", "t"), ("t", "p"), ("k", "t"), ("k", "s"), ("s", "p")]  # of 4 phones, not every pair
    values = np.array([1.0, 3.0, 20.0, 60.0, 200.0])
    found = phone_bootstrap.mean_interval(values, pairs, seed=5, n_resamples=80)
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
    monkeypatch.setattr(phone_bootstrap, "_MAX_CELLS", 28)
    blocks = list(phone_bootstrap.resample_pairs(phones, 50, seed=1))
    assert max(len(block) for block in blocks) == 7
    assert sum(len(block) for block in blocks) == 50
    assert all((block.sum(axis=1) > 0).all() for block in blocks)


def test_numbers_of_phones():
    names, numbers = phone_bootstrap.numbered_phones([("b", "a"), ("c", "b")])
    assert names == ("a", "b", "c")
    assert numbers.tolist() == [[1, 0], [2, 1]]


def test_difference_of_equals_is_certain_and_shared_difficulty_cancels():
    noise = np.random.default_rng(3)
    pairs = list(itertools.permutations(names_of(12), 2))
    hard = 20 * noise.standard_normal(len(pairs))
    paired = phone_bootstrap.mean_interval(hard + 1 - hard, pairs, seed=1)
    assert (paired.low, paired.high) == pytest.approx((1, 1))
    alone = phone_bootstrap.mean_interval(hard, pairs, seed=1)
    assert alone.high - alone.low > 3


def test_what_cannot_be_resampled_is_refused():
    with pytest.raises(ValueError, match=r"one value per phone pair \(1\), got 2"):
        phone_bootstrap.mean_interval(np.zeros(2), [("a", "b")], seed=1)
    with pytest.raises(ValueError, match="pairs of two phones"):
        next(phone_bootstrap.resample_pairs(np.array([[0, 0]]), 5, seed=1))


@pytest.mark.parametrize("pair_noise", [0.5, 5.0])
def test_intervals_cover_where_pairs_share_phones_and_those_over_pairs_do_not(pair_noise):
    """A pair's error is what each of its phones adds, and noise of its own, which both orders share."""
    noise = np.random.default_rng(11)
    n_phones, n_trials, truth = 40, 600, 10.0
    _, phones = phone_bootstrap.numbered_phones(list(itertools.permutations(names_of(n_phones), 2)))
    a, b = phones.T
    of_phone = noise.standard_normal((n_trials, n_phones))
    of_pair = pair_noise * noise.standard_normal((n_trials, n_phones, n_phones))
    values = truth + of_phone[:, a] + of_phone[:, b] + (of_pair + of_pair.transpose(0, 2, 1))[:, a, b]
    over_phones = np.concatenate(list(phone_bootstrap.resample_pairs(phones, 300, seed=1)))
    unordered = np.unique(np.sort(phones, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    n_unordered = n_phones * (n_phones - 1) // 2
    over_pairs = np.concatenate(list(bootstrap.resample_weights(n_unordered, 300, seed=1)))[:, unordered]
    covered = []
    for weights in (over_phones, over_pairs):
        draws = weights @ values.T / weights.sum(axis=1, keepdims=True)
        covered.append(np.mean(np.abs(values.mean(axis=1) - truth) <= 1.96 * draws.std(axis=0, ddof=1)))
    assert covered[0] >= 0.93
    assert covered[1] < 0.85
