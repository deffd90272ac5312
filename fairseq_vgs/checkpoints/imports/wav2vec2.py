"""Start from a public wav2vec 2.0: its weights in the speech branch, fresh weights everywhere else.

fairseq's own checkpoints come in two layouts: ``args``, a namespace (``wav2vec_small.pt`` and others before
2021), and ``cfg``, a configuration with sections (since then). Weights carry the names of our model, which
extends fairseq's.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from omegaconf import OmegaConf
from torch import nn

from fairseq_vgs.checkpoints.imports.wav2vec2_branch import (
    SpeechBranch,
    check_sample_rate,
    plain_weights,
)
from fairseq_vgs.checkpoints.imports.wav2vec2_hf import read_hugging_face
from fairseq_vgs.checkpoints.load import mismatches, named, read_pickle
from fairseq_vgs.checkpoints.save import (
    ImportedModel,
    ImportFileError,
    build_model,
    group_path,
    with_overrides,
    write_checkpoint,
    write_model_group,
)
from fairseq_vgs.files.output import refuse_existing
from fairseq_vgs.modules.conv_spec import parse_conv_layers

logger = logging.getLogger(__name__)

REGION_DIM = 2048  # dims of the Faster R-CNN features that the paper uses; --set image_dim=... for others

_VGS_PARTS = ("speech_head.", "image_encoder.", "encoder.cls_embedding", "logit_scale", "logit_bias")

_FIELDS = tuple(field.name for field in dataclasses.fields(Wav2Vec2Config) if not field.name.startswith("_"))
_PRETRAINED = "give the pre-trained model that it started from"
_OTHER_KINDS = {
    "wav2vec_ctc": f"a fine-tuned model; {_PRETRAINED}",
    "wav2vec_seq2seq": f"a fine-tuned model; {_PRETRAINED}",
    "vgs_wav2vec2": "a model of this plugin, which needs no import; start from it with "
    "checkpoint.finetune_from_model",
}
# Settings under which the shared layers or the SSL targets would differ from what our model computes.
_REFUSED = ("quantize_input", "same_quantizer", "target_glu")
_RUN_SETTINGS = ("fp16", "checkpoint_activations", "max_positions")  # of the machine, not of the model


def import_wav2vec2(
    source: Path, output: Path, *, settings: Sequence[str] = (), seed: int = 1, force: bool = False
) -> ImportedModel:
    """Write a checkpoint of ours whose speech branch is a public wav2vec 2.0, and a model group next to it.

    The speech branch computes what the source does only where no CLS vector joins the frames
    (``use_cls=false``).

    Args:
        source: a fairseq checkpoint, or a Hugging Face folder.
        output: the checkpoint to write; the group becomes ``model/NAME.yaml`` in its folder.
        settings: ``key=value`` or ``model.key=value`` of the model, over the file's and our defaults.
        seed: of the weights that the source lacks.
        force: replace existing files.

    Raises:
        ImportFileError: the source cannot be read or does not fit; every faulty weight is named.
        FileExistsError: a file to write exists and ``force`` is off.
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
    """Read a fairseq checkpoint or a Hugging Face folder."""
    return read_hugging_face(source) if source.is_dir() else read_fairseq(source)


def initialise(branch: SpeechBranch, model_settings: Mapping[str, Any], *, seed: int) -> nn.Module:
    """Build the model with fresh, seeded weights and put the file's weights into its speech branch.

    Raises:
        ImportFileError: a weight is missing, has no place, or has another shape; all are named.
    """
    model = build_model(model_settings, seed=seed, path=branch.source)
    state = model.state_dict()
    drawn = sorted(key for key in state.keys() - branch.weights.keys())
    may_be_drawn = (*_VGS_PARTS, *branch.fresh)
    reshaped = [
        f"{key} {tuple(tensor.shape)} instead of {tuple(state[key].shape)}"
        for key, tensor in branch.weights.items()
        if key in state and tensor.shape != state[key].shape
    ]
    missing = [key for key in drawn if not key.startswith(may_be_drawn)]
    if text := mismatches(missing, branch.weights.keys() - state.keys(), reshaped):
        message = (
            f"weights must fit the file's own settings key by key, got {text}; "
            "leave settings that change shapes out of --set, or give another file"
        )
        raise ImportFileError.at(branch.source, message, "import.mismatch")
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


