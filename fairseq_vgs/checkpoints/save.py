"""Write weights that come from elsewhere as a checkpoint of this plugin.

The file is laid out as fairseq's trainer does it, before any update: ``checkpoint.finetune_from_model=FILE``
starts a run from it, and ``fairseq-vgs evaluate`` and ``load_checkpoint`` read it. Such a run needs model
settings that equal the file's: a model group for Hydra is written next to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from fairseq_vgs.checkpoints.imports.paths import ImportFileError, group_path
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.hydra import choice, quoted
from fairseq_vgs.files.output import all_or_none
from fairseq_vgs.files.provenance import plugin_state
from fairseq_vgs.models import VgsWav2Vec2Config

MODEL_NAME = "vgs_wav2vec2"
_HEADER = """\
# @package _global_

# Written by fairseq-vgs import: starts a run from {output}.
# Its model settings must stay as they are, except those that change no weight's shape.
"""


def write_import(
    path: Path,
    model: nn.Module,
    *,
    model_settings: Mapping[str, Any],
    task_settings: Mapping[str, Any],
    criterion_settings: Mapping[str, Any],
    origin: Mapping[str, Any],
    images: Mapping[str, Any],
    force: bool = False,
) -> ImportedModel:
    """Write a model with its settings, and the group ``model/NAME.yaml`` next to it; each atomically.

    Args:
        path: the checkpoint, usually ``*.pt``.
        model: holds the weights, all of them.
        model_settings: all settings of the model, from ``with_overrides``.
        task_settings: what differs from the defaults of task ``vgs_pretraining``; evaluation reads them.
        criterion_settings: the same for criterion ``vgs_multitask``.
        origin: where the weights came from, plain data, kept in ``extra_state.imported``.
        images: how the images it was trained on were made, as the task's ``state_dict`` says.
        force: replace an existing file; without it, one is refused (``FileExistsError``).
    """
    weights: dict[str, Tensor] = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    state = {
        "args": None,
        "cfg": {
            # fairseq's fine-tuning builds the task, whose settings refer to these two, and sets its data
            "common": {"seed": 1},
            "dataset": {"train_subset": "train"},
            "model": dict(model_settings),
            "task": {"_name": "vgs_pretraining", "data": "???", "normalize": True, **task_settings},
            "criterion": {"_name": "vgs_multitask", **criterion_settings},
        },
        "model": weights,
        "criterion": None,
        # fairseq reads the last entry; no optimizer state follows, so a run that restores this starts afresh.
        "optimizer_history": [
            {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
        ],
        "last_optimizer_state": None,
        "task_state": plugin_state(images),
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, "imported": dict(origin)},
    }
    sections: dict[str, Any] = {"checkpoint": {"finetune_from_model": str(path)}}
    if task_settings:
        sections["task"] = dict(task_settings)
    # How a run computes is set by run_config.
    computing = ("_name", "autocast")
    sections["model"] = {key: value for key, value in model_settings.items() if key not in computing}
    group = group_path(path)
    with all_or_none(path, group, force=force):
        with atomic_write(path, force=force, mode="wb") as file:
            torch.save(state, file)
        with atomic_write(group, force=force) as text:
            text.write(_HEADER.format(output=path.name) + OmegaConf.to_yaml(OmegaConf.create(sections)))
    return ImportedModel(path, group)


@dataclass(frozen=True)
class ImportedModel:
    """What an import wrote: a checkpoint, and the model group for Hydra, ``FOLDER/model/NAME.yaml``."""

    checkpoint: Path
    group: Path

    @property
    def overrides(self) -> tuple[str, ...]:
        """Overrides of ``fairseq-hydra-train`` that start a run from it."""
        path = quoted(f"file://{self.group.parent.parent}")
        return (f"hydra.searchpath=[{path}]", choice("model", self.group.stem))


def with_overrides(settings: Mapping[str, Any], overrides: Sequence[str], source: Path) -> dict[str, Any]:
    """Return all settings of the model as plain data: the user's over the given ones over the defaults.

    The user's are ``key=value`` or ``model.key=value``; unknown ones and impossible values are refused.

    Raises:
        ImportFileError: ``setting.value``.
    """
    known = {field.name for field in dataclasses.fields(VgsWav2Vec2Config)}
    try:
        wanted = OmegaConf.from_dotlist([override.removeprefix("model.") for override in overrides])
        given = {**settings, **{str(key): value for key, value in wanted.items()}}
        if strangers := sorted(given.keys() - known):
            raise ValueError(f"not settings of {MODEL_NAME}: {', '.join(strangers)}")
        merged = OmegaConf.merge(OmegaConf.structured(VgsWav2Vec2Config), given)
        plain: Any = OmegaConf.to_container(merged, resolve=True, enum_to_str=True)
    except (KeyError, ValueError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        step = "see the section model of base.yaml, in the folder that fairseq-vgs configs prints"
        message = f"settings must be those of the model, key=value, got {reason}; {step}"
        raise ImportFileError.at(source, message, "setting.value") from error
    return {**plain, "_name": MODEL_NAME}
