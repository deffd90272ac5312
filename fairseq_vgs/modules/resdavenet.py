"""The paper's speech head: residual convolutions over time, then one transformer layer read at its CLS.

Legend: `P` utterances, `T` frames (20 ms), `D` dimensions of a frame, `C` channels, `E` embedding dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_vgs.modules.masked_norm import build_masked_norm
from fairseq_vgs.modules.registry import SPEECH_HEADS, SpeechHeadSettings, check_fields, expect_divisor
from fairseq_vgs.modules.transformer import PostNormLayer, init_like_bert, two_layer_mlp
from fairseq_vgs.settings import SettingError, from_config

STRIDE = 2


@dataclass(frozen=True)
class ResDavenetSettings(SpeechHeadSettings):
    """Sizes; the defaults are the paper's (Khorrami et al. 2023).

    `bottleneck_dim` is the width before the first of the residual stages, whose `widths` follow; each stage
    halves the number of frames. `kernel_size` is odd. `heads` (which divide the last width), `ffn_dim` and
    both dropouts are the transformer layer's; an `attention_dropout` of 0 (authors: 0.1) is faster on a CPU.
    `padding="fast_vgs"` treats padding as the authors do; otherwise it has no influence.
    """

    bottleneck_dim: int = from_config("speech_head_bottleneck", default=128)
    widths: tuple[int, ...] = from_config("speech_head_widths", default=(128, 256, 512, 768))
    kernel_size: int = from_config("speech_head_kernel", default=9)
    blocks_per_stage: int = from_config("speech_head_blocks", default=2)
    norm: Literal["batch", "group"] = from_config("speech_head_norm", default="batch")
    heads: int = from_config("speech_head_heads", default=12)
    ffn_dim: int = from_config("speech_head_ffn_dim", default=3072)
    dropout: float = from_config("speech_head_dropout", default=0.1)
    attention_dropout: float = from_config("speech_head_attention_dropout", default=0.1)
    padding: Literal["exact", "fairseq", "fast_vgs"] = from_config("padding", default="exact")

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.widths or min(self.widths) < 1:
            raise SettingError("widths", "at least one positive width", self.widths)
        if self.kernel_size % 2 == 0:
            raise SettingError("kernel_size", "an odd number", self.kernel_size)
        expect_divisor(self, "heads", "the last width", self.widths[-1])


class ResidualBlock(nn.Module):
    """Convolution, norm, ReLU, convolution, norm, plus the residual, ReLU; convolutions without bias.

    The first convolution has the stride; where the shape changes, the residual is a convolution of kernel 1
    with the same stride and its own norm. Padded frames are set to zero before every convolution, so it reads
    the same input as at the end of an utterance without padding.

    Shape:
        x `[P, C, T]` (zero where padded), valid bool `[P, T]`. Returns the same two after the stride: output
        frame i is centred on input frame `stride * i` and valid if that one is; `ceil(T / stride)` frames.
    """

    def __init__(self, input_dim: int, output_dim: int, *, kernel_size: int, stride: int, norm: str) -> None:
        super().__init__()
        self.stride = stride
        padding = kernel_size // 2
        self.conv1 = nn.Conv1d(input_dim, output_dim, kernel_size, stride=stride, padding=padding, bias=False)
        self.norm1 = build_masked_norm(norm, output_dim)
        self.conv2 = nn.Conv1d(output_dim, output_dim, kernel_size, padding=padding, bias=False)
        self.norm2 = build_masked_norm(norm, output_dim)
        self.shortcut: nn.Conv1d | None = None
        self.shortcut_norm: nn.Module | None = None
        if stride != 1 or input_dim != output_dim:
            self.shortcut = nn.Conv1d(input_dim, output_dim, 1, stride=stride, bias=False)
            self.shortcut_norm = build_masked_norm(norm, output_dim)

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the block; see the class for shapes."""
        residual = x
        valid = valid[:, :: self.stride]
        x = _zero_padding(F.relu(self.norm1(self.conv1(x), valid)), valid)
        x = self.norm2(self.conv2(x), valid)
        if self.shortcut is not None and self.shortcut_norm is not None:
            residual = self.shortcut_norm(self.shortcut(residual), valid)
        return _zero_padding(F.relu(x + residual), valid), valid


