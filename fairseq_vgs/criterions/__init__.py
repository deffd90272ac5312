"""Registered criterions. Importing this package registers them with fairseq."""

# fairseq comes first: importing it registers this package, which must not be half imported then
import fairseq  # noqa: F401

from fairseq_vgs.criterions.vgs_contrastive import VgsContrastiveCriterion, VgsCriterionConfig
from fairseq_vgs.criterions.vgs_multitask import VgsMultitaskCriterion

__all__ = ["VgsContrastiveCriterion", "VgsCriterionConfig", "VgsMultitaskCriterion"]
