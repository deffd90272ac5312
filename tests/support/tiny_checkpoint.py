"""Checkpoints of tiny models that were never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from support.tiny import tiny_model
from support.tiny_folder import LAYERS, REGION_DIM
from torch import nn

from fairseq_vgs.models.build import VgsModel


def save_tiny(path: Path, *, task: dict[str, Any] | None = None, **settings: Any) -> Path:
    """Write the checkpoint of a model whose regions, or with ``image_encoder=patches`` pictures, are tiny."""
    model: nn.Module = tiny_model(seed=1, conv_feature_layers=LAYERS, image_dim=REGION_DIM)
    cfg: Any = model.cfg
    if settings:
        vars(cfg).update(settings)
        model = VgsModel.build_model(cfg)
    own = OmegaConf.to_container(OmegaConf.structured(cfg), resolve=True, enum_to_str=True)
    config = {
        "task": {"_name": "vgs_pretraining", "valid_max_seconds": 5.0, **(task or {})},
        "criterion": {"_name": "vgs_multitask", "similarity": "cosine"},
        "model": {**own, "_name": "vgs_wav2vec2"},
    }
    torch.save({"cfg": config, "model": model.state_dict(), "optimizer_history": []}, path)
    return path
