"""The authors' dual encoder in ours: where each weight belongs, and which settings compute the same.

A bundle holds no settings. Sizes follow from its weights. What weights cannot tell (attention heads, strides,
the layer that VGS reads, dropout and masking) is in ``args.pkl`` next to it, or is taken from the training
script of scheduled_VGS_plus.

Source: the public FaST-VGS-Family and scheduled_VGS_plus code, whose dual encoders have the same names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from fairseq_vgs.checkpoints.imports.paths import ImportFileError
from fairseq_vgs.checkpoints.load import stock_fields, three_numbers
from fairseq_vgs.modules.conv_spec import parse_conv_layers

_OWN_ARGS = "give the args.pkl of the bundle's own run"
SPEECH_ENCODER = "conv1_trm1_trm3."

_UNUSED = "audio_cls_token_proj_coarse."
_UNUSED_REASON = "the authors' forward pass overwrites what it computes, so nothing has ever trained it"

NEW_WEIGHTS = ("logit_scale", "logit_bias")
"""Weights of ours that the authors' model lacks; the masked margin loss does not read them."""

_PREFIXES = {
    "speech_head.convolutions.linear.": "conv2.linear.",
    "speech_head.convolutions.norm.": "conv2.bn1.",
    "speech_head.cls_projection.": "audio_cls_token_proj_pre.",
    "speech_head.layer.": "trm2.",
    "speech_head.projection.": "trm2_proj.",
    "image_encoder.feature_projection.": "visn_fc.visn_fc.",
    "image_encoder.feature_norm.": "visn_fc.visn_layer_norm.",
    "image_encoder.box_projection.": "visn_fc.box_fc.",
    "image_encoder.box_norm.": "visn_fc.box_layer_norm.",
    "image_encoder.projection.": "visual_cls_token_proj_coarse.",
}
_VECTORS = {"encoder.cls_embedding": f"{SPEECH_ENCODER}cls_token", "image_encoder.cls": "visual_cls_token"}
_BLOCK = re.compile(r"speech_head\.convolutions\.blocks\.(\d+)\.(\w+)\.(\w+)")
_BLOCK_PARTS = {
    "conv1": "conv1",
    "norm1": "bn1",
    "conv2": "conv2",
    "norm2": "bn2",
    "shortcut": "downsample.0",
    "shortcut_norm": "downsample.1",
}
_IMAGE_LAYER = re.compile(r"image_encoder\.layers\.(\d+)\.(.+)")
_BERT_PARTS = {
    "query.": "attention.self.query.",
    "key.": "attention.self.key.",
    "value.": "attention.self.value.",
    "attention_output.": "attention.output.dense.",
    "attention_norm.": "attention.output.LayerNorm.",
    "expand.": "intermediate.dense.",
    "contract.": "output.dense.",
    "output_norm.": "output.LayerNorm.",
}


def authors_name(key: str, *, blocks_per_stage: int) -> str:
    """Name a weight of ours as the authors do.

    Args:
        key: of our model's state dict, not one of ``NEW_WEIGHTS``.
        blocks_per_stage: of the ResDAVEnet, which the authors number by stage.
    """
    if key in _VECTORS:
        return _VECTORS[key]
    if match := _BLOCK.fullmatch(key):
        stage, block = divmod(int(match[1]), blocks_per_stage)
        return f"conv2.layer{stage + 1}.{block}.{_BLOCK_PARTS[match[2]]}.{match[3]}"
    if match := _IMAGE_LAYER.fullmatch(key):
        return f"trm.{match[1]}.{_in_bert(match[2])}"
    for ours, theirs in _PREFIXES.items():
        if key.startswith(ours):
            rest = key.removeprefix(ours)
            return theirs + (_in_bert(rest) if theirs == "trm2." else rest)
    return SPEECH_ENCODER + key  # fairseq's names, in both


def unused_reason(name: str) -> str | None:
    """Return why a weight of the authors' is left out; None if it is kept."""
    return _UNUSED_REASON if name.startswith(_UNUSED) else None


def _in_bert(rest: str) -> str:
    return next(
        theirs + rest.removeprefix(ours) for ours, theirs in _BERT_PARTS.items() if rest.startswith(ours)
    )


