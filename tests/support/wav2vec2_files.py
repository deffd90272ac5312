"""Small files in the layouts of public wav2vec 2.0 models."""

import json
import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from omegaconf import OmegaConf
from safetensors.torch import save_file
from support.formula import weight
from support.tiny import SIZES
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden" / "hf_wav2vec2.json"
# settings that wav2vec_small.pt has and the tiny ones leave to defaults; numbers of its training as text
SMALL: dict[str, Any] = {
    "dropout": 0.1,
    "dropout_input": 0.1,
    "dropout_features": 0.1,
    "encoder_layerdrop": 0.05,
    "feature_grad_mult": 0.1,
    "latent_temp": "(2,0.5,0.999995)",
    "mask_prob": 0.65,
    "layer_norm_first": False,
    "extractor_mode": "default",
    "conv_bias": False,
}
LARGE: dict[str, Any] = {
    **SMALL,
    "layer_norm_first": True,
    "extractor_mode": "layer_norm",
    "conv_bias": True,
    "latent_temp": "(2.0,0.1,0.999995)",
}


def stock_model(settings: dict[str, Any], *, seed: int = 0) -> Wav2Vec2Model:
    """Build fairseq's own model of a tiny size."""
    cfg = OmegaConf.structured(Wav2Vec2Config)
    for key, value in {**SIZES, **settings}.items():
        cfg[key] = [2.0, 0.5, 0.999995] if key == "latent_temp" else value
    torch.manual_seed(seed)
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    return Wav2Vec2Model(cfg).eval()


def old_state(model: torch.nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """Lay out a checkpoint as before 2021: a namespace of the whole command line, and weights."""
    arguments = {
        "arch": "wav2vec2",
        "task": "audio_pretraining",
        "criterion": "wav2vec",
        "data": "somewhere/else",
        "adam_betas": "(0.9, 0.98)",
        "lr": [0.0005],
        "normalize": False,
        "sample_rate": 16000,
        "quantize_input": False,
        "same_quantizer": False,
        "target_glu": False,
        **SIZES,
        **settings,
    }
    del arguments["required_seq_len_multiple"]  # came later
    return {
        "args": Namespace(**arguments),
        "model": model.state_dict(),
        "optimizer_history": [{"criterion_name": "Wav2vecCriterion", "num_updates": 400000}],
        "extra_state": {"train_iterator": {"epoch": 1}},
    }


def new_state(model: torch.nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """Lay out a checkpoint as since 2021: settings in sections."""
    return {
        "args": None,
        "cfg": {
            "model": {"_name": "wav2vec2", **SIZES, **settings},
            "task": {"_name": "audio_pretraining", "normalize": True, "sample_rate": 16000},
        },
        "model": model.state_dict(),
    }


def golden(kind: str) -> dict[str, Any]:
    """Read what transformers recorded for "base" or "large"; outputs are f32 tensors [T, D]."""
    content = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = content[kind]
    for key in ("last_hidden_state", "projected_states", "projected_quantized_states"):
        found[key] = torch.tensor(found[key])
    return {
        **found,
        "n_samples": content["n_samples"],
        "hidden_states": [torch.tensor(hidden) for hidden in found["hidden_states"]],
        "weights": {name: weight(name, tuple(shape)) for name, shape in found["shapes"].items()},
    }


def hugging_face_folder(
    folder: Path,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    *,
    preprocessing: dict[str, Any] | None = None,
    safetensors: bool = True,
) -> Path:
    """Write a folder as ``save_pretrained`` does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if preprocessing is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing), encoding="utf-8")
    if safetensors:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(weights, folder / "pytorch_model.bin")
    return folder
