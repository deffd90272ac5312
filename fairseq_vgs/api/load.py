"""Load a model by the path of its run, checkpoint or exported folder."""

from __future__ import annotations

from pathlib import Path

from fairseq_vgs.api.model import Model
from fairseq_vgs.checkpoints.open import open_checkpoint
from fairseq_vgs.checkpoints.places import find_checkpoint, find_model
from fairseq_vgs.device import AUTO, resolve_device
from fairseq_vgs.regions.recipe import parse_recipe


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
    checkpoint = open_checkpoint(find_checkpoint(find_model(Path(path).expanduser())), allow_stock=True)
    recipe = None if regions is None else parse_recipe(regions, checkpoint.images)
    return Model(checkpoint, device=resolve_device(device, place="device"), regions=recipe)
