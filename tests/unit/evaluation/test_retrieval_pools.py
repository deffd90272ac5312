"""Retrieval within disjoint pools: who is in which pool, ranks, chance."""

from __future__ import annotations

import numpy as np
import pytest

from fairseq_vgs.evaluation import retrieval_pools
from fairseq_vgs.evaluation.metrics import retrieval
from fairseq_vgs.evaluation.retrieval_figures import Pool
from fairseq_vgs.files.faults import FaultError

N_IMAGES, N_CAPTIONS = 23, 60


@pytest.fixture
def whole():
    """Images 0 and 1 are copies of each other; the last three have no captions."""
    groups = np.arange(N_IMAGES)
    groups[1] = 0
    return Pool(groups[np.arange(N_CAPTIONS) % (N_IMAGES - 3)], groups)


def _embeddings(whole, *, noise=1.5):
    generator = np.random.default_rng(3)
    images = generator.standard_normal((N_IMAGES, 6)).astype(np.float32)
    noisy = images[np.arange(N_CAPTIONS) % (N_IMAGES - 3)]
    return (noisy + noise * generator.standard_normal(noisy.shape)).astype(np.float32), images


def test_pools_are_disjoint_of_equal_size_and_keep_groups_together(whole):
    pools = retrieval_pools.deal_images(whole, 4, seed=1)
    assert len(pools.image_pools) == N_IMAGES
    assert set(pools.image_pools) == set(range(4))
    assert pools.image_pools[0] == pools.image_pools[1]
    sizes = np.bincount(pools.image_pools[1:])  # groups: the copy is no further one
    assert sizes.max() - sizes.min() <= 1
    for group, pool in zip(whole.speech_groups, pools.speech_pools, strict=True):
        assert set(pools.image_pools[whole.image_groups == group]) == {pool}
    assert np.array_equal(pools.image_pools, retrieval_pools.deal_images(whole, 4, seed=1).image_pools)
    assert not np.array_equal(pools.image_pools, retrieval_pools.deal_images(whole, 4, seed=2).image_pools)


def test_ranks_are_counted_within_pools(whole):
    speech, images = _embeddings(whole)
    pools = retrieval_pools.deal_images(whole, 3, seed=1)
    ranks = retrieval_pools.pooled_ranks(speech, images, pools)
    for row, group in enumerate(whole.speech_groups):
        members = np.flatnonzero(pools.image_pools == pools.speech_pools[row])
        scores = images[members].astype(float) @ speech[row].astype(float)
        correct = whole.image_groups[members] == group
        assert ranks.speech_to_image[row] == 1 + np.sum(scores[~correct] > scores[correct].max())
    for column, group in enumerate(whole.image_groups):
        members = np.flatnonzero(pools.speech_pools == pools.image_pools[column])
        scores = speech[members].astype(float) @ images[column].astype(float)
        correct = whole.speech_groups[members] == group
        if correct.any():
            expected = 1 + np.sum(scores[~correct] > scores[correct].max())
            assert ranks.image_to_speech[column] == expected
        else:
            assert np.isnan(ranks.image_to_speech[column])


def test_metrics_and_chance(whole):
    speech, images = _embeddings(whole)
    pools = retrieval_pools.deal_images(whole, 3, seed=1)
    ranks = retrieval_pools.pooled_ranks(speech, images, pools)
    metrics = retrieval_pools.pooled_metrics(ranks, pools, seed=1, n_resamples=100)
    for name, value in retrieval.recalls(ranks).items():
        assert metrics[name].value.value == pytest.approx(value)
        assert metrics[name].value.low <= value <= metrics[name].value.high
    positives = np.array([np.sum(whole.image_groups == group) for group in whole.speech_groups])
    gallery = np.bincount(pools.image_pools)[pools.speech_pools]
    assert metrics["speech_to_image_r1"].chance == pytest.approx(100 * np.mean(positives / gallery))
    assert metrics["speech_to_image_r1"].n == N_CAPTIONS
    assert metrics["image_to_speech_r1"].n == N_IMAGES - 3


def test_sizes_are_stated(whole):
    pools = retrieval_pools.deal_images(whole, 3, seed=5)
    content = retrieval_pools.pools_json(pools, seed=5)
    assert (sum(content["images"]), sum(content["captions"])) == (N_IMAGES, N_CAPTIONS)
    assert (content["n"], content["seed"]) == (3, 5)
    low, high = min(content["images"]), max(content["images"])
    assert retrieval_pools.describe(content).startswith(
        f"3 disjoint pools of {low}-{high} images" if low < high else f"3 disjoint pools of {low} images"
    )


def test_one_image_cannot_be_dealt():
    one = Pool(np.zeros(3, dtype=np.int64), np.arange(2))
    with pytest.raises(FaultError, match=r"folds: split must have at least 2 .*got 1; leave --folds out"):
        retrieval_pools.deal_images(one, 2, seed=1)


@pytest.mark.parametrize("n_pools", [-1, 0, 1, N_IMAGES - 3])
def test_every_pool_has_queries(whole, n_pools):
    with pytest.raises(FaultError, match=f"folds: must be from 2 to {N_IMAGES - 4}"):
        retrieval_pools.deal_images(whole, n_pools, seed=1)
    most = retrieval_pools.deal_images(whole, N_IMAGES - 4, seed=1)
    assert set(most.speech_pools) == set(range(N_IMAGES - 4))
