"""Registered criterions. Importing this package registers them with fairseq."""

from fairseq_vgs.criterions.vgs_contrastive import VgsContrastiveConfig, VgsContrastiveCriterion
from fairseq_vgs.criterions.vgs_multitask import VgsMultitaskConfig, VgsMultitaskCriterion

__all__ = ["VgsContrastiveConfig", "VgsContrastiveCriterion", "VgsMultitaskConfig", "VgsMultitaskCriterion"]