SCRIPT_SETTINGS: Mapping[str, Any] = {
    "activation_dropout": 0.0,
    "activation_fn": "gelu",
    "attention_dropout": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "audio_feat_len": 8.0,
    "caption_w2v2_weight": 1.0,
    "codebook_negatives": 0,
    "conv_feature_layers": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]",
    "cross_sample_negatives": 0,
    "diversity_weight": 0.1,
    "dropout": 0.1,
    "dropout_features": 0.1,
    "dropout_input": 0.1,
    "encoder_attention_heads": 12,
    "feature_grad_mult": 1.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "img_feat_len": 36,
    "latent_temp": "(2,0.5,0.999995)",
    "layer_norm_first": False,
    "layer_use": 7,
    "logit_temp": 0.1,
    "margin": 1.0,
    "mask_length": 10,
    "mask_prob": 0.65,
    "no_mask_overlap": False,
    "mask_min_space": 1,
    "negatives_from_everywhere": False,
    "num_attention_heads": 12,
    "num_negatives": 100,
    "target_glu": False,
    "val_audio_feat_len": 10.0,
}
"""The authors' settings that matter here, with the values of their script for VGS+."""

_SAME_NAMES = SCRIPT_SETTINGS.keys() & stock_fields().keys()
_REQUIRED = {"hidden_act": "gelu", "layer_norm_first": False}  # our model has nothing else


