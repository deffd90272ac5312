"""Registered tasks. Importing this package registers them with fairseq."""

# fairseq comes first: importing it registers this package, which must not be half imported then
import fairseq  # noqa: F401

from fairseq_vgs.tasks.vgs_pretraining import VgsPretrainingConfig, VgsPretrainingTask

__all__ = ["VgsPretrainingConfig", "VgsPretrainingTask"]
