"""wav2vec 2.0 from fairseq's own checkpoints.

Two layouts are public: ``args``, a namespace (``wav2vec_small.pt`` and others before 2021), and ``cfg``, a
configuration with sections (since then). Weights carry the names of our model, which extends fairseq's.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from omegaconf import OmegaConf

from fairseq_vgs.checkpoints.imports.wav2vec2_branch import (
    SpeechBranch,
    check_sample_rate,
    load_pickle,
    named,
    plain_weights,
)
from fairseq_vgs.checkpoints.save import ImportFileError
from fairseq_vgs.modules.conv_spec import parse_conv_layers

_FIELDS = tuple(field.name for field in dataclasses.fields(Wav2Vec2Config) if not field.name.startswith("_"))
_PRETRAINED = "give the pre-trained model that it started from"
_OTHER_KINDS = {
    "wav2vec_ctc": f"a fine-tuned model; {_PRETRAINED}",
    "wav2vec_seq2seq": f"a fine-tuned model; {_PRETRAINED}",
    "vgs_wav2vec2": "a model of this plugin, which needs no import; start from it with "
    "checkpoint.finetune_from_model",
}
# settings under which the shared layers or the SSL targets would be something else than our model computes
_REFUSED = ("quantize_input", "same_quantizer", "target_glu")
_RUN_SETTINGS = ("fp16", "checkpoint_activations", "max_positions")  # of the machine, not of the model


def read_fairseq(path: Path) -> SpeechBranch:
    """Read a checkpoint that fairseq's ``wav2vec2`` model was saved to.

    Raises:
        ImportFileError: the file cannot be read safely, is of another kind, or uses parts that our model
            lacks.
    """
    state = load_pickle(path)
    if not isinstance(state, Mapping) or "model" not in state:
        raise ImportFileError(
            f"{path}: must hold the entry model of a fairseq checkpoint, got none; give a file such as "
            "wav2vec_small.pt, or a Hugging Face folder"
        )
    model, task = _sections(state, path)
    kind = model.get("_name") or model.get("arch")
    if kind != "wav2vec2":
        raise ImportFileError(
            f"{path}: must be fairseq's wav2vec2, got {kind!r}: "
            f"{_OTHER_KINDS.get(str(kind), 'another architecture; give a wav2vec 2.0 checkpoint')}"
        )
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
    """Return the settings of the model and of the task; the older layout has them all in one."""
    for key in ("cfg", "args"):
        settings = _plain(state.get(key))
        if key == "cfg" and settings:
            return _plain(settings.get("model")), _plain(settings.get("task"))
        if settings:
            return settings, settings
    raise ImportFileError(
        f"{path}: must hold the settings of its run (entry cfg or args), got none; give the file as fairseq "
        "wrote it"
    )


def _plain(section: Any) -> dict[str, Any]:
    if isinstance(section, argparse.Namespace):
        return dict(vars(section))
    if OmegaConf.is_config(section):
        section = OmegaConf.to_container(section, resolve=False, enum_to_str=True)
    return {str(key): value for key, value in section.items()} if isinstance(section, Mapping) else {}


def _speech_settings(model: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Pick fairseq's settings of wav2vec 2.0; say which the plugin needs otherwise."""
    used = [key for key in _REFUSED if model.get(key)]
    if used:
        raise ImportFileError(
            f"{path}: must do without {', '.join(_REFUSED)}, which this plugin's model lacks, got "
            f"{named(used)} switched on; give another checkpoint"
        )
    if str(model.get("layer_type", "transformer")) != "transformer":
        raise ImportFileError(
            f"{path}: layer_type must be transformer, got {model['layer_type']}; give another checkpoint"
        )
    settings = {key: model[key] for key in _FIELDS if model.get(key) is not None and key not in _RUN_SETTINGS}
    live = [key for key, value in settings.items() if "${" in str(value)]
    if live:
        raise ImportFileError(
            f"{path}: model settings must be plain values, got interpolations in {named(live)}; "
            "give the file as fairseq wrote it"
        )
    try:
        parse_conv_layers(str(settings.get("conv_feature_layers", Wav2Vec2Config.conv_feature_layers)))
        if "latent_temp" in settings:
            settings["latent_temp"] = _three_numbers(settings["latent_temp"])
    except (ValueError, SyntaxError) as error:
        raise ImportFileError(f"{path}: {error}; give the file as fairseq wrote it") from error
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
