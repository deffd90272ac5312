"""The model's settings and checks of them."""

import logging
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from torch import Tensor

from fairseq_vgs.modules.conv_spec import ConvLayers, n_frames, parse_conv_layers
from fairseq_vgs.settings import bad_setting, setting

logger = logging.getLogger(__name__)

MAX_LOGIT_SCALE = 100.0  # as in CLIP: beyond it the softmax saturates and training becomes unstable


@dataclass
class VgsWav2Vec2Config(Wav2Vec2Config):
    """Settings of fairseq's wav2vec 2.0 and, below, those of the visually grounded branch."""

    use_cls: bool = setting(True, "prepend a learned CLS vector to the frames")
    vgs_layer: int = setting(8, "layers 1..vgs_layer are shared, the rest serve SSL only")
    vgs_forward: ChoiceEnum(["masked", "unmasked"]) = setting(  # type: ignore[valid-type]
        "masked",
        "in training VGS reads the masked forward of SSL (the paper), or a second, unmasked pass; in "
        "evaluation it reads unmasked speech",
    )
    linear_init: ChoiceEnum(["fairseq", "bert"]) = setting(  # type: ignore[valid-type]
        "fairseq",
        "initial weights of the SSL arm's linear layers, the quantizer's included: fairseq's, or as BERT's "
        "and those of the visually grounded branch (the paper)",
    )
    padding: ChoiceEnum(["exact", "fairseq", "fast_vgs"]) = setting(  # type: ignore[valid-type]
        "exact",
        "exact: padding has no influence; fairseq: it affects the extractor's norm in training; fast_vgs: "
        "it also affects later layers, as in the authors' code, for imported weights",
    )
    caption_encoder: ChoiceEnum(["speech", "text"]) = setting(  # type: ignore[valid-type]
        "speech", "speech, or text: text units replace the frames, and there is no SSL"
    )
    text_vocabulary: Optional[int] = setting(
        None, "number of text units (text only); null: those of the task"
    )
    text_units_sha256: Optional[str] = setting(
        None, "which text units these are; the task fills it in (text only)"
    )
    embed_dim: int = setting(768, "dims of the shared speech-image embedding space")

    speech_head: str = setting("resdavenet", "resdavenet (the paper) or attention")
    speech_head_settings: Optional[Dict[str, Any]] = setting(
        None, "settings of the speech head that have no key of their own, by name"
    )
    speech_head_bottleneck: int = setting(128, "dims that enter the ResDAVEnet")
    speech_head_widths: List[int] = setting(
        [128, 256, 512, 768], "channels per ResDAVEnet stage; each stage halves the frame rate"
    )
    speech_head_kernel: int = setting(9, "ResDAVEnet kernel size, frames")
    speech_head_blocks: int = setting(2, "residual blocks per ResDAVEnet stage")
    speech_head_norm: ChoiceEnum(["batch", "group"]) = setting("batch", "normalisation inside the ResDAVEnet")  # type: ignore[valid-type]
    speech_head_heads: int = setting(12, "attention heads of the speech head")
    speech_head_ffn_dim: int = setting(3072, "feed-forward dims of the speech head")
    speech_head_dropout: float = setting(0.1, "dropout of the speech head")
    speech_head_attention_dropout: float = setting(0.1, "dropout of the speech head's attention weights")

    image_encoder: str = setting("regions", "regions (features, boxes); of pictures: patches, hugging_face")
    image_encoder_settings: Optional[Dict[str, Any]] = setting(
        None, "settings of the image encoder that have no key of their own, by name"
    )
    image_dim: Optional[int] = setting(
        None, "dims of one region feature (regions only); null: those of the features in task.data"
    )
    image_embed_dim: int = setting(768, "dims of the image transformer")
    image_layers: int = setting(6, "layers of the image transformer")
    image_heads: int = setting(12, "attention heads of the image transformer")
    image_ffn_dim: int = setting(3072, "feed-forward dims of the image transformer")
    image_dropout: float = setting(0.1, "dropout of the image transformer")
    image_attention_dropout: float = setting(0.1, "dropout of the image transformer's attention weights")
    image_size: Optional[int] = setting(224, "height and width of a picture, pixels; null: as the backbone's")
    patch_size: int = setting(16, "height and width of a patch, pixels (patches only)")

    image_backbone: Optional[str] = setting(
        None, "local Hugging Face folder (hugging_face), read when training starts"
    )
    image_backbone_config: Optional[str] = setting(
        None, "configuration of that model, as JSON; filled in by training"
    )
    image_backbone_frozen: bool = setting(True, "the backbone is not trained")
    image_backbone_output: ChoiceEnum(["pooled", "tokens"]) = setting(  # type: ignore[valid-type]
        "pooled", "what the backbone gives: one vector, or tokens for the transformer"
    )

    logit_scale_init: float = setting(
        1 / 0.07, "initial learned scale of the similarities (infonce and sigmoid losses)"
    )
    logit_bias_init: float = setting(-10.0, "initial learned bias (sigmoid loss)")
    autocast: ChoiceEnum(["none", "bf16", "auto"]) = setting(  # type: ignore[valid-type]
        "none", "run the model in bf16 autocast (losses stay fp32); auto: where the hardware has bf16 units"
    )
    compile: ChoiceEnum(["none", "layers", "graphs"]) = setting(  # type: ignore[valid-type]
        "none",
        "in training, the transformer's layers are compiled (torch.compile), with graphs as CUDA graphs; set "
        "task.length_buckets with it",
    )
    arithmetic: ChoiceEnum(["fast", "fairseq"]) = setting(  # type: ignore[valid-type]
        "fast",
        "in training: extractor, quantizer and SSL logits as matrix products (fast), or by fairseq's own "
        "operations; the two differ by rounding",
    )


