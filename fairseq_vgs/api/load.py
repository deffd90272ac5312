"""Load a model by the path of its run, checkpoint or exported folder."""

from __future__ import annotations

import logging
from pathlib import Path

from fairseq_vgs.api.model import Model
from fairseq_vgs.checkpoints.open import open_checkpoint
from fairseq_vgs.checkpoints.places import find_model, is_export, model_file
from fairseq_vgs.device import AUTO, resolve_device
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.regions.recipe import parse_recipe

logger = logging.getLogger(__name__)

_NAMES = ("checkpoint_best.pt", "checkpoint_last.pt")


def load(
    path: str | Path, device: str = AUTO, *, regions: str | Path | tuple[int, int] | None = None
) -> Model:
    """Load a model for embedding, in evaluation mode and fp32.

    >>> import fairseq_vgs as vgs
    >>> model = vgs.load("run")
    >>> model.similarity("a.wav", "x.jpg").shape
    (1, 1)

    Args:
        path: a run's folder (its best checkpoint, the last one if there is no best), a checkpoint, a folder
            of ``fairseq-vgs export``, fairseq's stock wav2vec 2.0, which has layers and attention only, or
            ``quickstart``, the small model that comes with this package.
        device: cpu, cuda, cuda:1, ...; auto: CUDA if available.
        regions: how regions of pictures are made, for checkpoints that do not say it, or to depart from what
            they say: the data folder of the training, ``2x3`` for the cells of a grid of 2 rows and 3
            columns, or ``objects`` for the objects of a picture on white. Where a Hugging Face backbone
            computed them (``prepare image-features``), its folder.

    Raises:
        FaultError: the path leads to no model, the device is not there, or ``regions`` is none of these.
    """
    checkpoint = open_checkpoint(find_checkpoint(Path(path).expanduser()), allow_stock=True)
    recipe = None if regions is None else parse_recipe(regions, checkpoint.images)
    return Model(checkpoint, device=resolve_device(device, place="device"), regions=recipe)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path leads to; of a run, the best one, else the last one.

    Of an exported folder, or the name of a shipped model, the file with its weights.

    Raises:
        FaultError: ``model.kind``: a folder without one.
    """
    path = find_model(path)
    if not path.is_dir() or is_export(path):
        return model_file(path)
    folders = (path / "checkpoints", path)
    found = next((folder / name for name in _NAMES for folder in folders if (folder / name).is_file()), None)
    if found is None:
        expected = f"must be a run's folder, with checkpoints/{_NAMES[0]} or {_NAMES[1]}"
        step = "give hydra.run.dir of a training that has saved a checkpoint, or a checkpoint file"
        raise FaultError(fault(str(path), expected, "a folder without", step, code="model.kind"))
    logger.info("%s: using %s", path, found.name)
    return found
