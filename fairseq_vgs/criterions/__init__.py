"""Registered criterions. Importing this package registers them with fairseq."""

# first: once imported it registers this room, which must not be half imported by then
import fairseq  # noqa: F401

from fairseq_vgs.criterions.vgs_contrastive import VgsContrastiveCriterion, VgsCriterionConfig
from fairseq_vgs.criterions.vgs_multitask import VgsMultitaskCriterion

__all__ = ["VgsContrastiveCriterion", "VgsCriterionConfig", "VgsMultitaskCriterion"]
