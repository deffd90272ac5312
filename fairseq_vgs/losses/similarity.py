"""Similarity of every spoken caption with every image, in full precision whatever surrounds it.

Legend: `N` captions, `M` images, `E` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["SIMILARITIES", "full_precision", "pairwise_similarity", "without_autocast"]

SIMILARITIES = ("dot", "cosine")


def pairwise_similarity(speech: Tensor, image: Tensor, *, kind: str) -> Tensor:
    """Compare every speech embedding with every image embedding, in float32.

    The paper's text (Khorrami et al. 2023) says cosine, the authors' public code takes the raw dot product.

    Args:
        speech: `[N, E]`.
        image: `[M, E]`; in training `M == N` and row i belongs to caption i.
        kind: `dot` or `cosine`.

    Returns:
        `[N, M]`, speech rows x image columns; float32 (float64 if both inputs are).

    Raises:
        ValueError: for an unknown kind or shapes that do not match.
    """
    if kind not in SIMILARITIES:
        raise ValueError(f"similarity: expected one of {', '.join(SIMILARITIES)}, got {kind!r}")
    if speech.dim() != 2 or image.dim() != 2 or speech.size(1) != image.size(1):
        shapes = f"{tuple(speech.shape)} and {tuple(image.shape)}"
        raise ValueError(
            f"pairwise_similarity: expected two matrices of equal width, got {shapes}; "
            "give both branches the same output_dim"
        )
    with without_autocast(speech):
        speech, image = full_precision(speech), full_precision(image)
        if kind == "cosine":
            speech, image = F.normalize(speech, dim=-1), F.normalize(image, dim=-1)
        return speech @ image.t()


def full_precision(x: Tensor) -> Tensor:
    """Return `x` in float32, or unchanged where it already is float64 (gradient checks)."""
    return x if x.dtype == torch.float64 else x.float()


@contextmanager
def without_autocast(x: Tensor) -> Iterator[None]:
    """Switch autocast off on the device of `x`: inside it, matrix products of float32 stay float32."""
    with torch.autocast(device_type=x.device.type, enabled=False):
        yield
