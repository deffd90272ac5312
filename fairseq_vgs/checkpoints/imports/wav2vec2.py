"""Starting from a public wav2vec 2.0: its weights in the speech branch, everything else drawn anew."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from fairseq_vgs.checkpoints.imports.model_group import (
    ImportedModel,
    group_path,
    with_overrides,
    write_model_group,
)
from fairseq_vgs.checkpoints.imports.wav2vec2_branch import SpeechBranch, named
from fairseq_vgs.checkpoints.imports.wav2vec2_fairseq import read_fairseq
from fairseq_vgs.checkpoints.imports.wav2vec2_hf import read_hugging_face
from fairseq_vgs.checkpoints.save import ImportFileError, build_model, write_checkpoint
from fairseq_vgs.files.output import refuse_existing

logger = logging.getLogger(__name__)

REGION_DIM = 2048  # dims of the Faster R-CNN features that the paper uses; --set image_dim=... for others

_VGS_PARTS = ("speech_head.", "image_encoder.", "encoder.cls_embedding", "logit_scale", "logit_bias")


def import_wav2vec2(
    source: Path, output: Path, *, settings: Sequence[str] = (), seed: int = 1, force: bool = False
) -> ImportedModel:
    """Write a checkpoint of ours whose speech branch is a public wav2vec 2.0, and a model group beside it.

    The numbers of the speech branch are the source's only where no CLS vector joins the frames: with
    ``use_cls=false``.

    Args:
        source: a fairseq checkpoint, or a Hugging Face folder.
        output: the checkpoint to write; the group becomes ``model/NAME.yaml`` in its folder.
        settings: ``key=value`` or ``model.key=value`` of the model, over the file's and our defaults.
        seed: of the weights that the source lacks.
        force: replace existing files.

    Raises:
        ImportFileError: the source cannot be read or does not fit; every faulty weight is named.
        FileExistsError: a file to write exists and `force` is off.
    """
    output = output.absolute()
    refuse_existing(output, group_path(output), force=force)
    branch = read_speech_branch(source)
    # frames are padded to a multiple of this, without effect on numbers: 1 as in examples/vgs/base.yaml
    defaults = {"required_seq_len_multiple": 1, "image_dim": REGION_DIM}
    model_settings = with_overrides({**defaults, **branch.settings}, settings, branch.source)
    model = initialise(branch, model_settings, seed=seed)
    task_settings = {} if branch.normalize is None else {"normalize": branch.normalize}
    write_checkpoint(
        output,
        model,
        model_settings=model_settings,
        task_settings=task_settings,
        criterion_settings={},
        origin={"format": "wav2vec2", "source": source.name, "seed": seed, "dropped": dict(branch.dropped)},
        force=force,
    )
    return write_model_group(output, model_settings, task_settings=task_settings, force=force)


def read_speech_branch(source: Path) -> SpeechBranch:
    """Read a fairseq checkpoint or a Hugging Face folder. Raises ImportFileError."""
    return read_hugging_face(source) if source.is_dir() else read_fairseq(source)


def initialise(branch: SpeechBranch, model_settings: Mapping[str, Any], *, seed: int) -> nn.Module:
    """Build the model with fresh, seeded weights and put the file's weights into its speech branch.

    Args:
        branch: what the file says.
        model_settings: all settings of the model.
        seed: of the fresh weights.

    Raises:
        ImportFileError: a weight is missing, has no place, or has another shape; all are named.
    """
    model = build_model(model_settings, seed=seed, path=branch.source)
    state = model.state_dict()
    drawn = sorted(key for key in state.keys() - branch.weights.keys())
    may_be_drawn = (*_VGS_PARTS, *branch.fresh)
    problems = {
        "missing": [key for key in drawn if not key.startswith(may_be_drawn)],
        "unexpected": sorted(branch.weights.keys() - state.keys()),
        "other shapes:": [
            f"{key} {tuple(tensor.shape)} instead of {tuple(state[key].shape)}"
            for key, tensor in branch.weights.items()
            if key in state and tensor.shape != state[key].shape
        ],
    }
    if any(problems.values()):
        text = "; ".join(f"{problem} {named(keys)}" for problem, keys in problems.items() if keys)
        raise ImportFileError(
            f"{branch.source}: weights must fit the file's own settings key by key, got {text}; "
            "leave settings that change shapes out of --set, or give another file"
        )
    model.load_state_dict({**state, **branch.weights}, strict=True)
    _log_account(branch, drawn, seed=seed)
    return model


def _log_account(branch: SpeechBranch, drawn: Iterable[str], *, seed: int) -> None:
    logger.info("%s: %d tensors matched", branch.source, len(branch.weights))
    for key, reason in branch.dropped.items():
        logger.info("left out: %s (%s)", key, reason)
    for start, reason in branch.fresh.items():
        logger.warning("drawn with seed %d: %s (%s)", seed, start.rstrip("."), reason)
    parts = Counter(_part(key) for key in drawn)
    logger.info("drawn with seed %d: %s", seed, ", ".join(f"{n} of {part}" for part, n in parts.items()))
    for note in branch.notes:
        logger.info("%s", note)


def _part(key: str) -> str:
    return next((part.rstrip(".") for part in _VGS_PARTS if key.startswith(part)), key.partition(".")[0])
