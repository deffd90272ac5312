"""The network that computes regions, as a part of exported models that read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fairseq_vgs.checkpoints.exports.convert import REGION_NETWORK
from fairseq_vgs.checkpoints.load import Checkpoint
from fairseq_vgs.regions.efficientnet import FEATURE_DIM, WEIGHTS_SHA256, load_network

_PARTS = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
}
_BLOCK_PARTS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def own_recipe(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how a model's regions were made, if the network of this package made them; else None."""
    if settings["image_encoder"] != "regions":
        return None
    recipe = dict(checkpoint.images)
    is_own = recipe.get("weights_sha256") == WEIGHTS_SHA256
    if not is_own or settings["image_encoder_settings"].get("input_dim") != FEATURE_DIM:
        return None
    return {"precision": "float32", **recipe}


def region_weights() -> dict[str, Tensor]:
    """Return the network's weights under the names of the modelling files.

    Raises:
        FaultError: ``package.missing`` or ``package.version``.
    """
    found = {}
    for name, tensor in load_network().state_dict().items():
        if match := _BLOCK.fullmatch(name):
            ours = f"blocks.{match[1]}.{_BLOCK_PARTS[match[2]]}.{match[3]}"
        elif (part := name.partition("."))[0] in _PARTS:
            ours = f"{_PARTS[part[0]]}.{part[2]}"
        else:  # the classifier
            continue
        found[f"{REGION_NETWORK}{ours}"] = tensor
    return found
