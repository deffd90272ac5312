import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faults import raises_fault

from fairseq_vgs.data.batching import BatchLimits, noisy_order, plan_batches, unpaired_rows

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def plan(lengths, limits, *, seed=0, noise=0.1):
    lengths = np.array(lengths, dtype=np.int64)
    order = noisy_order(lengths, noise=noise, generator=np.random.default_rng(seed))
    return plan_batches(order, lengths, limits), lengths


@given(
    lengths=LENGTHS,
    max_tokens=st.none() | st.integers(100, 400),
    max_pairs=st.none() | st.integers(1, 9),
    multiple=st.sampled_from([1, 2, 8]),
    ratio=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 5),
)
def test_every_pair_once_within_the_limits(lengths, max_tokens, max_pairs, multiple, ratio, seed):
    limits = BatchLimits(max_tokens, max_pairs, multiple, ratio)
    batches, lengths = plan(lengths, limits, seed=seed)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for number, batch in enumerate(batches):
        assert limits.fits_tokens(lengths[batch])
        n_allowed = len(lengths) if max_pairs is None else max_pairs
        is_last = number == len(batches) - 1
        assert len(batch) <= n_allowed + (1 if is_last and max_pairs == 2 else 0)


@given(
    lengths=LENGTHS,
    max_pairs=st.none() | st.integers(2, 9),
    multiple=st.sampled_from([1, 8]),
    seed=st.integers(0, 5),
)
def test_no_pair_is_alone_where_three_fit(lengths, max_pairs, multiple, seed):
    # 3 rows of at most 40 samples, unpaired rows included
    limits = BatchLimits(max_tokens=160, max_pairs=max_pairs, multiple=multiple, unpaired_ratio=0.3)
    batches, lengths = plan(lengths, limits, seed=seed)
    assert len(lengths) == 1 or all(len(batch) > 1 for batch in batches)


@pytest.mark.parametrize(
    ("n_pairs", "limits", "sizes"),
    [
        (9, BatchLimits(max_pairs=4), [4, 3, 2]),
        (5, BatchLimits(max_pairs=2), [2, 3]),
        (9, BatchLimits(max_pairs=16, multiple=8), [9]),
        (17, BatchLimits(max_pairs=16, multiple=8), [15, 2]),
        (3, BatchLimits(max_pairs=1), [1, 1, 1]),
        (5, BatchLimits(max_tokens=20, max_pairs=3), [2, 2, 1]),
        (1, BatchLimits(max_pairs=4), [1]),
    ],
)
def test_sizes_of_batches(n_pairs, limits, sizes):
    batches, _ = plan([10] * n_pairs, limits)
    assert [len(batch) for batch in batches] == sizes


def test_a_chain_of_twos_passes_a_pair_along():
    # four fit at length 5, two at length 10
    lengths = np.array([5, 5, 5, 10, 10, 10, 10, 10], dtype=np.int64)
    batches = plan_batches(np.arange(8), lengths, BatchLimits(max_tokens=20))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]
    assert np.concatenate(batches).tolist() == list(range(8))


def test_a_pair_beyond_max_tokens_is_an_error():
    with raises_fault("setting.value", "dataset.max_tokens") as caught:
        plan([10, 30], BatchLimits(max_tokens=50, unpaired_ratio=1.0))
    assert "60" in str(caught.value)


def test_unpaired_rows():
    assert [unpaired_rows(n, 0.5) for n in range(6)] == [0, 1, 1, 2, 2, 3]
    assert unpaired_rows(7, 0) == 0
    assert unpaired_rows(4, 1.25) == 5


def test_order_is_bucketed_and_noisy():
    lengths = np.random.default_rng(0).integers(1000, 9000, 400)
    exact = noisy_order(lengths, noise=0.0, generator=np.random.default_rng(1))
    assert (np.diff(lengths[exact]) <= 0).all()
    first = noisy_order(lengths, noise=0.1, generator=np.random.default_rng(1))
    second = noisy_order(lengths, noise=0.1, generator=np.random.default_rng(2))
    assert sorted(first.tolist()) == list(range(400))
    assert first.tolist() != second.tolist()
    # neighbours differ by at most what the noise can do: a factor of 1.1 / 0.9
    assert (lengths[first[1:]] <= lengths[first[:-1]] * 1.1 / 0.9 + 1).all()


def test_a_million_pairs_are_planned_in_seconds():
    lengths = np.random.default_rng(0).integers(16_000, 128_000, 1_000_000)
    batches, _ = plan(lengths, BatchLimits(max_tokens=1_400_000, max_pairs=64, multiple=8))
    assert sum(map(len, batches)) == 1_000_000
