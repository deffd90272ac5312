"""Losses and schedules: pure functions of tensors, usable with torch alone."""

from fairseq_vgs.losses.alpha import ALPHA_SCHEDULES, AlphaSchedule
from fairseq_vgs.losses.contrastive import (
    LOSSES,
    ContrastiveLoss,
    VgsLoss,
    contrastive_accuracy,
    masked_margin_infonce,
    sigmoid_pairwise,
    symmetric_infonce,
)
from fairseq_vgs.losses.cooperation import GradientAgreement, gradient_agreement, linear_cka
from fairseq_vgs.losses.gather import gather_ids, gather_with_gradient
from fairseq_vgs.losses.similarity import SIMILARITIES, embedding_spread, pairwise_similarity

__all__ = [
    "ALPHA_SCHEDULES",
    "LOSSES",
    "SIMILARITIES",
    "AlphaSchedule",
    "ContrastiveLoss",
    "GradientAgreement",
    "VgsLoss",
    "contrastive_accuracy",
    "embedding_spread",
    "gather_ids",
    "gather_with_gradient",
    "gradient_agreement",
    "linear_cka",
    "masked_margin_infonce",
    "pairwise_similarity",
    "sigmoid_pairwise",
    "symmetric_infonce",
]
