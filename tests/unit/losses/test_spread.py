"""Embedding spread against loops and at its two ends."""

import pytest
import torch
from reference import contrastive_loops

from fairseq_vgs.losses import embedding_spread


def test_equals_loops() -> None:
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
