"""Open a model wherever it is: a checkpoint of fairseq, or an exported folder."""

from __future__ import annotations

from pathlib import Path

from fairseq_vgs.checkpoints.exports.load import load_export
from fairseq_vgs.checkpoints.load import Checkpoint, load_checkpoint
from fairseq_vgs.checkpoints.places import needs_fairseq
from fairseq_vgs.compat.availability import require_fairseq


def open_checkpoint(
    path: Path, *, untrained_seed: int | None = None, allow_stock: bool = False
) -> Checkpoint:
    """Load a checkpoint (see ``load_checkpoint``), or an exported folder, given by its ``model.safetensors``.

    Raises:
        CheckpointError: it cannot be used; see ``load_checkpoint`` and ``load_export``.
        FairseqUnavailableError: a checkpoint, without fairseq.
    """
    if not needs_fairseq(path):
        return load_export(path, untrained_seed=untrained_seed)
    require_fairseq()
    return load_checkpoint(path, untrained_seed=untrained_seed, allow_stock=allow_stock)
