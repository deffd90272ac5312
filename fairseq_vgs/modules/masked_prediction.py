"""wav2vec 2.0's contrastive logits, without a copy of every negative.

Legend: `B` utterances, `M` masked frames each, `N` negatives per masked frame, `D` dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["candidate_logits", "draw_negatives"]

NORM_EPS = 1e-8  # as torch.cosine_similarity
_MIX = -7046029254386353131  # an odd number of 64 random-looking bits: 2^64 divided by the golden ratio


def draw_negatives(n_rows: int, n_masked: int, n_negatives: int, device: torch.device) -> Tensor:
    """Draw for every masked frame others of the same utterance, with replacement.

    On a CPU these are the numbers that fairseq's `sample_negatives` draws from the same state of torch's
    generator; on a GPU the host does not wait for them.

    Returns:
        int64 `[B, M, N]`, each in 0..M-1 and never the frame itself.
    """
    if n_masked < 2:
        raise ValueError(f"masked frames per utterance: expected at least 2, got {n_masked}; mask more")
    drawn = torch.randint(n_masked - 1, (n_rows, n_masked * n_negatives), device=device)
    drawn = drawn.view(n_rows, n_masked, n_negatives)
    return drawn + (drawn >= torch.arange(n_masked, device=device).unsqueeze(1))


def candidate_logits(predicted: Tensor, targets: Tensor, negatives: Tensor, *, temperature: float) -> Tensor:
    """Compare every predicted frame with its target and its negatives.

    The cosine similarities of all masked frames of an utterance are one matrix product, from which those of
    the negatives are picked. A negative equal to the target gets -inf.

    Args:
        predicted: f32 `[B, M, D]`.
        targets: f32 `[B, M, D]`.
        negatives: int64 `[B, M, N]`, numbers of masked frames.
        temperature: divides the similarities.

    Returns:
        f32 `[1 + N, B, M]`, targets first, as fairseq's `compute_preds` up to rounding.
    """
    n_rows, n_masked, _ = targets.shape
    similarity = F.normalize(predicted, dim=2, eps=NORM_EPS) @ (
        F.normalize(targets, dim=2, eps=NORM_EPS).transpose(1, 2)
    )
    own = torch.arange(n_masked, device=targets.device).view(1, -1, 1).expand(n_rows, -1, -1)
    logits = similarity.gather(2, torch.cat([own, negatives], dim=2)) / temperature
    names = _names(targets)
    equal = names.gather(1, negatives.flatten(1)).view_as(negatives) == names.unsqueeze(2)
    return logits.masked_fill(F.pad(equal, (1, 0), value=False), -torch.inf).permute(2, 0, 1)


def _names(frames: Tensor) -> Tensor:
    """Hash frames f32 `[B, M, D]` to int64 `[B, M]`: equal frames get equal numbers, others different ones.

    A frame's bits are hashed with well-mixed factors, so collisions do not happen in practice. Comparing all
    pairs instead would take as long as the similarities.
    """
    bits = (frames.detach().float() + 0.0).view(torch.int32).long()  # + 0.0: no negative zeros
    factors = torch.arange(1, frames.size(2) + 1, device=frames.device) * _MIX  # int64 wraps around
    factors = (factors ^ (factors >> 29)) * _MIX
    return (bits * factors).sum(dim=2)
