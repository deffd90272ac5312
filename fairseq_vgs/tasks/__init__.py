"""Registered tasks. Importing this package registers them with fairseq."""

# first: once imported it registers this room, which must not be half imported by then
import fairseq  # noqa: F401

from fairseq_vgs.tasks.vgs_pretraining import VgsPretrainingConfig, VgsPretrainingTask

__all__ = ["VgsPretrainingConfig", "VgsPretrainingTask"]