def check_config(cfg: VgsWav2Vec2Config) -> None:
    """Refuse impossible settings.

    Raises:
        FaultError: ``setting.value`` or ``setting.missing``, at the setting.
    """
    parse_conv_layers(cfg.conv_feature_layers)  # fairseq evaluates this text as code
    if not 1 <= cfg.vgs_layer <= cfg.encoder_layers:
        raise bad_setting("model.vgs_layer", f"1..{cfg.encoder_layers} (model.encoder_layers)", cfg.vgs_layer)
    if str(cfg.layer_type) != "transformer":
        raise bad_setting("model.layer_type", "transformer", str(cfg.layer_type))
    if cfg.image_encoder == "regions" and cfg.image_dim is None:
        step = (
            "add region features to task.data, which tell the number, set model.image_dim, or set "
            "model.image_encoder=patches for pictures"
        )
        expected = "the dims of one region feature"
        raise bad_setting("model.image_dim", expected, None, step, code="setting.missing")
    if cfg.image_encoder == "hugging_face" and not cfg.image_backbone_config:
        expected = "a local Hugging Face folder for model.image_encoder=hugging_face"
        raise bad_setting("model.image_backbone", expected, None, "set it", code="setting.missing")
    if cfg.image_encoder == "patches" and cfg.image_size is None:
        expected = "pixels for model.image_encoder=patches"
        raise bad_setting("model.image_size", expected, None, "set it", code="setting.missing")
    if cfg.encoder_layerdrop > 0:
        expected = "0 (the shared layers must always run)"
        raise bad_setting("model.encoder_layerdrop", expected, cfg.encoder_layerdrop)
    if not 0 < cfg.logit_scale_init <= MAX_LOGIT_SCALE:
        expected = f"above 0, at most {MAX_LOGIT_SCALE}"
        raise bad_setting("model.logit_scale_init", expected, cfg.logit_scale_init)


def autocast_enabled(setting: str) -> bool:
    """Return whether to use bf16 autocast; "auto" depends on the hardware."""
    if str(setting) != "auto":
        return str(setting) == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without matrix units for bf16 a processor only emulates it, slower than fp32.
    enabled = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    logger.info("model.autocast=auto: %s on this CPU", "bf16" if enabled else "fp32")
    return enabled


def authors_sample_padding(padding_mask: Tensor, layers: ConvLayers) -> Tensor:
    """Move the padding bool[B, S], after the speech, so that fairseq counts the authors' valid frames.

    Their code cuts the samples into as many equal pieces as there are frames, and a frame is padding if its
    whole piece is. An utterance has one or two frames more than in fairseq, the last ones partly padding.
    """
    field, hop = 1, 1  # receptive field of a frame and distance between frames, samples
    for _, kernel, stride in layers:
        field, hop = field + (kernel - 1) * hop, hop * stride
    n_samples = padding_mask.size(1)
    total = n_frames(n_samples, layers)
    piece = n_samples // total
    n_valid = (~padding_mask).sum(dim=1, keepdim=True)
    n_valid_frames = ((n_valid + piece - 1) // piece).clamp(max=total)
    lengths = field + (n_valid_frames - 1) * hop
    return torch.arange(n_samples, device=padding_mask.device) >= lengths
