"""Contrastive losses: hand-computed values, loop-only oracles, gradients, invariances, precision."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import contrastive_loops
from torch import Tensor

from fairseq_vgs.losses import (
    ContrastiveLoss,
    contrastive_accuracy,
    masked_margin_infonce,
    sigmoid_pairwise,
    symmetric_infonce,
)

Loss = Callable[[Tensor, Tensor], ContrastiveLoss]

LOSSES: dict[str, tuple[Loss, Callable[..., tuple[float, float, float]]]] = {
    "masked_margin": (
        lambda similarity, ids: masked_margin_infonce(similarity, ids, margin=0.7),
        lambda similarity, ids: contrastive_loops.masked_margin(similarity, ids, 0.7),
    ),
    "symmetric": (
        lambda similarity, ids: symmetric_infonce(similarity, ids, logit_scale=5.0),
        lambda similarity, ids: contrastive_loops.symmetric(similarity, ids, 5.0),
    ),
    "sigmoid": (
        lambda similarity, ids: sigmoid_pairwise(similarity, ids, logit_scale=4.0, logit_bias=-2.0),
        lambda similarity, ids: contrastive_loops.sigmoid(similarity, ids, 4.0, -2.0),
    ),
}
every_loss = pytest.mark.parametrize("name", sorted(LOSSES))


def random_case(n_pairs: int, *, seed: int, n_images: int | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.randn(n_pairs, n_pairs, generator=generator, dtype=torch.float64) * 3
    return similarity, torch.randint(n_images or 10 * n_pairs, (n_pairs,), generator=generator)


@every_loss
@pytest.mark.parametrize("seed", range(8))
def test_equals_loops_with_repeated_images(name: str, seed: int) -> None:
    loss, oracle = LOSSES[name]
    similarity, ids = random_case(1 + seed, seed=seed, n_images=3)
    expected = oracle(similarity.tolist(), ids.tolist())
    for got, value in zip(loss(similarity, ids), expected, strict=True):
        assert got.item() == pytest.approx(value, rel=1e-12, abs=1e-12)


def test_two_by_two_by_hand() -> None:
    # Rows: [2, 1] and [0, 3]. With margin 1 the diagonal is 1 and 2.
    similarity, ids = torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 1])
    forth = (math.log(1 + math.exp(1 - 1)) + math.log(1 + math.exp(0 - 2))) / 2
    back = (math.log(1 + math.exp(0 - 1)) + math.log(1 + math.exp(1 - 2))) / 2
    margin = masked_margin_infonce(similarity, ids, margin=1.0)
    assert margin.speech_to_image.item() == pytest.approx(forth, rel=1e-6)
    assert margin.image_to_speech.item() == pytest.approx(back, rel=1e-6)
    assert margin.loss.item() == pytest.approx(forth + back, rel=1e-6)

    forth = (math.log(1 + math.exp(-2 * 1)) + math.log(1 + math.exp(-2 * 3))) / 2
    back = (math.log(1 + math.exp(-2 * 2)) + math.log(1 + math.exp(-2 * 2))) / 2
    scaled = symmetric_infonce(similarity, ids, logit_scale=2.0)
    assert scaled.loss.item() == pytest.approx((forth + back) / 2, rel=1e-6)

    # Logits 2 s - 3: [1, -1], [-3, 3]; positives +, negatives -.
    nats = [math.log(1 + math.exp(x)) for x in (-1, -1, -3, -3)]
    paired = sigmoid_pairwise(similarity, ids, logit_scale=2.0, logit_bias=-3.0)
    assert paired.loss.item() == pytest.approx(sum(nats) / 2, rel=1e-6)


def test_margin_loss_at_chance() -> None:
    loss = masked_margin_infonce(torch.zeros(64, 64), torch.arange(64), margin=1.0)
    assert loss.loss.item() == pytest.approx(2 * math.log(1 + 63 * math.e), rel=1e-6)
    assert loss.loss.item() == pytest.approx(10.30, abs=0.005)


def test_symmetric_loss_at_chance() -> None:
    loss = symmetric_infonce(torch.zeros(64, 64), torch.arange(64), logit_scale=14.0)
    assert loss.loss.item() == pytest.approx(math.log(64), rel=1e-6)


@every_loss
def test_pairs_of_one_image_have_no_influence_on_each_other(name: str) -> None:
    loss, _ = LOSSES[name]
    similarity, _ = random_case(4, seed=1)
    ids = torch.tensor([7, 3, 7, 5])
    similarity.requires_grad_(True)
    loss(similarity, ids).loss.backward()
    assert similarity.grad is not None
    assert similarity.grad[0, 2] == 0 and similarity.grad[2, 0] == 0
    assert (similarity.grad != 0).sum() == 14


@every_loss
def test_gradients(name: str) -> None:
    loss, _ = LOSSES[name]
    similarity, ids = random_case(4, seed=2, n_images=3)
    assert torch.autograd.gradcheck(lambda x: tuple(loss(x, ids)), similarity.requires_grad_(True))


def test_gradients_of_scale_and_bias() -> None:
    similarity, ids = random_case(4, seed=5, n_images=3)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: symmetric_infonce(similarity, ids, logit_scale=s).loss, scale)
    assert torch.autograd.gradcheck(
        lambda s, b: sigmoid_pairwise(similarity, ids, logit_scale=s, logit_bias=b).loss, (scale, bias)
    )


@every_loss
@settings(max_examples=25, deadline=None)
@given(n_pairs=st.integers(1, 9), seed=st.integers(0, 10_000), n_images=st.integers(1, 9))
def test_order_of_pairs_does_not_matter(name: str, n_pairs: int, seed: int, n_images: int) -> None:
    loss, _ = LOSSES[name]
    similarity, ids = random_case(n_pairs, seed=seed, n_images=n_images)
    order = torch.randperm(n_pairs, generator=torch.Generator().manual_seed(seed))
    straight, permuted = loss(similarity, ids), loss(similarity[order][:, order], ids[order])
    torch.testing.assert_close(tuple(permuted), tuple(straight))
    accuracy = contrastive_accuracy(similarity, ids)
    torch.testing.assert_close(contrastive_accuracy(similarity[order][:, order], ids[order]), accuracy)


@every_loss
@settings(max_examples=25, deadline=None)
@given(n_pairs=st.integers(1, 9), seed=st.integers(0, 10_000), n_images=st.integers(1, 9))
def test_swapping_the_modalities_swaps_the_directions(
    name: str, n_pairs: int, seed: int, n_images: int
) -> None:
    loss, _ = LOSSES[name]
    similarity, ids = random_case(n_pairs, seed=seed, n_images=n_images)
    straight, swapped = loss(similarity, ids), loss(similarity.t(), ids)
    torch.testing.assert_close(swapped.loss, straight.loss)
    torch.testing.assert_close(swapped.speech_to_image, straight.image_to_speech)
    torch.testing.assert_close(swapped.image_to_speech, straight.speech_to_image)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n_pairs=st.integers(2, 9))
def test_a_larger_margin_never_costs_less(seed: int, n_pairs: int) -> None:
    similarity, ids = random_case(n_pairs, seed=seed)
    costs = [masked_margin_infonce(similarity, ids, margin=m).loss.item() for m in (0.0, 0.5, 1.0, 3.0)]
    assert costs == sorted(costs)


@every_loss
def test_computes_in_float32_under_autocast(name: str) -> None:
    loss, _ = LOSSES[name]
    similarity, ids = random_case(6, seed=8, n_images=4)
    half = similarity.bfloat16()
    expected = loss(half.float(), ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(half, ids)
    for part, value in zip(got, expected, strict=True):
        assert part.dtype == torch.float32
        assert part.item() == value.item()


@every_loss
def test_huge_similarities_stay_finite(name: str) -> None:
    loss, _ = LOSSES[name]
    similarity = torch.full((4, 4), 5000.0).fill_diagonal_(-5000.0).requires_grad_(True)
    result = loss(similarity, torch.arange(4)).loss
    result.backward()
    assert result.isfinite()
    assert similarity.grad is not None and similarity.grad.isfinite().all()


@every_loss
def test_one_pair_and_no_pair_are_finite_and_attached(name: str) -> None:
    loss, _ = LOSSES[name]
    for n_pairs in (0, 1):
        similarity = torch.zeros(n_pairs, n_pairs, requires_grad=True)
        result = loss(similarity, torch.zeros(n_pairs, dtype=torch.long)).loss
        result.backward()
        assert result.isfinite()
        assert similarity.grad is not None and similarity.grad.isfinite().all()


@pytest.mark.parametrize("seed", range(8))
def test_accuracy_equals_loops(seed: int) -> None:
    similarity, ids = random_case(2 + seed, seed=seed, n_images=4)
    similarity = similarity.round()  # ties
    expected = [
        contrastive_loops.accuracy(matrix.tolist(), ids.tolist()) for matrix in (similarity, similarity.t())
    ]
    assert [value.item() for value in contrastive_accuracy(similarity, ids)] == pytest.approx(expected)


def test_accuracy_of_collapsed_embeddings_is_chance_and_of_nan_zero() -> None:
    ids = torch.arange(8)
    assert [v.item() for v in contrastive_accuracy(torch.ones(8, 8), ids)] == [0.125, 0.125]
    assert [v.item() for v in contrastive_accuracy(torch.full((8, 8), math.nan), ids)] == [0.0, 0.0]
    assert [v.item() for v in contrastive_accuracy(torch.zeros(0, 0), ids[:0])] == [0.0, 0.0]


@every_loss
def test_shapes_are_checked(name: str) -> None:
    loss, _ = LOSSES[name]
    with pytest.raises(ValueError, match="square similarity matrix"):
        loss(torch.zeros(2, 3), torch.arange(2))
    with pytest.raises(ValueError, match="one image id per pair"):
        loss(torch.zeros(2, 2), torch.arange(3))


def test_a_vector_is_no_scale() -> None:
    with pytest.raises(ValueError, match="expected scalars"):
        symmetric_infonce(torch.zeros(2, 2), torch.arange(2), logit_scale=torch.ones(2))
