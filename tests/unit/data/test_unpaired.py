import numpy as np
import pytest

from fairseq_vgs.data.batching import plan_unpaired

LENGTHS = np.array([10, 20, 30, 40, 50, 60, 70], dtype=np.int64)
BATCHES = [np.array([6, 5]), np.array([4, 3, 2]), np.array([1, 0])]


def plan(ratio, *, n_usable=50, seed=0):
    return plan_unpaired(
        BATCHES,
        LENGTHS,
        usable=np.arange(100, 100 + n_usable),
        ratio=ratio,
        generator=np.random.default_rng(seed),
    )


def test_slots_are_numbered_through_the_batches():
    unpaired, slots = plan(1.5)
    assert [slot.tolist() for slot in slots] == [[0, 1, 2], [3, 4, 5, 6, 7], [8, 9, 10]]
    assert unpaired.max_samples.tolist() == [70] * 3 + [50] * 5 + [20] * 3
    assert len(set(unpaired.utterance.tolist())) == 11


def test_small_lists_are_gone_through_again():
    unpaired, _ = plan(2.0, n_usable=5)
    assert len(unpaired) == 14
    counts = np.unique(unpaired.utterance, return_counts=True)[1]
    assert counts.min() >= 2
    assert counts.max() <= 3


def test_epochs_differ_and_repeat():
    assert plan(1.0)[0].utterance.tolist() == plan(1.0)[0].utterance.tolist()
    assert plan(1.0)[0].utterance.tolist() != plan(1.0, seed=1)[0].utterance.tolist()


def test_nothing_to_draw_from():
    with pytest.raises(ValueError, match="usable: expected rows of the unpaired list, got none"):
        plan(1.0, n_usable=0)


def test_a_ratio_too_small_for_any_batch():
    unpaired, slots = plan(0.1)
    assert len(unpaired) == 0
    assert [len(slot) for slot in slots] == [0, 0, 0]