def model_settings(weights: Mapping[str, Tensor], settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings of our model under which it computes what the authors' does.

    Args:
        weights: of the dual encoder, under the authors' names.
        settings: the authors' command line; missing ones are as in ``SCRIPT_SETTINGS``.
        path: the bundle, named in errors.

    Raises:
        ImportFileError: The settings do not fit; those that our model lacks are ``import.settings``.
    """
    theirs = {**SCRIPT_SETTINGS, **settings}
    for key, value in _REQUIRED.items():
        if theirs[key] != value:
            expected, step = f"{key} must be {value}, as in the authors' own models", "give another model"
            message = f"{expected}, got {theirs[key]!r}; {step}: this plugin's has nothing else"
            raise ImportFileError.at(path, message, "import.settings")
    shapes = _Shapes(weights, path)
    _check_extractor(shapes, str(theirs["conv_feature_layers"]), path)
    return {
        **{key: theirs[key] for key in _SAME_NAMES},
        **_speech_sizes(shapes),
        **_head_sizes(shapes),
        "quantize_targets": True,
        "encoder_layerdrop": 0.0,
        "required_seq_len_multiple": 1,  # without effect on numbers; as in examples/vgs/base.yaml
        "latent_temp": _constant_temperature(theirs["latent_temp"], path),
        "vgs_layer": int(theirs["layer_use"]) + 1,
        "vgs_forward": "unmasked" if theirs["caption_w2v2_weight"] is None else "masked",
        "padding": "fast_vgs",
        "speech_head_heads": theirs["num_attention_heads"],
        "speech_head_dropout": theirs["hidden_dropout_prob"],
        "speech_head_attention_dropout": theirs["attention_probs_dropout_prob"],
        "image_heads": theirs["num_attention_heads"],
        "image_dropout": theirs["hidden_dropout_prob"],
        "image_attention_dropout": theirs["attention_probs_dropout_prob"],
    }


def task_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the authors' data sets cut, normalise and pad, as settings of ``vgs_pretraining``."""
    theirs = {**SCRIPT_SETTINGS, **settings}
    return {
        "max_seconds": float(theirs["audio_feat_len"]),
        "valid_max_seconds": float(theirs["val_audio_feat_len"]),
        "pad_to_max": True,
        "normalize": True,  # whatever their option of that name says
        "image_input": "regions",
        "max_regions": int(theirs["img_feat_len"]),
    }


def criterion_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the authors' losses as settings of ``vgs_multitask``."""
    theirs = {**SCRIPT_SETTINGS, **settings}
    return {
        "vgs_loss": "masked_margin",
        "similarity": "dot",
        "margin": float(theirs["margin"]),
        "loss_weights": [float(theirs["diversity_weight"]), 1.0],
    }


class _Shapes:
    """Return the shapes of weights by name, or fail naming the missing one."""

    def __init__(self, weights: Mapping[str, Tensor], path: Path) -> None:
        self._weights, self._path = weights, path

    def __contains__(self, name: str) -> bool:
        return name in self._weights

    def __call__(self, name: str) -> tuple[int, ...]:
        if name not in self._weights:
            step = "give a bundle as the trainer saved it"
            message = f"weights must include {name}, which tells a size, got none of that name; {step}"
            raise ImportFileError.at(self._path, message, "import.entry")
        return tuple(self._weights[name].shape)

    def count(self, pattern: str) -> int:
        """Count consecutive numbers, from 0, for which ``pattern`` with the number in it is a weight."""
        return next(number for number in count() if pattern.format(number) not in self._weights)


def _speech_sizes(shapes: _Shapes) -> dict[str, Any]:
    encoder = f"{SPEECH_ENCODER}encoder."
    width = shapes(f"{SPEECH_ENCODER}mask_emb")[0]
    final_dim, quantized_dim = shapes(f"{SPEECH_ENCODER}project_q.weight")
    _, n_codes, code_dim = shapes(f"{SPEECH_ENCODER}quantizer.vars")
    groups = quantized_dim // max(1, code_dim)
    per_layer_norm = f"{SPEECH_ENCODER}feature_extractor.conv_layers.1.2.1.weight" in shapes
    return {
        "extractor_mode": "layer_norm" if per_layer_norm else "default",
        "conv_bias": f"{SPEECH_ENCODER}feature_extractor.conv_layers.0.0.bias" in shapes,
        "encoder_layers": shapes.count(encoder + "layers.{}.fc1.weight"),
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": shapes(f"{encoder}layers.0.fc1.weight")[0],
        "conv_pos": shapes(f"{encoder}pos_conv.0.weight_v")[2],
        "conv_pos_groups": width // max(1, shapes(f"{encoder}pos_conv.0.weight_v")[1]),
        "final_dim": final_dim,
        "latent_dim": 0 if quantized_dim == final_dim else quantized_dim,
        "latent_groups": groups,
        "latent_vars": n_codes // max(1, groups),
    }


def _head_sizes(shapes: _Shapes) -> dict[str, Any]:
    stages = range(1, 1 + sum(f"conv2.layer{stage}.0.conv1.weight" in shapes for stage in range(1, 10)))
    image_width, image_dim = shapes("visn_fc.visn_fc.weight")
    return {
        "embed_dim": shapes("trm2_proj.weight")[0],
        "speech_head": "resdavenet",
        "speech_head_norm": "batch",
        "speech_head_bottleneck": shapes("conv2.linear.weight")[0],
        "speech_head_widths": [shapes(f"conv2.layer{stage}.0.conv1.weight")[0] for stage in stages],
        "speech_head_kernel": shapes("conv2.layer1.0.conv1.weight")[-1],
        "speech_head_blocks": shapes.count("conv2.layer1.{}.conv1.weight"),
        "speech_head_ffn_dim": shapes("trm2.intermediate.dense.weight")[0],
        "image_encoder": "regions",
        "image_dim": image_dim,
        "image_embed_dim": image_width,
        "image_layers": shapes.count("trm.{}.intermediate.dense.weight"),
        "image_ffn_dim": shapes("trm.0.intermediate.dense.weight")[0],
    }


def _check_extractor(shapes: _Shapes, text: str, path: Path) -> None:
    """Refuse strides that belong to another extractor than the weights."""
    try:
        layers = parse_conv_layers(text)
    except ValueError as error:
        raise ImportFileError.at(path, f"{error}; {_OWN_ARGS}", "import.settings") from None
    weight = SPEECH_ENCODER + "feature_extractor.conv_layers.{}.0.weight"
    found = [shapes(weight.format(number)) for number in range(shapes.count(weight))]
    if [(channels, kernel) for channels, _, kernel in found] != [layer[:2] for layer in layers]:
        sizes = f"the extractor's weights, which have (channels, inputs, kernel) {found}"
        message = f"conv_feature_layers must fit {sizes}, got {text}; {_OWN_ARGS}"
        raise ImportFileError.at(path, message, "import.mismatch")


def _constant_temperature(text: Any, path: Path) -> list[float]:
    """Return fairseq's three numbers: the authors' trainer never moves the temperature from its start."""
    try:
        start = three_numbers(text)[0]
    except ValueError as error:
        raise ImportFileError.at(path, f"{error}; {_OWN_ARGS}", "import.settings") from error
    return [start, start, 1.0]
