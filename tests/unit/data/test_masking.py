import numpy as np
import pytest
import torch
from fairseq.data.data_utils import compute_mask_indices, numpy_seed
from hypothesis import given
from hypothesis import strategies as st

from fairseq_vgs.data.masking import MIN_FRAMES, MaskOptions, draw_mask, trim_masks


def many(n_frames, options, n_draws):
    return np.stack([draw_mask(n_frames, options, np.random.default_rng((7, i))) for i in range(n_draws)])


def fairseq_masks(n_frames, options, n_draws):
    with numpy_seed(3):
        return compute_mask_indices(
            (n_draws, n_frames),
            torch.zeros(n_draws, n_frames, dtype=torch.bool),  # without it all rows share one number of spans
            options.prob,
            options.length,
            "static",
            min_masks=2,
            no_overlap=options.no_overlap,
            min_space=options.min_space,
            require_same_masks=False,
        )


@pytest.mark.parametrize(
    ("n_frames", "options"),
    [
        (100, MaskOptions(0.65, 10)),
        (43, MaskOptions(0.65, 10)),
        (13, MaskOptions(0.65, 10)),
        (60, MaskOptions(0.2, 7)),
        (5, MaskOptions(0.4, 10)),
        (60, MaskOptions(0.5, 5, no_overlap=True)),
        (60, MaskOptions(0.3, 4, no_overlap=True, min_space=3)),
    ],
)
def test_same_distribution_as_fairseq(n_frames, options):
    n_draws = 1000 if options.no_overlap else 3000
    ours, theirs = many(n_frames, options, n_draws), fairseq_masks(n_frames, options, n_draws)
    counts, their_counts = ours.sum(axis=1), theirs.sum(axis=1)
    error = np.sqrt((counts.var() + their_counts.var()) / n_draws)
    assert abs(counts.mean() - their_counts.mean()) < 4 * error + 1e-9
    assert abs(counts.std() - their_counts.std()) < 0.1 * their_counts.std() + 0.05
    # each frame's probability of being masked
    marginal_error = np.sqrt(2 * 0.25 / n_draws)
    assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() < 5 * marginal_error
    # lengths of the masked runs
    edges = np.diff(ours.astype(np.int8), axis=1)
    their_edges = np.diff(theirs.astype(np.int8), axis=1)
    n_runs, their_n_runs = (edges == 1).sum(axis=1), (their_edges == 1).sum(axis=1)
    error = np.sqrt((n_runs.var() + their_n_runs.var()) / n_draws)
    assert abs(n_runs.mean() - their_n_runs.mean()) < 4 * error + 1e-9


@given(
    n_frames=st.integers(MIN_FRAMES, 60),
    prob=st.floats(0.01, 1),
    length=st.integers(1, 15),
    no_overlap=st.booleans(),
    min_space=st.integers(0, 4),
    seed=st.integers(0, 1000),
)
def test_every_utterance_has_at_least_two_masked_frames(n_frames, prob, length, no_overlap, min_space, seed):
    options = MaskOptions(prob, length, no_overlap=no_overlap, min_space=min_space)
    mask = draw_mask(n_frames, options, np.random.default_rng(seed))
    assert mask.shape == (n_frames,)
    # a single span of one frame is all that fits between wide spaces
    assert mask.sum() >= (1 if no_overlap and length + min_space <= n_frames else 2)


def test_spans_that_must_not_overlap_keep_their_distance():
    options = MaskOptions(0.6, 4, no_overlap=True, min_space=2)
    for mask in many(50, options, 200):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
        starts, ends = edges[::2], edges[1::2]
        assert set(ends - starts) == {4}
        assert (starts[1:] - ends[:-1] >= 1).all()


def test_trimming_gives_equal_counts_inside_the_masks():
    masks = [draw_mask(n, MaskOptions(0.5, 5), np.random.default_rng(n)) for n in (30, 45, 60)]
    generators = [np.random.default_rng(i) for i in range(3)]
    trimmed = trim_masks(masks, generators)
    fewest = min(mask.sum() for mask in masks)
    for mask, result in zip(masks, trimmed, strict=True):
        assert result.sum() == fewest
        assert not (result & ~mask).any()


def test_trimming_drops_out_a_share():
    masks = [np.ones(20, dtype=bool), np.ones(30, dtype=bool)]
    trimmed = trim_masks(masks, [np.random.default_rng(i) for i in range(2)], dropout=0.25)
    assert [mask.sum() for mask in trimmed] == [15, 15]
    assert trim_masks([], []) == []
