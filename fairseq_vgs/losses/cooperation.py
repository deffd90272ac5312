"""What two losses do to the same layer, and how far a layer's representation has moved.

Legend: `n` frames, `D` and `E` dims of two representations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class GradientAgreement(NamedTuple):
    """Cosine and Euclidean lengths of two gradients as vectors; scalars, float64.

    The cosine is 1 where both losses pull the same way, -1 where they undo each other, NaN where one is zero.
    """

    cosine: Tensor
    first_norm: Tensor
    second_norm: Tensor


def gradient_agreement(first: Sequence[Tensor], second: Sequence[Tensor]) -> GradientAgreement:
    """Compare two gradients of the same parameters, each taken as one long vector; in float64.

    Raises:
        ValueError: there are none, or they differ in number or shape.
    """
    one, other = ([tuple(gradient.shape) for gradient in gradients] for gradients in (first, second))
    if not one or one != other:
        expected = "expected gradients of the same parameters"
        raise ValueError(f"gradient_agreement: {expected}, got shapes {one} and {other}")
    # One parameter at a time: a float64 copy of a whole layer need not exist.
    products = [_products(*pair) for pair in zip(first, second, strict=True)]
    dot, first_square, second_square = torch.stack(products).sum(dim=0)
    first_norm, second_norm = first_square.sqrt(), second_square.sqrt()
    return GradientAgreement(dot / (first_norm * second_norm), first_norm, second_norm)


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear centred kernel alignment of two representations of the same frames; in float64.

    `||Yc' Xc||^2 / (||Xc' Xc|| ||Yc' Yc||)` with Frobenius norms and centred columns: 1 for representations
    that are equal up to rotation, reflection, one common scale and a shift, 0 where no direction of one
    varies with any of the other, NaN where one is constant. If `n` is below `D` or `E`, it is biased to 1.
    Source: Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", section 3.

    Shape:
        x `[n, D]`, y `[n, E]`. Result: scalar.

    Raises:
        ValueError: the numbers of frames differ, or an input is no matrix.
    """
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y):
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"linear_cka: expected matrices with equally many rows, got {shapes}")
    x, y = x.double(), y.double()
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    shared = (y.T @ x).square().sum()
    return shared / (torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y))


def _products(first: Tensor, second: Tensor) -> Tensor:
    a, b = first.double(), second.double()
    return torch.stack([(a * b).sum(), a.square().sum(), b.square().sum()])
