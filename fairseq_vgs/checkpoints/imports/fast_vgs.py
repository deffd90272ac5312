"""Dual encoders of FaST-VGS, FaST-VGS+ and VGS+, converted.

Source: Peng & Harwath 2022 (two papers), Khorrami et al. 2023, and their public code (FaST-VGS-Family and
scheduled_VGS_plus). A converted model gives the embeddings, layer features and losses of the authors' code on
the same input, padding included: see docs/exactness.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fairseq_vgs.checkpoints.imports.fast_vgs_file import UNUSED_ENTRIES, load_dual_encoder, load_settings
from fairseq_vgs.checkpoints.imports.fast_vgs_names import NEW_WEIGHTS, authors_name, unused_reason
from fairseq_vgs.checkpoints.imports.fast_vgs_settings import (
    SCRIPT_SETTINGS,
    criterion_settings,
    model_settings,
    task_settings,
)
from fairseq_vgs.checkpoints.imports.model_group import (
    ImportedModel,
    group_path,
    with_overrides,
    write_model_group,
)
from fairseq_vgs.checkpoints.imports.wav2vec2_branch import named
from fairseq_vgs.checkpoints.save import ImportFileError, build_model, write_checkpoint
from fairseq_vgs.files.output import refuse_existing

logger = logging.getLogger(__name__)

SETTINGS_FILE = "args.pkl"


def import_fast_vgs(
    bundle: Path,
    output: Path,
    *,
    settings_file: Path | None = None,
    overrides: Sequence[str] = (),
    force: bool = False,
) -> ImportedModel:
    """Convert a bundle of the authors' trainer, and write a model group for training beside the result.

    Args:
        bundle: ``best_bundle.pth`` or another bundle.
        output: the checkpoint to write; the group becomes ``model/NAME.yaml`` in its folder.
        settings_file: the run's ``args.pkl``; the one beside the bundle if None, and where there is none, the
            settings of the authors' script.
        overrides: ``key=value`` of our model, over the bundle's settings.
        force: replace existing files.

    Raises:
        ImportFileError: a file cannot be read as data, or the weights do not fit the model key by key; all
            faulty keys are named.
        FileExistsError: a file to write exists and `force` is off.
    """
    output = output.absolute()
    refuse_existing(output, group_path(output), force=force)
    weights, unused_entries = load_dual_encoder(bundle)
    theirs = _authors_settings(bundle, settings_file)
    settings = with_overrides(model_settings(weights, theirs, bundle), overrides, bundle)
    model, unused = converted_model(weights, settings, bundle)
    reasons = {name: unused_reason(name) or "" for name in unused}
    reasons |= {name: UNUSED_ENTRIES[name] for name in unused_entries}
    for name, reason in reasons.items():
        logger.info("left out: %s (%s)", name, reason)
    task = task_settings(theirs)
    write_checkpoint(
        output,
        model,
        model_settings=settings,
        task_settings=task,
        criterion_settings=criterion_settings(theirs),
        origin={"format": "fast-vgs", "source": bundle.name, "dropped": reasons},
        force=force,
    )
    return write_model_group(output, settings, task_settings=task, force=force)


def converted_model(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], bundle: Path
) -> tuple[nn.Module, list[str]]:
    """Build our model with the authors' weights in it.

    Args:
        weights: of the dual encoder, under the authors' names.
        settings: all settings of our model.
        bundle: named in errors.

    Returns:
        The model, and the names of the weights that are left out on purpose.

    Raises:
        ImportFileError: a weight is missing, has no place, or has another shape; all are named.
    """
    model = build_model(settings, seed=0, path=bundle)
    state = model.state_dict()
    blocks = int(settings["speech_head_blocks"])
    places = {authors_name(key, blocks_per_stage=blocks): key for key in state if key not in NEW_WEIGHTS}
    unused = sorted(name for name in weights if name not in places and unused_reason(name))
    problems = {
        "missing": sorted(places.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - places.keys() - set(unused)),
        "other shapes:": [
            f"{name} {tuple(weights[name].shape)} for {tuple(state[key].shape)}"
            for name, key in places.items()
            if name in weights and _without_singletons(weights[name]) != _without_singletons(state[key])
        ],
    }
    if any(problems.values()):
        text = "; ".join(f"{problem} {named(keys)}" for problem, keys in problems.items() if keys)
        raise ImportFileError(
            f"{bundle}: weights must fit the dual encoder key by key, got {text}; give a bundle as the "
            f"trainer saved it, with the {SETTINGS_FILE} of its own run"
        )
    # The authors' convolutions over time are two-dimensional, and their CLS vectors have three axes.
    found = {
        key: weights[name].to(state[key].dtype).reshape(state[key].shape) for name, key in places.items()
    }
    model.load_state_dict({**state, **found}, strict=True)
    logger.info("%s: %d tensors matched, %d left out", bundle, len(found), len(unused))
    return model, unused


def _authors_settings(bundle: Path, settings_file: Path | None) -> dict[str, Any]:
    """Read the run's command line; say which settings it lacks."""
    path = settings_file or bundle.parent / SETTINGS_FILE
    if settings_file is None and not path.exists():
        logger.warning("%s is missing: settings are those of the authors' script for VGS+", path)
        return {}
    settings = load_settings(path)
    if absent := sorted(SCRIPT_SETTINGS.keys() - settings.keys()):
        logger.warning("%s lacks %s: as in the authors' script for VGS+", path, named(absent))
    return settings


def _without_singletons(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]
