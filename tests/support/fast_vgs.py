"""Tiny dual encoders as the authors' trainer saves them, of weights given by a formula."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support.formula import noise, weight
from torch import Tensor

SETTINGS: dict[str, Any] = {
    "encoder_layers": 3,
    "encoder_embed_dim": 24,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16,2,2)] + [(16,2,2)]",
    "conv_pos": 8,
    "conv_pos_groups": 4,
    "final_dim": 16,
    "latent_vars": 8,
    "latent_groups": 2,
    "num_negatives": 5,
    "layer_use": 1,
    "trm_layers": 2,
    "hidden_size": 24,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "visual_feat_dim": 10,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "dropout_input": 0.0,
    "dropout_features": 0.0,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "feature_grad_mult": 1.0,
    "trim_mask": True,
    "libri_w2v2_weight": None,
    "fine_matching_weight": 0.0,
    "coarse_matching_weight": 1.0,
    "xtrm_layers": 1,
}
KINDS: dict[str, dict[str, Any]] = {
    "vgs_plus": {"caption_w2v2_weight": 1.0},
    "fast_vgs": {"caption_w2v2_weight": None},  # no SSL loss: unmasked, and no layers above the shared ones
}
RESDAVENET_WIDTHS = [8, 8, 12, 16, 24]  # fixed in the authors' code, to 128, 128, 256, 512, 768

N_SAMPLES, LENGTHS = 8000, (8000, 6100, 4001)
IMAGE_IDS = (0, 1, 0)
FRAMES = (0, 5, 11, 12, 17, 23)  # those whose features are recorded, of 24
MASKED = (2, 3, 4, 5, 9, 10)  # in every utterance


def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Make a weight or buffer of the dual encoder; scales of norms lie around one."""
    values = noise(name, shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("running_var"):
        return values.abs() + 0.5
    if name.endswith((".bias", "running_mean")):
        return values * 0.2
    if "conv_layers" in name and len(shape) == 3:
        return 2 * weight(name, shape)  # features as large as those of trained extractors
    is_scale = len(shape) == 1 and name.endswith(".weight")
    return 1.0 + values * 0.4 if is_scale else weight(name, shape)


def inputs(*, padded: bool) -> dict[str, Tensor]:
    """Make three utterances, a sample-level padding mask, and pictures of three regions."""
    speech = noise("speech", (3, N_SAMPLES)) * 3
    padding_mask = torch.arange(N_SAMPLES) >= torch.tensor(LENGTHS).unsqueeze(1)
    if not padded:
        padding_mask = torch.zeros_like(padding_mask)
    return {
        "speech": speech.masked_fill(padding_mask, 0.0),
        "padding_mask": padding_mask,
        "features": noise("features", (3, 3, 10)) * 2,
        "boxes": noise("boxes", (3, 3, 4)) + 0.5,
    }


def mask_indices() -> Tensor:
    """Make the masks of the training pass, bool[3, 24]."""
    mask = torch.zeros(3, 24, dtype=torch.bool)
    mask[:, list(MASKED)] = True
    return mask


def formula_integers(
    *bounds: Any, low: int = 0, high: int = 0, size: tuple[int, ...] = (), **_: Any
) -> Tensor:
    """Stand in for torch.randint, by position or by name: negatives must not depend on a generator."""
    if bounds:
        *bounds, size = bounds
        low, high = bounds if len(bounds) == 2 else (0, *bounds)
    return ((noise("negatives", tuple(size)) + 0.5) * (high - low)).long() + low


def write_bundle(folder: Path, shapes: dict[str, Any], kind: str, **entries: Any) -> Path:
    """Write best_bundle.pth and args.pkl; `entries` replace or join those of the bundle."""
    state = {
        "dual_encoder": {name: tensor(name, tuple(shape)) for name, shape in shapes.items()},
        "optimizer": {
            "state": {0: {"step": 3, "next_m": torch.zeros(2), "next_v": torch.zeros(2)}},
            "param_groups": [{"lr": 1e-4, "schedule": "warmup_linear", "t_total": 10, "params": [0]}],
        },
        "indices": np.arange(5),
        "libri_indices": None,
        **entries,
    }
    torch.save(state, folder / "best_bundle.pth")
    with (folder / "args.pkl").open("wb") as file:
        pickle.dump(argparse.Namespace(**SETTINGS, **KINDS[kind]), file)
    return folder / "best_bundle.pth"
