"""The model group for Hydra that is written beside an imported checkpoint.

``checkpoint.finetune_from_model`` needs a run whose model settings equal the file's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fairseq_vgs.checkpoints.save import ImportFileError, complete_model_settings
from fairseq_vgs.files.atomic import atomic_write

__all__ = ["ImportedModel", "with_overrides", "write_model_group"]

_HEADER = """\
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


def with_overrides(settings: Mapping[str, Any], overrides: Sequence[str], source: Path) -> dict[str, Any]:
    """Return all settings of the model: defaults, over them those given, over them the user's.

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
        raise ImportFileError(
            f"{source}: settings must be those of the model, key=value, got {reason}; see the section model "
            "of examples/vgs/base.yaml"
        ) from error


def write_model_group(
    output: Path, model_settings: Mapping[str, Any], *, task_settings: Mapping[str, Any], force: bool
) -> ImportedModel:
    """Write ``model/NAME.yaml`` beside a checkpoint.

    Args:
        output: the checkpoint, an absolute path.
        model_settings: all settings of the model.
        task_settings: settings of the task that belong to the weights.
        force: replace an existing file.

    Raises:
        FileExistsError: the group exists and `force` is off.
    """
    # how a run computes is the business of run_config
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
    return output.parent / "model" / f"{output.stem}.yaml"
