"""Local Hugging Face directories of a few kilobytes, with random weights, laid out as published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

IMAGE_SIZE = 32
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]

_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": IMAGE_SIZE,
    "patch_size": 8,
}
_TEXT: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def _vit() -> Any:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**_VISION, num_labels=5))


def _dinov2() -> Any:
    settings = {key: value for key, value in _VISION.items() if key != "intermediate_size"}
    return transformers.Dinov2Model(transformers.Dinov2Config(**settings, mlp_ratio=2))


def _clip() -> Any:
    config = transformers.CLIPConfig(vision_config=_VISION, text_config=_TEXT, projection_dim=8)
    return transformers.CLIPModel(config)


def _siglip() -> Any:
    return transformers.SiglipModel(transformers.SiglipConfig(vision_config=_VISION, text_config=_TEXT))


def _resnet() -> Any:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"
    )
    return transformers.ResNetForImageClassification(config)


def _convnext() -> Any:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 12, 12, 16], depths=[1, 1, 1, 1])
    return transformers.ConvNextForImageClassification(config)


BACKBONES = {
    "vit": _vit,
    "dinov2": _dinov2,
    "clip": _clip,
    "siglip": _siglip,
    "resnet": _resnet,
    "convnext": _convnext,
}

# As in the directories of google/vit-base-patch16-224, facebook/dinov2-base, openai/clip-vit-base-patch32,
# google/siglip-base-patch16-224, microsoft/resnet-18 and facebook/convnext-tiny-224, at 32 pixels.
_SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
_SIZES: dict[str, dict[str, Any]] = {
    "vit": {"size": _SQUARE},
    "dinov2": {"size": {"shortest_edge": 40}, "crop_size": _SQUARE, "do_center_crop": True},
    "clip": {"size": IMAGE_SIZE, "crop_size": IMAGE_SIZE, "do_center_crop": True},
    "siglip": {"size": _SQUARE},
    "resnet": {"size": {"shortest_edge": IMAGE_SIZE}, "crop_pct": 0.875},
    "convnext": {"size": {"shortest_edge": IMAGE_SIZE}, "crop_pct": 0.875},
}


def make_backbone(folder: Path, kind: str, *, seed: int = 0) -> Any:
    """Write a directory; return the whole model of transformers, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BACKBONES[kind]().eval()
        for name, value in model.named_buffers():  # as if it had been trained
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
    model.save_pretrained(folder)
    preprocessing = {
        "do_normalize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "image_mean": MEAN,
        "image_std": STD,
        **_SIZES[kind],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing), encoding="utf-8")
    return model


def vision_part(model: Any) -> Any:
    """Return the part of a model that reads pictures: what `AutoModel` would give for its vision half."""
    for name in ("vision_model", "vit", "resnet", "convnext"):
        if hasattr(model, name):
            return getattr(model, name)
    return model