class ResDavenet(nn.Module):
    """Linear layer, norm, ReLU, then stages of residual blocks, each stage halving the number of frames.

    Source: ResDAVEnet (Hsu et al. 2019) as changed in FaST-VGS's public code: width 128 before the stages,
    stages 128/256/512/768 of two blocks with kernel 9, so that four stages shorten 16 times (320 ms a frame);
    convolution weights from N(0, sqrt(2 / (kernel * output channels))).

    Shape:
        frames `[P, T, D]`, padding_mask bool `[P, T]` (True = padding) or None. Returns `[P, T', C]` and the
        padding mask `[P, T']`, T' = T halved and rounded up once per stage, so that 1 frame stays 1.
    """

    def __init__(self, settings: ResDavenetSettings) -> None:
        super().__init__()
        self.linear = nn.Linear(settings.input_dim, settings.bottleneck_dim)
        self.norm = build_masked_norm(settings.norm, settings.bottleneck_dim)
        self.blocks = nn.ModuleList()
        width = settings.bottleneck_dim
        for stage_width in settings.widths:
            for index in range(settings.blocks_per_stage):
                stride = STRIDE if index == 0 else 1
                kernel = settings.kernel_size
                block = ResidualBlock(
                    width, stage_width, kernel_size=kernel, stride=stride, norm=settings.norm
                )
                self.blocks.append(block)
                width = stage_width
        self.apply(_init_convolution)

    def forward(self, frames: Tensor, *, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Shorten the frames; see the class for shapes."""
        if padding_mask is None:
            padding_mask = frames.new_zeros(frames.shape[:2], dtype=torch.bool)
        valid = ~padding_mask
        # Filled first: a NaN in the padding would survive a product with zero.
        frames = frames.masked_fill(padding_mask.unsqueeze(-1), 0.0)
        x = _zero_padding(F.relu(self.norm(self.linear(frames).transpose(1, 2), valid)), valid)
        for block in self.blocks:
            x, valid = block(x, valid)
        return x.transpose(1, 2), ~valid


@SPEECH_HEADS.register("resdavenet")
class ResDavenetHead(nn.Module):
    """The paper's speech embedding: ResDAVEnet frames behind a CLS, one transformer layer, linear layer.

    The transformer layer is post-norm. The CLS is that of the speech encoder after a two-layer MLP (GELU,
    hidden width twice the transformer's). No positions are added: the frames carry them from the encoder.
    Source: FaST-VGS (Peng & Harwath 2022), Khorrami et al. 2023, and their public code. That code counts
    floor(n / 16) frames of an utterance as valid and lets padding into convolutions and batch norm, which
    `padding="fast_vgs"` repeats; with `exact` the count is the convolutions' own, ceil(n / 2) per stage, and
    padding has no influence.

    Shape:
        frames `[P, T, D]`, cls `[P, D]`, padding_mask bool `[P, T]` (True = padding) or None; gives `[P, E]`.
    """

    needs_cls = True
    Settings = ResDavenetSettings

    def __init__(self, settings: ResDavenetSettings) -> None:
        super().__init__()
        width = settings.widths[-1]
        self.cls_projection = two_layer_mlp(settings.input_dim, 2 * width, width)
        self.layer = PostNormLayer(
            width,
            heads=settings.heads,
            ffn_dim=settings.ffn_dim,
            dropout=settings.dropout,
            attention_dropout=settings.attention_dropout,
        )
        self.projection = nn.Linear(width, settings.output_dim)
        self.convolutions = ResDavenet(settings)
        self.padding = settings.padding
        init_like_bert(self, width=width)

    def forward(
        self, frames: Tensor, *, cls: Tensor | None = None, padding_mask: Tensor | None = None
    ) -> Tensor:
        """Embed utterances; see the class for shapes."""
        if cls is None:
            raise ValueError("resdavenet head: expected the CLS vector of the speech encoder, got None")
        if self.padding == "fast_vgs":
            shortened, _ = self.convolutions(frames, padding_mask=None)
            padding_mask = _authors_padding(frames, shortened, padding_mask)
        else:
            shortened, padding_mask = self.convolutions(frames, padding_mask=padding_mask)
        cls_token = self.cls_projection(cls).unsqueeze(1)
        tokens = torch.cat([cls_token, shortened.to(cls_token.dtype)], dim=1)
        tokens = self.layer(tokens, padding_mask=F.pad(padding_mask, (1, 0), value=False))
        embedding: Tensor = self.projection(tokens[:, 0])
        return embedding


def _authors_padding(frames: Tensor, shortened: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Return the padding mask by the authors' rule.

    The factor is the rounded quotient of the two lengths, and every started group of frames is dropped: of
    399 frames (8 s) without any padding, which make 25, the last one is not read.
    """
    factor = round(frames.size(1) / shortened.size(1))
    if padding_mask is None:
        padding_mask = frames.new_zeros(frames.shape[:2], dtype=torch.bool)
    n_valid = (~padding_mask).sum(dim=1, keepdim=True) // factor
    return torch.arange(shortened.size(1), device=frames.device) >= n_valid


def _zero_padding(x: Tensor, valid: Tensor) -> Tensor:
    return x.masked_fill(~valid.unsqueeze(1), 0.0)


def _init_convolution(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d):
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / (module.kernel_size[0] * module.out_channels)))
