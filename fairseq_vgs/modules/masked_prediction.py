"""wav2vec 2.0's contrastive logits, without a copy of every negative.

Legend: `B` utterances, `M` masked frames each, `N` negatives per masked frame, `D` dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_EPS = 1e-8  # as torch.cosine_similarity
_MIX = -7046029254386353131  # an odd number of 64 random-looking bits: 2^64 divided by the golden ratio


def draw_negatives(n_rows: int, n_masked: int, n_negatives: int, device: torch.device) -> Tensor:
    """Draw for every masked frame others of the same utterance, with replacement: int64 `[B, M, N]`, 0..M-1.

    On a CPU these are the numbers that fairseq's `sample_negatives` draws from the same state of torch's
    generator; on a GPU the host does not wait for them.
    """
    if n_masked < 2:
        raise ValueError(f"masked frames per utterance: expected at least 2, got {n_masked}; mask more")
    drawn = torch.randint(n_masked - 1, (n_rows, n_masked * n_negatives), device=device)
    drawn = drawn.view(n_rows, n_masked, n_negatives)
    return drawn + (drawn >= torch.arange(n_masked, device=device).unsqueeze(1))


def candidate_logits(predicted: Tensor, targets: Tensor, negatives: Tensor, *, temperature: float) -> Tensor:
    """Compare every predicted frame with its target and its negatives, as fairseq's `compute_preds`.

    The cosine similarities of all masked frames of an utterance are one matrix product, from which those of
    the negatives are picked. A negative equal to the target gets -inf.

    Shape:
        predicted and targets f32 `[B, M, D]`, negatives int64 `[B, M, N]` (numbers of masked frames). Result
        f32 `[1 + N, B, M]`, targets first.
    """
    n_rows, n_masked, _ = targets.shape
    predicted, unit_targets = (F.normalize(x, dim=2, eps=NORM_EPS) for x in (predicted, targets))
    similarity = predicted @ unit_targets.transpose(1, 2)
    own = torch.arange(n_masked, device=targets.device).view(1, -1, 1).expand(n_rows, -1, -1)
    logits = similarity.gather(2, torch.cat([own, negatives], dim=2)) / temperature
    names = _names(targets)
    equal = names.gather(1, negatives.flatten(1)).view_as(negatives) == names.unsqueeze(2)
    return logits.masked_fill(F.pad(equal, (1, 0), value=False), -torch.inf).permute(2, 0, 1)


def _names(frames: Tensor) -> Tensor:
    """Hash the bits of frames f32 `[B, M, D]` to int64 `[B, M]`, in practice without collisions.

    Comparing all pairs of frames instead would take as long as the similarities.
    """
    bits = (frames.detach().float() + 0.0).view(torch.int32).long()  # + 0.0: no negative zeros
    factors = torch.arange(1, frames.size(2) + 1, device=frames.device) * _MIX  # int64 wraps around
    factors = (factors ^ (factors >> 29)) * _MIX
    return (bits * factors).sum(dim=2)
