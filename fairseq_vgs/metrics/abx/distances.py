"""Measure distances between frames, f[N, D] and f[M, D] to f[N, M]."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_KL_EPSILON = 1e-6  # of Libri-Light's evaluation
# One more dim of unit vectors: zero with zero is far above every cosine, zero with others -2, others with
# others nothing that counts.
_BORDER_OF_ZERO, _BORDER_OF_OTHERS = -2e12, 1e-12
_ROUNDING = 8.0  # in units of the last place
_MAX_DIFFERENCES = 1 << 23  # numbers held at once by distances that cannot be a matrix product

Elementwise = Callable[[Tensor], Tensor]
Between = Callable[[Tensor, Tensor], Tensor]


def _unchanged(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True)
class FrameDistance:
    """A distance in three steps, of which the first and the last are cheaper on everything at once.

    ``prepare`` takes all frames f[frames, D], ``between`` prepared f[N, D] and f[M, D] to f[N, M], ``finish``
    all results, which it may change in place.
    """

    between: Between
    prepare: Elementwise = _unchanged
    finish: Elementwise = _unchanged

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Return f[N, M] of frames f[N, D] and f[M, D] as they are."""
        frames = self.prepare(torch.cat([first, second]))
        return self.finish(self.between(frames[: len(first)], frames[len(first) :]))


def product(first: Tensor, second: Tensor) -> Tensor:
    """All dot products."""
    return first @ second.T


def angle(cosine: Tensor) -> Tensor:
    """Turn cosines, in place, into angles as shares of pi.

    A cosine that is 1 but for rounding is 1, so that copies are at distance 0 and ties are ties.
    """
    cosine.masked_fill_(cosine > 1.0 - _ROUNDING * torch.finfo(cosine.dtype).eps, 1.0)
    return cosine.clamp_(min=-1.0).acos_().div_(math.pi)


def euclidean(first: Tensor, second: Tensor) -> Tensor:
    """Length of the difference; not through products, which would blur small distances."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def kl_symmetric(first: Tensor, second: Tensor) -> Tensor:
    """Mean of both Kullback-Leibler divergences, nats; of what ``with_logs`` makes of distributions."""

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        difference, log_difference = (p - q).chunk(2, dim=-1)
        return (difference * log_difference).sum(-1).mul(0.5)

    return _by_differences(first, second, divergence)


def identical(first: Tensor, second: Tensor) -> Tensor:
    """0 where all dims are equal, else 1; for discrete units."""
    return _by_differences(first, second, lambda p, q: (p != q).any(-1).to(p.dtype))


def unit_length(frames: Tensor) -> Tensor:
    """Scale f[frames, D] to length 1.

    As in the field's toolkits, a zero vector is at distance 0 from zero vectors and at distance 1 from all
    others: a further dim takes care of it, where there is one.
    """
    norms = torch.linalg.vector_norm(frames, dim=-1, keepdim=True)
    is_zero = norms == 0
    unit = frames / torch.where(is_zero, torch.ones_like(norms), norms)
    if not bool(is_zero.any()):
        return unit
    border = torch.where(is_zero, _BORDER_OF_ZERO, _BORDER_OF_OTHERS)
    return torch.cat([unit, border.to(frames.dtype)], dim=-1)


def with_logs(frames: Tensor) -> Tensor:
    """Append to f[frames, D] distributions their logarithms, smoothed by 1e-6: f[frames, 2 D]."""
    return torch.cat([frames, (frames + _KL_EPSILON).log()], dim=-1)


def _by_differences(first: Tensor, second: Tensor, distance: Between) -> Tensor:
    block = max(1, _MAX_DIFFERENCES // max(1, second.numel()))
    return torch.cat([distance(rows[:, None], second) for rows in first.split(block)])


DISTANCES: dict[str, FrameDistance] = {
    "angular": FrameDistance(product, unit_length, angle),
    "euclidean": FrameDistance(euclidean),
    "kl_symmetric": FrameDistance(kl_symmetric, with_logs),
    "identical": FrameDistance(identical),
}
