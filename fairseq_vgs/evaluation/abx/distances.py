"""Distances between the frames of token pairs.

Shapes: P pairs, N and M frames of the first and second tokens, D dims.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

FrameDistance = Callable[[Tensor, Tensor], Tensor]

_KL_EPSILON = 1e-6  # of Libri-Light's evaluation
_ROUNDING = 8.0  # in units of the last place
_MAX_DIFFERENCES = 1 << 23  # numbers held at once by distances that cannot be a matrix product


def angular(first: Tensor, second: Tensor) -> Tensor:
    """Angle as a share of pi; the vectors are of unit length already (`unit_length`).

    A cosine that is 1 but for rounding is 1, so that copies are at distance 0 and ties are ties. Where a
    vector is zero, the angle is taken to be a right one.
    """
    cosine = torch.bmm(first, second.transpose(1, 2))
    margin = _ROUNDING * torch.finfo(cosine.dtype).eps
    cosine = torch.where(cosine > 1.0 - margin, torch.ones_like(cosine), cosine)
    return torch.acos(cosine.clamp(min=-1.0)).div_(math.pi)


def euclidean(first: Tensor, second: Tensor) -> Tensor:
    """Length of the difference; not through products, which would blur small distances."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def kl_symmetric(first: Tensor, second: Tensor) -> Tensor:
    """Mean of both Kullback-Leibler divergences of distributions over D, nats, smoothed by 1e-6."""
    return _by_differences(
        first,
        second,
        lambda p, q: ((p - q) * ((p + _KL_EPSILON).log() - (q + _KL_EPSILON).log())).sum(-1).mul(0.5),
    )


def identical(first: Tensor, second: Tensor) -> Tensor:
    """0 where all dims are equal, else 1; for discrete units."""
    return _by_differences(first, second, lambda p, q: (p != q).any(-1).to(torch.get_default_dtype()))


DISTANCES: dict[str, FrameDistance] = {
    "angular": angular,
    "euclidean": euclidean,
    "kl_symmetric": kl_symmetric,
    "identical": identical,
}


def unit_length(frames: Tensor) -> Tensor:
    """Scale f[frames, D] to length 1; zero vectors stay zero."""
    return torch.nn.functional.normalize(frames, dim=-1, eps=torch.finfo(frames.dtype).tiny)


def _by_differences(first: Tensor, second: Tensor, distance: FrameDistance) -> Tensor:
    n_pairs, n_rows, n_dims = first.shape
    block = max(1, _MAX_DIFFERENCES // max(1, n_rows * second.size(1) * n_dims))
    parts = [
        distance(first[start : start + block, :, None], second[start : start + block, None])
        for start in range(0, n_pairs, block)
    ]
    return torch.cat(parts)
