"""Embedding spread: a collapse alarm.

Legend: `N` embeddings, `E` dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_vgs.losses.similarity import full_precision

__all__ = ["embedding_spread"]


@torch.no_grad()
def embedding_spread(x: Tensor) -> Tensor:
    """How widely embeddings point: 0 = all in one direction (collapsed), about 1 = all directions alike.

    Mean over dimensions of the standard deviation across rows of the L2-normalised embeddings, times sqrt(E)
    (the measure of Chen & He 2021, section 4.1). Fewer than two rows have no spread: 0.

    Args:
        x: `[N, E]`.
    """
    if len(x) < 2:
        return torch.zeros((), device=x.device)
    unit = F.normalize(full_precision(x), dim=-1)
    spread: Tensor = unit.std(dim=0, correction=0).mean() * x.size(1) ** 0.5
    return spread
