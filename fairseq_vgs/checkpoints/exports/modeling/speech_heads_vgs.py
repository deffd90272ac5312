"""The speech heads: frames and CLS of the shared layers to one vector per utterance.

Legend: `B` utterances, `T` frames, `D` dimensions, `C` channels, `H` heads, `E` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers_vgs import PostNormLayer, build_norm, two_layer_mlp

STRIDE = 2


class AttentionPoolingHead(nn.Module):
    """Pools frames, and the CLS if there is one, with one learned query per head, then norm and MLP.

    Shape:
        frames `[B, T, D]`, cls `[B, D]` or None, padding_mask bool `[B, T]`, result `[B, E]`.
    """

    def __init__(self, settings: Mapping[str, Any], *, padding: str) -> None:  # noqa: ARG002 - as the others
        super().__init__()
        dim, self.heads = settings["input_dim"], settings["heads"]
        self.queries = nn.Parameter(torch.zeros(self.heads, dim))
        self.value = nn.Linear(dim, dim)
        self.attention_dropout = nn.Dropout(settings["attention_dropout"])
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(settings["dropout"])
        self.projection = two_layer_mlp(dim, 2 * dim, settings["output_dim"])

    def forward(self, frames: Tensor, cls: Tensor | None, padding_mask: Tensor) -> Tensor:
        """Embed utterances; see the class for shapes."""
        tokens = frames.masked_fill(padding_mask.unsqueeze(2), 0.0)
        if cls is not None:
            tokens = torch.cat([cls.unsqueeze(1), tokens], dim=1)
            padding_mask = F.pad(padding_mask, (1, 0), value=False)
        scores = F.linear(tokens, self.queries)
        scores = scores if scores.dtype == torch.float64 else scores.float()
        scores = scores.masked_fill(padding_mask.unsqueeze(2), -torch.inf)
        weights = self.attention_dropout(scores.softmax(dim=1))  # [B, T, H]
        values = self.value(tokens).unflatten(2, (self.heads, -1))
        pooled = torch.einsum("bth,bthd->bhd", weights.to(values.dtype), values).flatten(1)
        embedding: Tensor = self.projection(self.dropout(self.norm(pooled)))
        return embedding


class ResidualBlock(nn.Module):
    """Two convolutions with norms and a residual; the first has the stride.

    Shape:
        x `[B, C, T]` (zero where padded), valid bool `[B, T]`; returns both after the stride.
    """

    def __init__(self, input_dim: int, output_dim: int, *, kernel_size: int, stride: int, norm: str) -> None:
        super().__init__()
        self.stride = stride
        half = kernel_size // 2
        self.conv1 = nn.Conv1d(input_dim, output_dim, kernel_size, stride=stride, padding=half, bias=False)
        self.norm1 = build_norm(norm, output_dim)
        self.conv2 = nn.Conv1d(output_dim, output_dim, kernel_size, padding=half, bias=False)
        self.norm2 = build_norm(norm, output_dim)
        self.shortcut: nn.Conv1d | None = None
        self.shortcut_norm: nn.Module | None = None
        if stride != 1 or input_dim != output_dim:
            self.shortcut = nn.Conv1d(input_dim, output_dim, 1, stride=stride, bias=False)
            self.shortcut_norm = build_norm(norm, output_dim)

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the block; see the class for shapes."""
        residual = x
        x = self.conv1(x)
        # by index: the layout of a slice ties graphs to even numbers of frames
        valid = valid[:, self.stride * torch.arange(x.size(2), device=x.device)]
        x = _zero_padding(F.relu(self.norm1(x, valid)), valid)
        x = self.norm2(self.conv2(x), valid)
        if self.shortcut is not None and self.shortcut_norm is not None:
            residual = self.shortcut_norm(self.shortcut(residual), valid)
        return _zero_padding(F.relu(x + residual), valid), valid


class ResDavenet(nn.Module):
    """Linear layer, norm, ReLU, then stages of residual blocks, each of which halves the number of frames.

    Shape:
        frames `[B, T, D]`, valid bool `[B, T]`; returns `[B, T', C]` and valid `[B, T']`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width, norm = settings["bottleneck_dim"], settings["norm"]
        self.linear = nn.Linear(settings["input_dim"], width)
        self.norm = build_norm(norm, width)
        self.blocks = nn.ModuleList()
        kernel = settings["kernel_size"]
        for stage_width in settings["widths"]:
            for index in range(settings["blocks_per_stage"]):
                stride = STRIDE if index == 0 else 1
                block = ResidualBlock(width, stage_width, kernel_size=kernel, stride=stride, norm=norm)
                self.blocks.append(block)
                width = stage_width

    def forward(self, frames: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Shorten the frames; see the class for shapes."""
        frames = frames.masked_fill(~valid.unsqueeze(2), 0.0)
        x = _zero_padding(F.relu(self.norm(self.linear(frames).transpose(1, 2), valid)), valid)
        for block in self.blocks:
            x, valid = block(x, valid)
        return x.transpose(1, 2), valid


class ResDavenetHead(nn.Module):
    """ResDAVEnet frames behind the CLS, one transformer layer, read at the CLS by a linear layer.

    With `padding="fast_vgs"`, padding counts as speech in the convolutions, and the valid frames are counted
    by the rounded quotient of the two lengths.

    Shape:
        frames `[B, T, D]`, cls `[B, D]`, padding_mask bool `[B, T]`, result `[B, E]`.
    """

    def __init__(self, settings: Mapping[str, Any], *, padding: str) -> None:
        super().__init__()
        width = settings["widths"][-1]
        self.cls_projection = two_layer_mlp(settings["input_dim"], 2 * width, width)
        self.layer = PostNormLayer(
            width,
            heads=settings["heads"],
            ffn_dim=settings["ffn_dim"],
            dropout=settings["dropout"],
            attention_dropout=settings["attention_dropout"],
        )
        self.projection = nn.Linear(width, settings["output_dim"])
        self.convolutions = ResDavenet(settings)
        self.counts_padding = padding == "fast_vgs"

    def forward(self, frames: Tensor, cls: Tensor, padding_mask: Tensor) -> Tensor:
        """Embed utterances; see the class for shapes."""
        read = torch.ones_like(padding_mask) if self.counts_padding else ~padding_mask
        shortened, valid = self.convolutions(frames, read)
        if self.counts_padding:
            factor = (read.sum(dim=1, keepdim=True) / valid.sum(dim=1, keepdim=True)).round().long()
            n_valid = (~padding_mask).sum(dim=1, keepdim=True) // factor
            valid = torch.arange(shortened.size(1), device=frames.device) < n_valid
        tokens = torch.cat([self.cls_projection(cls).unsqueeze(1), shortened], dim=1)
        tokens = self.layer(tokens, F.pad(~valid, (1, 0), value=False))
        embedding: Tensor = self.projection(tokens[:, 0])
        return embedding


SPEECH_HEADS: dict[str, type[AttentionPoolingHead | ResDavenetHead]] = {
    "attention": AttentionPoolingHead,
    "resdavenet": ResDavenetHead,
}


def _zero_padding(x: Tensor, valid: Tensor) -> Tensor:
    return x.masked_fill(~valid.unsqueeze(1), 0.0)
