"""Similarity matrices and embedding spread against loops."""

import pytest
import torch
from reference import contrastive_loops

from fairseq_vgs.losses import embedding_spread, pairwise_similarity


@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_equals_loops(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    speech = torch.randn(5, 4, generator=generator)
    image = torch.randn(3, 4, generator=generator)
    got = pairwise_similarity(speech, image, kind=kind)
    expected = torch.tensor(contrastive_loops.similarities(speech.tolist(), image.tolist(), kind))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_is_float32_under_autocast_and_for_half_inputs(kind: str) -> None:
    generator = torch.Generator().manual_seed(4)
    speech = torch.randn(6, 64, generator=generator).bfloat16()
    image = torch.randn(6, 64, generator=generator).bfloat16()
    expected = pairwise_similarity(speech.float(), image.float(), kind=kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = pairwise_similarity(speech, image, kind=kind)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_a_zero_embedding_has_cosine_zero_and_a_finite_gradient() -> None:
    speech = torch.zeros(2, 3, requires_grad=True)
    similarity = pairwise_similarity(speech, torch.ones(2, 3), kind="cosine")
    similarity.sum().backward()
    assert similarity.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert speech.grad is not None and speech.grad.isfinite().all()


def test_unknown_kind_lists_the_known() -> None:
    with pytest.raises(ValueError, match="dot, cosine"):
        pairwise_similarity(torch.zeros(2, 3), torch.zeros(2, 3), kind="euclid")


def test_widths_must_agree() -> None:
    with pytest.raises(ValueError, match="output_dim"):
        pairwise_similarity(torch.zeros(2, 3), torch.zeros(2, 4), kind="dot")


def test_spread_equals_loops() -> None:
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    assert embedding_spread(x).item() == pytest.approx(contrastive_loops.spread(x.tolist()), rel=1e-5)


def test_collapsed_is_zero_whatever_the_lengths() -> None:
    x = torch.randn(1, 16) * torch.tensor([[0.1], [1.0], [50.0]])
    assert embedding_spread(x).item() == pytest.approx(0.0, abs=1e-5)


def test_isotropic_is_about_one() -> None:
    x = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    assert embedding_spread(x).item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("n_rows", [0, 1])
def test_too_few_rows_have_no_spread(n_rows: int) -> None:
    assert embedding_spread(torch.randn(n_rows, 4)).item() == 0.0


def test_is_float32_and_detached() -> None:
    spread = embedding_spread(torch.randn(4, 8, requires_grad=True).bfloat16())
    assert spread.dtype == torch.float32
    assert not spread.requires_grad
