"""The paper's speech head: residual convolutions over time, then one transformer layer read at its CLS.

Legend: `P` utterances, `T` frames (20 ms), `D` dimensions of a frame, `C` channels, `E` embedding dimensions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_vgs.modules.config import SpeechHeadConfig
from fairseq_vgs.modules.initialization import init_like_bert
from fairseq_vgs.modules.masked_norm import build_masked_norm
from fairseq_vgs.modules.registry import register_speech_head
from fairseq_vgs.modules.transformer import PostNormLayer, two_layer_mlp

__all__ = ["ResDavenet", "ResDavenetHead", "ResidualBlock"]

STRIDE = 2


class ResidualBlock(nn.Module):
    """Convolution, norm, ReLU, convolution, norm, plus the residual, ReLU; convolutions without bias.

    The first convolution has the stride; where the shape changes, the residual is a convolution of kernel 1
    with the same stride and a norm of its own. Padded frames are set to zero before every convolution, which
    then sees what it would see at the end of an utterance that is not padded.

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
        """Applies the block; see the class for shapes."""
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
        padding mask `[P, T']`, T' = T halved and rounded up once per stage. At least one frame remains of one
        frame.
    """

    def __init__(self, config: SpeechHeadConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.input_dim, config.bottleneck_dim)
        self.norm = build_masked_norm(config.norm, config.bottleneck_dim)
        self.blocks = nn.ModuleList()
        width = config.bottleneck_dim
        for stage_width in config.widths:
            for index in range(config.blocks_per_stage):
                self.blocks.append(
                    ResidualBlock(
                        width,
                        stage_width,
                        kernel_size=config.kernel_size,
                        stride=STRIDE if index == 0 else 1,
                        norm=config.norm,
                    )
                )
                width = stage_width
        self.apply(_init_convolution)

    def forward(self, frames: Tensor, *, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Shortens the frames; see the class for shapes."""
        if padding_mask is None:
            padding_mask = frames.new_zeros(frames.shape[:2], dtype=torch.bool)
        valid = ~padding_mask
        # Filled before anything else: a product with zero would keep a NaN that stands in padding.
        frames = frames.masked_fill(padding_mask.unsqueeze(-1), 0.0)
        x = self.norm(self.linear(frames).transpose(1, 2), valid)
        x = _zero_padding(F.relu(x), valid)
        for block in self.blocks:
            x, valid = block(x, valid)
        return x.transpose(1, 2), ~valid


@register_speech_head("resdavenet")
class ResDavenetHead(nn.Module):
    """The paper's speech embedding: ResDAVEnet frames behind a CLS, one transformer layer, linear layer.

    The transformer layer is post-norm. The CLS is that of the speech encoder after a two-layer MLP (GELU,
    hidden width twice the transformer's). No positions are added: the frames carry them from the encoder.
    Source: FaST-VGS (Peng & Harwath 2022), Khorrami et al. 2023, and their public code. That code counts
    floor(n / 16) frames of an utterance as valid and lets padding into convolutions and batch norm, which
    `padding="fast_vgs"` repeats; with `exact` the count is the convolutions' own, ceil(n / 2) per stage, and
    padding has no influence.

    Shape:
        frames `[P, T, D]`, cls `[P, D]`, padding_mask bool `[P, T]` (True = padding) or None. Result `[P,
        E]`.
    """

    needs_cls = True

    def __init__(self, config: SpeechHeadConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        if width % config.heads:
            raise ValueError(
                f"SpeechHeadConfig.heads: expected a divisor of the last width ({width}), got {config.heads}"
            )
        self.cls_projection = two_layer_mlp(config.input_dim, 2 * width, width)
        self.layer = PostNormLayer(
            width,
            heads=config.heads,
            ffn_dim=config.ffn_dim,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
        self.projection = nn.Linear(width, config.output_dim)
        self.convolutions = ResDavenet(config)
        self.padding = config.padding
        init_like_bert(self, width=width)

    def forward(
        self, frames: Tensor, *, cls: Tensor | None = None, padding_mask: Tensor | None = None
    ) -> Tensor:
        """Embeds utterances; see the class for shapes."""
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
    """Padding mask of the shortened frames by the rule of the authors' code.

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
