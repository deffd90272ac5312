"""A model of fairseq as one that needs torch and transformers alone: its settings and its weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError, section
from fairseq_vgs.modules import IMAGE_ENCODERS, SPEECH_HEADS
from fairseq_vgs.modules.conv_spec import parse_conv_layers
from fairseq_vgs.settings import config_of, entry_settings, find_entry

HEADS = ("attention", "resdavenet")
ENCODERS = ("hugging_face", "patches", "regions")
"""What the modelling files have; a test compares them."""

PRETRAINING = ("mask_emb", "quantizer.", "project_q.", "final_proj.", "target_glu.")
"""Weights, or beginnings of their names, that only the self-supervised loss uses."""

REGION_NETWORK = "region_network."
_WEIGHT_NORM = "encoder.pos_conv.0."
_SAME = {  # setting of the exported model -> of ours
    "conv_bias": "conv_bias",
    "extractor_mode": "extractor_mode",
    "hidden_size": "encoder_embed_dim",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_embed_dim",
    "hidden_act": "activation_fn",
    "layer_norm_first": "layer_norm_first",
    "conv_pos": "conv_pos",
    "conv_pos_groups": "conv_pos_groups",
    "pos_conv_depth": "pos_conv_depth",
    "crop_seq_to_multiple": "crop_seq_to_multiple",
    "use_cls": "use_cls",
    "vgs_layer": "vgs_layer",
    "padding": "padding",
    "hidden_dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "embed_dim": "embed_dim",
    "speech_head": "speech_head",
    "image_encoder": "image_encoder",
}


def require_exportable(checkpoint: Checkpoint) -> None:
    """Refuse a model that the modelling files do not compute.

    Raises:
        CheckpointError: ``export.text``, ``export.extension`` or ``export.settings``.
    """
    model = section(checkpoint.config, "model")
    if str(model.get("caption_encoder", "speech")) == "text":
        message = "must be a model of speech, got one of text; export the run with scenario vgs or vgs_plus"
        raise CheckpointError.at(checkpoint.path, message, "export.text")
    for key, known in (("speech_head", HEADS), ("image_encoder", ENCODERS)):
        if (name := str(model.get(key, known[-1]))) not in known:
            message = (
                f"{key} must be one of {', '.join(known)}, got {name!r}, which an extension defines; "
                "share the extension and the checkpoint instead"
            )
            raise CheckpointError.at(checkpoint.path, message, "export.extension")
    if used := [key for key in ("quantize_input",) if model.get(key)]:
        message = f"{used[0]} must be off, since exported models have no such part, got true; export another"
        raise CheckpointError.at(checkpoint.path, message, "export.settings")


def settings_of(
    model: nn.Module, *, criterion: Mapping[str, Any], task: Mapping[str, Any], max_seconds: float
) -> dict[str, Any]:
    """Return the settings under which the exported model computes what ours does."""
    cfg: Any = model.cfg
    settings = {name: _plain(getattr(cfg, key)) for name, key in _SAME.items()}
    speech = dataclasses.asdict(entry_settings(SPEECH_HEADS, "model.speech_head", cfg))
    image = dataclasses.asdict(entry_settings(IMAGE_ENCODERS, "model.image_encoder", cfg))
    if settings["image_encoder"] == "hugging_face":
        encoder: Any = model.image_encoder
        image["backbone"] = json.loads(image["backbone"])
        image["backbone_dim"] = encoder.input_norm.normalized_shape[0]
    return {
        **settings,
        "conv_layers": [list(layer) for layer in parse_conv_layers(str(cfg.conv_feature_layers))],
        "speech_head_settings": {key: _plain(value) for key, value in speech.items() if key != "padding"},
        "image_encoder_settings": {key: _plain(value) for key, value in image.items()},
        "similarity": str(criterion.get("similarity", "dot")),
        "normalize": bool(task.get("normalize", True)),
        "max_seconds": max_seconds,
    }


def model_settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of our model that a folder's configuration tells: the reverse of `settings_of`."""
    settings = {key: config[name] for name, key in _SAME.items() if name in config}
    settings["conv_feature_layers"] = str([tuple(layer) for layer in config["conv_layers"]])
    image = {key: value for key, value in config["image_encoder_settings"].items() if key != "backbone_dim"}
    if "backbone" in image:
        image["backbone"] = json.dumps(image["backbone"], sort_keys=True)
    for registry, option, given in (
        (SPEECH_HEADS, "speech_head", config["speech_head_settings"]),
        (IMAGE_ENCODERS, "image_encoder", image),
    ):
        entry = find_entry(registry, option, config[option])
        settings |= config_of(entry.Settings, option, given)
    return settings


def our_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the exported model under the names of ours: the reverse of `weights_of`."""
    found = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()
    }
    found = {name: tensor for name, tensor in found.items() if not name.startswith(REGION_NETWORK)}
    for name in ("scale", "offset"):
        found.pop(f"image_encoder.backbone.{name}", None)
    if (folded := found.pop(f"{_WEIGHT_NORM}weight", None)) is not None:
        found[f"{_WEIGHT_NORM}weight_v"] = folded
        found[f"{_WEIGHT_NORM}weight_g"] = torch.norm_except_dim(folded, 2, 2)
    return found


def weights_of(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights of the exported model, and those that only pre-training uses."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    for_pretraining = {name: weights.pop(name) for name in list(weights) if name.startswith(PRETRAINING)}
    if f"{_WEIGHT_NORM}weight_g" in weights:
        length, direction = (weights.pop(f"{_WEIGHT_NORM}weight_{part}") for part in "gv")
        weights[f"{_WEIGHT_NORM}weight"] = torch._weight_norm(direction, length, 2)
    encoder: Any = model.image_encoder
    if (backbone := getattr(encoder, "backbone", None)) is not None:
        weights |= {f"image_encoder.backbone.{name}": getattr(backbone, name) for name in ("scale", "offset")}
    return weights, for_pretraining


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it: an enumeration as its text, sequences as lists."""
    if isinstance(value, tuple | list):
        return list(value)
    return value if value is None or isinstance(value, bool | int | float | dict) else str(value)
