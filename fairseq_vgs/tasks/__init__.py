"""Registered tasks. Importing this package registers them with fairseq."""

from fairseq_vgs.tasks.vgs_pretraining import VgsPretrainingConfig, VgsPretrainingTask

__all__ = ["VgsPretrainingConfig", "VgsPretrainingTask"]
