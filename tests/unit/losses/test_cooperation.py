"""Gradient cosine and linear CKA: by hand, against loops, and their invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import cooperation_loops

from fairseq_vgs.losses import gradient_agreement, linear_cka


def frames(n_frames: int, dims: int, seed: int) -> torch.Tensor:
    return torch.randn(n_frames, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gradients_by_hand() -> None:
    first = [torch.tensor([[3.0, 0.0]]), torch.tensor(4.0)]
    second = [torch.tensor([[1.0, 2.0]]), torch.tensor(2.0)]
    got = gradient_agreement(first, second)
    assert [value.item() for value in got] == pytest.approx([(3 + 8) / (5 * 3), 5.0, 3.0])
    opposite = gradient_agreement(first, [-2 * gradient for gradient in first])
    assert opposite.cosine.item() == pytest.approx(-1.0)


def test_gradients_equal_loops_on_the_concatenated_vector() -> None:
    shapes = [(3, 4), (5,), (2, 1, 2)]
    generator = torch.Generator().manual_seed(1)
    first, second = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    flat = [torch.cat([gradient.flatten() for gradient in side]).tolist() for side in (first, second)]
    assert gradient_agreement(first, second).cosine.item() == pytest.approx(cooperation_loops.cosine(*flat))


def test_a_gradient_of_zero_has_no_direction() -> None:
    got = gradient_agreement([torch.zeros(3)], [torch.ones(3)])
    assert math.isnan(got.cosine.item())
    assert got.first_norm.item() == 0.0


@pytest.mark.parametrize("second", [[torch.ones(2)], [torch.ones(3), torch.ones(1)], []])
def test_gradients_of_other_parameters_are_refused(second: list[torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="same parameters"):
        gradient_agreement([torch.ones(3)], second)


def test_small_gradients_are_not_lost_in_rounding() -> None:
    tiny = torch.full((10,), 1e-25)
    assert gradient_agreement([tiny], [tiny]).cosine.item() == pytest.approx(1.0)


def test_cka_by_hand() -> None:
    """Two orthogonal centred columns of squared lengths 2 and 2, against the first alone: 4 / (sqrt(8) 2)."""
    first, second = [1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]
    x = torch.tensor([first, second]).T
    y = torch.tensor([first]).T + 7
    assert linear_cka(x, y).item() == pytest.approx(4 / (math.sqrt(8) * 2))
    assert linear_cka(y, torch.tensor([second]).T).item() == 0.0


@pytest.mark.parametrize(("n_frames", "dims", "other_dims"), [(12, 4, 3), (5, 7, 9)])
def test_cka_equals_the_form_over_frames(n_frames: int, dims: int, other_dims: int) -> None:
    x, y = frames(n_frames, dims, 0) + 3, frames(n_frames, other_dims, 1)
    assert linear_cka(x, y).item() == pytest.approx(cooperation_loops.cka(x.tolist(), y.tolist()))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    dims=st.integers(1, 6),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-100, 100),
)
def test_cka_ignores_rotation_scale_and_shift(seed: int, dims: int, scale: float, shift: float) -> None:
    x, y = frames(20, dims, seed), frames(20, 4, seed + 1)
    orthogonal, _ = torch.linalg.qr(frames(dims, dims, seed + 2))
    moved = scale * x @ orthogonal + shift
    assert linear_cka(moved, x).item() == pytest.approx(1.0)
    expected = linear_cka(x, y).item()
    assert linear_cka(moved, y).item() == pytest.approx(expected)
    assert linear_cka(y, moved).item() == pytest.approx(expected)
    assert 0.0 <= expected < 1.0


def test_cka_sees_other_linear_maps() -> None:
    x = frames(50, 3, 0)
    assert linear_cka(x, x * torch.tensor([1.0, 1.0, 10.0])).item() < 0.9


def test_cka_is_float64_also_for_half_inputs() -> None:
    x = frames(40, 8, 0).bfloat16()
    assert linear_cka(x, x).dtype == torch.float64
    assert linear_cka(x, x).item() == pytest.approx(1.0, abs=1e-12)


def test_a_constant_representation_has_no_similarity() -> None:
    assert math.isnan(linear_cka(torch.ones(5, 2), frames(5, 2, 0)).item())


@pytest.mark.parametrize("shape", [(4, 2), (5,)])
def test_cka_wants_the_same_frames(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="equally many rows"):
        linear_cka(torch.ones(5, 2), torch.ones(shape))
