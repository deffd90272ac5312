"""Batches padded to one of few lengths: the same batches, and the same losses."""

import numpy as np
import pytest
import torch
from support.tiny import NO_DROPOUT, tiny_model
from support.tiny_folder import make_folder
from unit.data.test_paired_dataset import assert_equal_samples, dataset

from fairseq_vgs.criterions.vgs_multitask import VgsMultitaskCriterion
from fairseq_vgs.data.batching import bucket_lengths


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "m")


def test_equally_many_items_are_below_each_length():
    lengths = np.random.default_rng(0).permutation(np.arange(1, 101))
    assert bucket_lengths(lengths, 4).tolist() == [26, 51, 76, 100]
    assert bucket_lengths(np.array([7, 7, 9]), 5).tolist() == [7, 9]


def batches_of(data, **limits):
    return [batch.tolist() for batch in data.batch_by_size(data.ordered_indices(), **limits)]


def test_batches_are_those_without_buckets_but_longer(folder):
    plain, padded = dataset(folder), dataset(folder, length_buckets=2)
    batches = batches_of(plain, max_sentences=2)
    assert batches == batches_of(padded, max_sentences=2)
    lengths, differences = set(), 0
    for batch in batches:
        expected, actual = (data.collater([data[index] for index in batch]) for data in (plain, padded))
        source, padding = actual["net_input"].pop("source"), actual["net_input"].pop("padding_mask")
        expected_source = expected["net_input"].pop("source")
        n_samples = expected_source.size(1)
        assert torch.equal(source[:, :n_samples], expected_source)
        assert not source[:, n_samples:].any()
        assert padding[:, n_samples:].all()
        assert torch.equal(padding[:, :n_samples], expected["net_input"].pop("padding_mask"))
        assert actual.pop("n_padded") - expected.pop("n_padded") == source.numel() - expected_source.numel()
        assert_equal_samples(actual, expected)
        lengths.add(source.size(1))
        differences += source.size(1) > n_samples
    assert len(lengths) <= 2
    assert differences


def test_max_tokens_counts_what_buckets_add(folder):
    padded = dataset(folder, length_buckets=1)
    longest = int(padded.sizes.max())
    for batch in batches_of(padded, max_tokens=2 * longest):
        assert (
            padded.collater([padded[index] for index in batch])["net_input"]["source"].numel() <= 2 * longest
        )


def test_validation_is_padded_to_its_longest(folder):
    data = dataset(folder, length_buckets=1, training=False)
    shortest = int(data.sizes.argmin())
    assert data.collater([data[shortest]])["net_input"]["source"].size(1) == data.sizes[shortest]


def test_losses_are_those_without_buckets(folder):
    model = tiny_model(image_dim=dataset(folder).regions.dim, **NO_DROPOUT).train()
    losses = []
    for data in (dataset(folder), dataset(folder, length_buckets=1)):
        batch = sorted(range(len(data)), key=lambda index: data.sizes[index])[:3]
        torch.manual_seed(0)
        sample = data.collater([data[index] for index in batch])
        losses.append(VgsMultitaskCriterion(None).train()(model, sample)[0].detach())
        losses.append(torch.tensor(float(sample["net_input"]["source"].size(1))))
    torch.testing.assert_close(losses[0], losses[2], rtol=1e-5, atol=1e-5)
    assert losses[1] < losses[3]
