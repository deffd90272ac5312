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

from fairseq_vgs.checkpoints.load import build_untrained
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.models import VgsWav2Vec2Config

MODEL_NAME = "vgs_wav2vec2"
_HEADER = """\
# @package _global_

# Written by fairseq-vgs import: starts a run from {output}.
# Its model settings must stay as they are, except those that change no weight's shape.
"""


class ImportFileError(FaultError):
    """A file of other code cannot be converted: unreadable, or not what it was said to be."""


def complete_model_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of the model as plain data: the given ones over the defaults.

    Raises:
        KeyError: a setting that the model does not have.
    """
    known = {field.name for field in dataclasses.fields(VgsWav2Vec2Config)}
    if strangers := sorted(settings.keys() - known):
        raise KeyError(f"not settings of {MODEL_NAME}: {', '.join(strangers)}")
    merged = OmegaConf.merge(OmegaConf.structured(VgsWav2Vec2Config), dict(settings))
    plain: Any = OmegaConf.to_container(merged, resolve=True, enum_to_str=True)
    return {**plain, "_name": MODEL_NAME}


def build_model(settings: Mapping[str, Any], *, seed: int, path: Path) -> nn.Module:
    """Build the model of ``complete_model_settings`` with seeded weights; ``path`` is for errors."""
    return build_untrained(settings, seed=seed, path=path)


def write_checkpoint(
    path: Path,
    model: nn.Module,
    *,
    model_settings: Mapping[str, Any],
    task_settings: Mapping[str, Any],
    criterion_settings: Mapping[str, Any],
    origin: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Write a model with its settings, atomically.

    Args:
        path: the checkpoint, usually ``*.pt``.
        model: holds the weights, all of them.
        model_settings: all settings of the model, from ``complete_model_settings``.
        task_settings: what differs from the defaults of task ``vgs_pretraining``; evaluation reads them.
        criterion_settings: the same for criterion ``vgs_multitask``.
        origin: where the weights came from, plain data, kept in ``extra_state.imported``.
        force: replace an existing file.

    Raises:
        FileExistsError: ``path`` exists and ``force`` is off.
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
        "task_state": {},
        "extra_state": {
            "train_iterator": {"epoch": 1, "iterations_in_epoch": 0},
            "imported": dict(origin),
        },
    }
    with atomic_write(path, force=force, mode="wb") as file:
        torch.save(state, file)


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


def with_overrides(settings: Mapping[str, Any], overrides: Sequence[str], source: Path) -> dict[str, Any]:
    """Return all settings of the model: the user's over the given ones over the defaults.

    Args:
        settings: of the model.
        overrides: ``key=value`` or ``model.key=value``.
        source: named in errors.

    Raises:
        ImportFileError: a setting that the model does not have, or an impossible value.
    """
    try:
        wanted = OmegaConf.from_dotlist([override.removeprefix("model.") for override in overrides])
        return complete_model_settings({**settings, **{str(key): value for key, value in wanted.items()}})
    except (KeyError, ValueError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        message = (
            f"settings must be those of the model, key=value, got {reason}; see the section model "
            "of examples/vgs/base.yaml"
        )
        raise ImportFileError.at(source, message, "setting.value") from error


def write_model_group(
    output: Path, model_settings: Mapping[str, Any], *, task_settings: Mapping[str, Any], force: bool
) -> ImportedModel:
    """Write ``model/NAME.yaml`` next to a checkpoint.

    Raises:
        FileExistsError: the group exists and ``force`` is off.
    """
    # How a run computes is set by run_config.
    model = {key: value for key, value in model_settings.items() if key not in ("_name", "autocast")}
    sections: dict[str, Any] = {"checkpoint": {"finetune_from_model": str(output)}}
    if task_settings:
        sections["task"] = dict(task_settings)
    sections["model"] = model
    group = group_path(output)
    with atomic_write(group, force=force) as file:
        file.write(_HEADER.format(output=output.name) + OmegaConf.to_yaml(OmegaConf.create(sections)))
    return ImportedModel(output, group)


def group_path(output: Path) -> Path:
    """Return where the model group of a checkpoint is written."""
    return output.parent / "model" / f"{output.stem}.yaml"
