"""Registered criterions. Importing this package registers them with fairseq."""

# first: once imported it registers this room, which must not be half imported by then
import fairseq  # noqa: F401

from fairseq_vgs.criterions.vgs_contrastive import VgsContrastiveConfig, VgsContrastiveCriterion
from fairseq_vgs.criterions.vgs_multitask import VgsMultitaskConfig, VgsMultitaskCriterion

__all__ = ["VgsContrastiveConfig", "VgsContrastiveCriterion", "VgsMultitaskConfig", "VgsMultitaskCriterion"]
