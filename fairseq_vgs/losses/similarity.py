"""Similarity of captions with images in full precision whatever surrounds it, and spread of embeddings.

Legend: `N` captions, `M` images, `E` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

SIMILARITIES = ("dot", "cosine")


def pairwise_similarity(speech: Tensor, image: Tensor, *, kind: str) -> Tensor:
    """Compare every speech embedding with every image embedding, in float32.

    The paper's text (Khorrami et al. 2023) says cosine, the authors' public code takes the raw dot product.

    Shape:
        speech `[N, E]`, image `[M, E]`; in training `M == N` and row i belongs to caption i. Result
        `[N, M]`, speech rows x image columns; float32 (float64 if both inputs are).

    Raises:
        ValueError: for an unknown kind or shapes that do not match.
    """
    if kind not in SIMILARITIES:
        raise ValueError(f"similarity: expected one of {', '.join(SIMILARITIES)}, got {kind!r}")
    if speech.dim() != 2 or image.dim() != 2 or speech.size(1) != image.size(1):
        shapes = f"{tuple(speech.shape)} and {tuple(image.shape)}"
        got = f"got {shapes}; give both branches the same output_dim"
        raise ValueError(f"pairwise_similarity: expected two matrices of equal width, {got}")
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


@torch.no_grad()
def embedding_spread(x: Tensor) -> Tensor:
    """How widely embeddings `[N, E]` point: 0 = all in one direction (collapsed), about 1 = all alike.

    Mean over dimensions of the standard deviation across rows of the L2-normalised embeddings, times sqrt(E)
    (the measure of Chen & He 2021, section 4.1). Fewer than two rows have no spread: 0.
    """
    if len(x) < 2:
        return torch.zeros((), device=x.device)
    spread: Tensor = F.normalize(full_precision(x), dim=-1).std(dim=0, correction=0).mean()
    return spread * x.size(1) ** 0.5
