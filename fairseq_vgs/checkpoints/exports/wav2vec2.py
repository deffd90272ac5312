"""The speech encoder alone, as a plain ``Wav2Vec2Model`` of transformers, which needs no code of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_vgs.checkpoints.exports.convert import weights_of
from fairseq_vgs.checkpoints.imports.wav2vec2_hf import LAYER_MODULES, MODULES
from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError, section
from fairseq_vgs.media.rates import SAMPLE_RATE

_ACTIVATIONS = {"gelu": "gelu", "gelu_accurate": "gelu_new", "gelu_fast": "gelu_new", "relu": "relu"}


def require_plain(checkpoint: Checkpoint) -> None:
    """Refuse a model whose layers transformers' own wav2vec 2.0 does not compute.

    Raises:
        CheckpointError: ``export.cls`` or ``export.settings``.
    """
    model = section(checkpoint.config, "model")
    if model.get("use_cls", True):
        message = (
            "use_cls must be false for a plain Wav2Vec2Model, got true: every layer has attended to the CLS "
            "vector, which that class lacks; export without --plain"
        )
        raise CheckpointError.at(checkpoint.path, message, "export.cls")
    needed = {
        "pos_conv_depth": (1,),
        "crop_seq_to_multiple": (1,),
        "padding": ("exact", "fairseq"),
        "activation_fn": tuple(_ACTIVATIONS),
    }
    for key, allowed in needed.items():
        if (value := model.get(key, allowed[0])) not in allowed:
            expected = f"{key} must be {' or '.join(map(str, allowed))} for a plain Wav2Vec2Model"
            message = f"{expected}, got {value}; export without --plain"
            raise CheckpointError.at(checkpoint.path, message, "export.settings")


def plain_model(model: nn.Module, settings: Mapping[str, Any]) -> Any:
    """Build transformers' model with the weights of the speech encoder; ``settings`` as ``settings_of``."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    channels, kernels, strides = zip(*settings["conv_layers"], strict=True)
    config = Wav2Vec2Config(
        hidden_size=settings["hidden_size"],
        num_hidden_layers=settings["num_hidden_layers"],
        num_attention_heads=settings["num_attention_heads"],
        intermediate_size=settings["intermediate_size"],
        hidden_act=_ACTIVATIONS[settings["hidden_act"]],
        do_stable_layer_norm=settings["layer_norm_first"],
        feat_extract_norm="layer" if settings["extractor_mode"] == "layer_norm" else "group",
        conv_dim=channels,
        conv_kernel=kernels,
        conv_stride=strides,
        conv_bias=settings["conv_bias"],
        num_conv_pos_embeddings=settings["conv_pos"],
        num_conv_pos_embedding_groups=settings["conv_pos_groups"],
        hidden_dropout=settings["hidden_dropout"],
        attention_dropout=settings["attention_dropout"],
        activation_dropout=settings["activation_dropout"],
        layerdrop=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
    )
    plain = Wav2Vec2Model(config).eval()
    ours = weights_of(model)[0]
    state = {name: _weight(name, ours, settings) for name in plain.state_dict()}
    plain.load_state_dict(state, strict=True)
    return plain


def write_plain(folder: Path, plain: Any, *, normalize: bool) -> None:
    """Write the model and its feature extractor into an existing folder."""
    from transformers import Wav2Vec2FeatureExtractor

    plain.save_pretrained(folder)
    reader = Wav2Vec2FeatureExtractor(
        sampling_rate=SAMPLE_RATE, do_normalize=normalize, return_attention_mask=True
    )
    reader.save_pretrained(folder)


def _weight(name: str, ours: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Tensor:
    """Return the weight that transformers has under a name."""
    parts = name.split(".")
    if parts[-2:-1] == ["weight"]:  # original0, the length, or original1, the direction, of a weight norm
        weight = ours["encoder.pos_conv.0.weight"]
        return torch.norm_except_dim(weight, 2, 2) if parts[-1] == "original0" else weight
    module, kind = ".".join(parts[:-1]), parts[-1]
    if parts[0] == "feature_extractor":
        part = "0" if parts[3] == "conv" else "2.1" if settings["extractor_mode"] == "layer_norm" else "2"
        return ours[f"feature_extractor.conv_layers.{parts[2]}.{part}.{kind}"]
    if parts[:2] == ["encoder", "layers"]:
        return ours[f"encoder.layers.{parts[2]}.{LAYER_MODULES['.'.join(parts[3:-1])]}.{kind}"]
    found = ours.get(f"{MODULES[module]}.{kind}")
    if found is not None:
        return found
    # fairseq leaves the projection out where it would change no width
    width = settings["hidden_size"]
    return torch.eye(width) if kind == "weight" else torch.zeros(width)
