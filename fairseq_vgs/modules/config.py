"""Sizes of the image encoders and speech heads: plain dataclasses, without fairseq.

The defaults are the paper's base sizes (Khorrami et al. 2023; FaST-VGS+, Peng & Harwath 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["ImageEncoderConfig", "SpeechHeadConfig"]


@dataclass
class ImageEncoderConfig:
    """Sizes of an image encoder.

    Attributes:
        input_dim: dimensions of a region feature (2048: Faster R-CNN); not used by `patches`.
        embed_dim: width of the transformer.
        layers: number of transformer layers.
        heads: attention heads; divides `embed_dim`.
        ffn_dim: width of the feed-forward networks.
        dropout: after the input embedding and after every sub-layer.
        attention_dropout: of attention weights. The authors use 0.1; 0 is much faster on a CPU.
        output_dim: dimensions of the image embedding.
        image_size: side of the pictures in pixels; not used by `regions`.
        patch_size: side of a patch in pixels; only used by `patches`.
        backbone: what `hugging_face.read_backbone` returns; only used by `hugging_face`, as the next two.
        backbone_frozen: the backbone is not trained.
        backbone_output: `pooled` (one vector) or `tokens`, which go through the transformer.
    """

    input_dim: int = 2048
    embed_dim: int = 768
    layers: int = 6
    heads: int = 12
    ffn_dim: int = 3072
    dropout: float = 0.1
    output_dim: int = 768
    image_size: int = 224
    patch_size: int = 16
    attention_dropout: float = 0.1
    backbone: str = ""
    backbone_frozen: bool = True
    backbone_output: str = "pooled"

    def __post_init__(self) -> None:
        """Refuses sizes that cannot work, naming the field."""
        _check_positive(self, except_for=("layers", "dropout", "attention_dropout", "backbone_frozen"))
        if self.layers < 0:
            raise ValueError(f"ImageEncoderConfig.layers: expected at least 0, got {self.layers}")
        _check_dropouts(self)
        _check_divides(self, "heads", "embed_dim", self.embed_dim)
        if not self.backbone:
            _check_divides(self, "patch_size", "image_size", self.image_size)
        if self.backbone_output not in ("pooled", "tokens"):
            raise ValueError(
                f"ImageEncoderConfig.backbone_output: expected pooled or tokens, got {self.backbone_output!r}"
            )


@dataclass
class SpeechHeadConfig:
    """Sizes of a speech head.

    Attributes:
        input_dim: dimensions of the speech frames (and of the CLS vector).
        output_dim: dimensions of the speech embedding.
        bottleneck_dim: width before the first stage; only `resdavenet`.
        widths: width of each residual stage, each of which halves the number of frames; only `resdavenet`.
        kernel_size: of the convolutions, odd; only `resdavenet`.
        blocks_per_stage: residual blocks of a stage; only `resdavenet`.
        norm: `batch` (the paper) or `group`; only `resdavenet`.
        heads: attention heads; divides the last width (`resdavenet`) or `input_dim` (`attention`).
        ffn_dim: width of the feed-forward network of the transformer layer; only `resdavenet`.
        dropout: after every transformer sub-layer (`resdavenet`) or of the pooled vector (`attention`).
        attention_dropout: of attention weights. The authors use 0.1; 0 is faster on a CPU.
        padding: `exact` (without influence) or `fast_vgs` (as the authors treat it); only `resdavenet`.
    """

    input_dim: int = 768
    output_dim: int = 768
    bottleneck_dim: int = 128
    widths: tuple[int, ...] = (128, 256, 512, 768)
    kernel_size: int = 9
    blocks_per_stage: int = 2
    norm: str = "batch"
    heads: int = 12
    ffn_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    padding: str = "exact"

    def __post_init__(self) -> None:
        """Refuses sizes that cannot work, naming the field; makes `widths` a tuple."""
        self.widths = tuple(self.widths)
        _check_positive(self, except_for=("dropout", "attention_dropout"))
        _check_dropouts(self)
        if not self.widths or min(self.widths) < 1:
            raise ValueError(
                f"SpeechHeadConfig.widths: expected at least one positive width, got {self.widths}"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"SpeechHeadConfig.kernel_size: expected an odd number, got {self.kernel_size}")
        if self.norm not in ("batch", "group"):
            raise ValueError(f"SpeechHeadConfig.norm: expected batch or group, got {self.norm!r}")
        if self.padding not in ("exact", "fast_vgs"):
            raise ValueError(f"SpeechHeadConfig.padding: expected exact or fast_vgs, got {self.padding!r}")


def _check_positive(config: ImageEncoderConfig | SpeechHeadConfig, *, except_for: tuple[str, ...]) -> None:
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name not in except_for and isinstance(value, int) and value < 1:
            raise ValueError(
                f"{type(config).__name__}.{field.name}: expected a positive integer, got {value}"
            )


def _check_dropouts(config: ImageEncoderConfig | SpeechHeadConfig) -> None:
    for name in ("dropout", "attention_dropout"):
        value = getattr(config, name)
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{type(config).__name__}.{name}: expected 0 <= p < 1, got {value}")


def _check_divides(config: ImageEncoderConfig, divisor_name: str, name: str, value: int) -> None:
    divisor = getattr(config, divisor_name)
    if value % divisor:
        raise ValueError(
            f"{type(config).__name__}.{divisor_name}: expected a divisor of {name} ({value}), got {divisor}"
        )
