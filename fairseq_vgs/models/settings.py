"""From the model's settings to its parts; ``cfg`` is a ``VgsWav2Vec2Config`` throughout."""

import logging
from typing import Any

import torch
from torch import Tensor

from fairseq_vgs.modules import IMAGE_ENCODERS, SPEECH_HEADS, ImageEncoderConfig, SpeechHeadConfig
from fairseq_vgs.modules.conv_spec import ConvLayers, n_frames, parse_conv_layers

logger = logging.getLogger(__name__)

MAX_LOGIT_SCALE = 100.0  # as in CLIP: beyond it the softmax saturates and training becomes unstable


def speech_head_config(cfg: Any) -> SpeechHeadConfig:
    """Give the speech head its sizes."""
    return SpeechHeadConfig(
        input_dim=cfg.encoder_embed_dim,
        output_dim=cfg.embed_dim,
        bottleneck_dim=cfg.speech_head_bottleneck,
        widths=tuple(cfg.speech_head_widths),
        kernel_size=cfg.speech_head_kernel,
        blocks_per_stage=cfg.speech_head_blocks,
        norm=str(cfg.speech_head_norm),
        heads=cfg.speech_head_heads,
        ffn_dim=cfg.speech_head_ffn_dim,
        dropout=cfg.speech_head_dropout,
        attention_dropout=cfg.speech_head_attention_dropout,
        padding="fast_vgs" if str(cfg.padding) == "fast_vgs" else "exact",
    )


def image_encoder_config(cfg: Any) -> ImageEncoderConfig:
    """Give the image encoder its sizes."""
    return ImageEncoderConfig(
        input_dim=cfg.image_dim or ImageEncoderConfig.input_dim,  # null: no regions, and the number is unused
        embed_dim=cfg.image_embed_dim,
        layers=cfg.image_layers,
        heads=cfg.image_heads,
        ffn_dim=cfg.image_ffn_dim,
        dropout=cfg.image_dropout,
        attention_dropout=cfg.image_attention_dropout,
        output_dim=cfg.embed_dim,
        image_size=cfg.image_size or ImageEncoderConfig.image_size,  # null: no pictures
        patch_size=cfg.patch_size,
        backbone=cfg.image_backbone_config or "",
        backbone_frozen=cfg.image_backbone_frozen,
        backbone_output=str(cfg.image_backbone_output),
    )


def check_config(cfg: Any) -> None:
    """Refuse settings under which the model could not be what they say. Raises ValueError."""
    parse_conv_layers(cfg.conv_feature_layers)  # fairseq evaluates this text as code
    if not 1 <= cfg.vgs_layer <= cfg.encoder_layers:
        raise ValueError(
            f"model.vgs_layer: expected 1..{cfg.encoder_layers} (model.encoder_layers), got {cfg.vgs_layer}"
        )
    if str(cfg.layer_type) != "transformer":
        raise ValueError(f"model.layer_type: expected transformer, got {cfg.layer_type}")
    if cfg.image_encoder == "regions" and cfg.image_dim is None:
        raise ValueError(
            "model.image_dim: expected the dims of one region feature, got null and no region features in "
            "task.data to take them from; set model.image_dim, or model.image_encoder=patches for pictures"
        )
    if cfg.image_encoder == "hugging_face" and not cfg.image_backbone_config:
        raise ValueError(
            "model.image_backbone: expected a local Hugging Face directory for "
            "model.image_encoder=hugging_face, got null; set it"
        )
    if cfg.image_encoder == "patches" and cfg.image_size is None:
        raise ValueError("model.image_size: expected pixels for image_encoder=patches, got null; set it")
    if cfg.encoder_layerdrop > 0:
        raise ValueError(
            "model.encoder_layerdrop: expected 0 (the shared layer must always run), "
            f"got {cfg.encoder_layerdrop}"
        )
    if not 0 < cfg.logit_scale_init <= MAX_LOGIT_SCALE:
        raise ValueError(
            f"model.logit_scale_init: expected above 0, at most {MAX_LOGIT_SCALE}, got {cfg.logit_scale_init}"
        )
    for key, known in (("speech_head", SPEECH_HEADS), ("image_encoder", IMAGE_ENCODERS)):
        if getattr(cfg, key) not in known:
            raise ValueError(
                f"model.{key}: expected one of {', '.join(sorted(known))}, got {getattr(cfg, key)!r}"
            )


def autocast_enabled(setting: str) -> bool:
    """Decide ``model.autocast``; "auto" asks the hardware."""
    if str(setting) != "auto":
        return str(setting) == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    # Without matrix units for bf16 a CPU only emulates it, slower than fp32.
    enabled = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    logger.info("model.autocast=auto: %s on this CPU", "bf16" if enabled else "fp32")
    return enabled


def authors_sample_padding(padding_mask: Tensor, layers: ConvLayers) -> Tensor:
    """Move the padding so that fairseq counts as many valid frames as the authors' code does.

    That code cuts the samples into as many equal pieces as there are frames, and a frame is padding if all of
    its piece is: an utterance has one or two frames more than fairseq gives it, the last ones partly padding.

    Args:
        padding_mask: bool[B, S], true where a sample is padding, which follows the speech.
        layers: the extractor.
    """
    field, hop = 1, 1  # samples that one frame sees, and from one frame to the next
    for _, kernel, stride in layers:
        field, hop = field + (kernel - 1) * hop, hop * stride
    n_samples = padding_mask.size(1)
    total = n_frames(n_samples, layers)
    piece = n_samples // total
    n_valid = (~padding_mask).sum(dim=1, keepdim=True)
    n_valid_frames = ((n_valid + piece - 1) // piece).clamp(max=total)
    lengths = field + (n_valid_frames - 1) * hop
    return torch.arange(n_samples, device=padding_mask.device) >= lengths
