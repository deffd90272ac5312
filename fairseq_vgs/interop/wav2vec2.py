"""Starting from a public wav2vec 2.0: its weights in the speech branch, everything else drawn anew.

A model group for Hydra is written beside the checkpoint, since ``checkpoint.finetune_from_model`` needs a run
whose model settings equal the file's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from fairseq_vgs.interop.checkpoint_writer import (
    ImportFileError,
    build_model,
    complete_model_settings,
    write_checkpoint,
)
from fairseq_vgs.interop.wav2vec2_branch import SpeechBranch, named
from fairseq_vgs.interop.wav2vec2_fairseq import read_fairseq
from fairseq_vgs.interop.wav2vec2_hf import read_hugging_face
from fairseq_vgs.manifest.atomic import atomic_write

logger = logging.getLogger(__name__)

REGION_DIM = 2048  # dims of the Faster R-CNN features that the paper uses; --set image_dim=... for others

_VGS_PARTS = ("speech_head.", "image_encoder.", "encoder.cls_embedding", "logit_scale", "logit_bias")
_GROUP_HEADER = """\
# @package _global_

# Written by fairseq-vgs import: starts a run from {output}.
# Its model settings must stay as they are, except those that change no weight's shape.
"""


@dataclass(frozen=True)
class ImportedModel:
    """What an import wrote.

    Attributes:
        checkpoint: the model, to start from and to evaluate.
        group: the model group for Hydra, ``FOLDER/model/NAME.yaml``.
    """

    checkpoint: Path
    group: Path

    @property
    def overrides(self) -> tuple[str, ...]:
        """Overrides of ``fairseq-hydra-train --config-dir examples/vgs`` that start a run from it."""
        return (f'hydra.searchpath=["file://{self.group.parent.parent}"]', f"model={self.group.stem}")


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
    group = output.parent / "model" / f"{output.stem}.yaml"
    for path in (output, group):
        if path.exists() and not force:
            raise FileExistsError(f"{path}: already exists; pass --force (force=True) to replace it")
    branch = read_speech_branch(source)
    model_settings = _model_settings(branch, settings)
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
    with atomic_write(group, force=force) as file:
        file.write(_group_text(output, model_settings, task_settings))
    return ImportedModel(output, group)


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


def _model_settings(branch: SpeechBranch, settings: Sequence[str]) -> dict[str, Any]:
    """Join our defaults, the file's settings and the user's."""
    # frames are padded to a multiple of this, without effect on numbers: 1 as in examples/vgs/base.yaml
    joined: dict[str, Any] = {"required_seq_len_multiple": 1, **branch.settings}
    try:
        wanted = OmegaConf.from_dotlist([setting.removeprefix("model.") for setting in settings])
        joined.update({str(key): value for key, value in wanted.items()})
        if joined.get("image_encoder", "regions") == "regions":
            joined.setdefault("image_dim", REGION_DIM)
        return complete_model_settings(joined)
    except (KeyError, ValueError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ImportFileError(
            f"{branch.source}: settings must be those of the model, key=value, got {reason}; see the section "
            "model of examples/vgs/base.yaml"
        ) from error


def _group_text(output: Path, model_settings: Mapping[str, Any], task_settings: Mapping[str, Any]) -> str:
    # how a run computes is the business of run_config
    model = {key: value for key, value in model_settings.items() if key not in ("_name", "autocast")}
    sections: dict[str, Any] = {"checkpoint": {"finetune_from_model": str(output)}}
    if task_settings:
        sections["task"] = dict(task_settings)
    sections["model"] = model
    return _GROUP_HEADER.format(output=output.name) + OmegaConf.to_yaml(OmegaConf.create(sections))
