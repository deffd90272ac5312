"""Where every weight of the authors' dual encoder stands in our model.

Source: the public FaST-VGS-Family and scheduled_VGS_plus code, whose dual encoders have the same names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["NEW_WEIGHTS", "UNUSED_WEIGHTS", "authors_name", "unused_reason"]

SPEECH_ENCODER = "conv1_trm1_trm3."

UNUSED_WEIGHTS: Mapping[str, str] = {
    "audio_cls_token_proj_coarse.": "the authors' forward pass overwrites what it computes, so nothing has "
    "ever trained it",
}
"""Beginnings of names of weights that are left out, and why."""

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
_VECTORS = {
    "encoder.cls_embedding": f"{SPEECH_ENCODER}cls_token",
    "image_encoder.cls": "visual_cls_token",
}
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
        key: of our model's state dict, none of `NEW_WEIGHTS`.
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
    """Say why a weight of the authors' is left out; None if it is not."""
    return next((reason for start, reason in UNUSED_WEIGHTS.items() if name.startswith(start)), None)


def _in_bert(rest: str) -> str:
    return next(
        theirs + rest.removeprefix(ours) for ours, theirs in _BERT_PARTS.items() if rest.startswith(ours)
    )
