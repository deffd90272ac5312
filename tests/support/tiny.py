"""Small models and batches that tests share."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairseq_vgs.models import VgsWav2Vec2Config, VgsWav2Vec2Model
from fairseq_vgs.models.vgs_text import VgsTextModel
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers

SIZES: dict[str, Any] = {
    "conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2",
    "encoder_layers": 3,
    "encoder_embed_dim": 24,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "conv_pos": 8,
    "conv_pos_groups": 4,
    "final_dim": 16,
    "latent_vars": 8,
    "latent_groups": 2,
    "quantize_targets": True,
    "num_negatives": 5,
    "required_seq_len_multiple": 1,
}
VGS_SIZES: dict[str, Any] = {
    "vgs_layer": 2,
    "embed_dim": 20,
    "speech_head": "attention",
    "speech_head_bottleneck": 8,
    "speech_head_widths": [8, 12, 16, 16],
    "speech_head_heads": 2,
    "speech_head_ffn_dim": 16,
    "image_dim": 10,
    "image_embed_dim": 16,
    "image_layers": 1,
    "image_heads": 2,
    "image_ffn_dim": 16,
    "image_size": 16,
    "patch_size": 8,
}
NO_DROPOUT: dict[str, Any] = {
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "speech_head_dropout": 0.0,
    "speech_head_attention_dropout": 0.0,
    "image_dropout": 0.0,
    "image_attention_dropout": 0.0,
}


def tiny_model(*, seed: int = 0, **settings: Any) -> VgsWav2Vec2Model:
    """Build a model of a few thousand parameters; ``settings`` win over the tiny sizes."""
    torch.manual_seed(seed)
    cfg = VgsWav2Vec2Config()
    for key, value in {**SIZES, **VGS_SIZES, **settings}.items():
        setattr(cfg, key, value)
    return VgsTextModel(cfg) if str(cfg.caption_encoder) == "text" else VgsWav2Vec2Model(cfg)


def random_masks(n_rows: int, frames: int, *, seed: int = 0) -> Tensor:
    """Draw bool[n_rows, frames] with a third of each row masked."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((n_rows, frames), dtype=bool)
    for row in masks:
        row[generator.choice(frames, size=frames // 3, replace=False)] = True
    return torch.from_numpy(masks)


def tiny_sample(
    *, n_pairs: int = 4, n_unpaired: int = 0, n_samples: int = 8000, seed: int = 0
) -> dict[str, Any]:
    """Make a batch as the task collates it, of noise."""
    generator = torch.Generator().manual_seed(seed)
    rows = n_pairs + n_unpaired
    frames = n_frames(n_samples, parse_conv_layers(SIZES["conv_feature_layers"]))
    ids = torch.arange(n_pairs)
    return {
        "id": ids,
        "image_id": ids.clone(),
        "image_index": ids.clone(),
        "n_pairs": n_pairs,
        "nsentences": rows,
        "ntokens": rows * n_samples,
        "n_padded": 0,
        "n_skipped": 0,
        "net_input": {
            "source": torch.randn(rows, n_samples, generator=generator),
            "padding_mask": torch.zeros(rows, n_samples, dtype=torch.bool),
            "mask_indices": random_masks(rows, frames, seed=seed),
            "image": {
                "features": torch.randn(n_pairs, 3, VGS_SIZES["image_dim"], generator=generator),
                "boxes": torch.rand(n_pairs, 3, 4, generator=generator),
                "padding_mask": torch.zeros(n_pairs, 3, dtype=torch.bool),
            },
        },
    }