def read_fairseq(path: Path) -> SpeechBranch:
    """Read a checkpoint that fairseq's ``wav2vec2`` model was saved to.

    Raises:
        ImportFileError: the file cannot be read safely, is of another kind, or uses parts that our model
            lacks.
    """
    state = read_pickle(path, ImportFileError)
    if not isinstance(state, Mapping) or "model" not in state:
        message = (
            "must hold the entry model of a fairseq checkpoint, got none; give a file such as "
            "wav2vec_small.pt, or a Hugging Face folder"
        )
        raise ImportFileError.at(path, message, "import.entry")
    model, task = _sections(state, path)
    kind = model.get("_name") or model.get("arch")
    if kind != "wav2vec2":
        message = (
            f"must be fairseq's wav2vec2, got {kind!r}: "
            f"{_OTHER_KINDS.get(str(kind), 'another architecture; give a wav2vec 2.0 checkpoint')}"
        )
        raise ImportFileError.at(path, message, "import.kind")
    check_sample_rate(task.get("sample_rate"), path)
    settings, notes = _speech_settings(model, path)
    normalize = task.get("normalize")
    return SpeechBranch(
        source=path,
        settings=settings,
        weights=plain_weights(state["model"], path),
        normalize=None if normalize is None else bool(normalize),
        dropped={},
        fresh={},
        notes=notes,
    )


def _sections(state: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the model and of the task; the older layout has both in one."""
    for key in ("cfg", "args"):
        settings = _plain(state.get(key))
        if key == "cfg" and settings:
            return _plain(settings.get("model")), _plain(settings.get("task"))
        if settings:
            return settings, settings
    message = (
        "must hold the settings of its run (entry cfg or args), got none; give the file as fairseq wrote it"
    )
    raise ImportFileError.at(path, message, "import.entry")


def _plain(section: Any) -> dict[str, Any]:
    if isinstance(section, argparse.Namespace):
        return dict(vars(section))
    if OmegaConf.is_config(section):
        section = OmegaConf.to_container(section, resolve=False, enum_to_str=True)
    return {str(key): value for key, value in section.items()} if isinstance(section, Mapping) else {}


def _speech_settings(model: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Pick fairseq's settings of wav2vec 2.0; note those that the plugin sets otherwise."""
    used = [key for key in _REFUSED if model.get(key)]
    if used:
        message = (
            f"must not use {', '.join(_REFUSED)}, which this plugin's model lacks, got "
            f"{named(used)} switched on; give another checkpoint"
        )
        raise ImportFileError.at(path, message, "import.kind")
    if str(model.get("layer_type", "transformer")) != "transformer":
        message = f"layer_type must be transformer, got {model['layer_type']}; give another checkpoint"
        raise ImportFileError.at(path, message, "import.kind")
    settings = {key: model[key] for key in _FIELDS if model.get(key) is not None and key not in _RUN_SETTINGS}
    live = [key for key, value in settings.items() if "${" in str(value)]
    if live:
        message = (
            f"model settings must be plain values, got interpolations in {named(live)}; "
            "give the file as fairseq wrote it"
        )
        raise ImportFileError.at(path, message, "import.settings")
    try:
        parse_conv_layers(str(settings.get("conv_feature_layers", Wav2Vec2Config.conv_feature_layers)))
        if "latent_temp" in settings:
            settings["latent_temp"] = _three_numbers(settings["latent_temp"])
    except (ValueError, SyntaxError) as error:
        raise ImportFileError.at(
            path, f"{error}; give the file as fairseq wrote it", "import.settings"
        ) from error
    notes = []
    for key, value, reason in (
        ("encoder_layerdrop", 0.0, "the shared layer must run in every pass"),
        ("mask_selection", "static", "masks must repeat exactly when a run is resumed"),
    ):
        if settings.get(key, value) != value:
            notes.append(f"{key} is {value} instead of the file's {settings[key]}: {reason}")
            settings[key] = value
    return settings, tuple(notes)


def _three_numbers(value: Any) -> list[float]:
    """Read ``latent_temp``, which old command lines left as text."""
    numbers = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(numbers, (list, tuple)) or len(numbers) != 3:
        raise ValueError(f"latent_temp must be three numbers, got {value!r}")
    return [float(number) for number in numbers]
