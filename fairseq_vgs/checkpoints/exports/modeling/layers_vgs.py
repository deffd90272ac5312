"""Layers that the speech head and the image encoders share, and norms that leave padding out.

Legend: `B` sequences, `L` tokens, `D` dimensions, `H` heads, `C` channels, `T` frames, `E` dims embedded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-12
CHANNELS_PER_GROUP = 16
LONGEST_WAVELENGTH = 10_000.0


def two_layer_mlp(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """Build linear, GELU, linear."""
    return nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, output_dim))


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, heads: int, padding_mask: Tensor | None, dropout: float
) -> Tensor:
    """Attend from every token to all that are not padding: `[B, L, D]` three times, to `[B, L, D]`."""
    shape = query.shape
    split = (*shape[:2], heads, shape[2] // heads)
    query, key, value = (x.reshape(split).transpose(1, 2) for x in (query, key, value))
    mask = None if padding_mask is None else ~padding_mask[:, None, None, :]
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return attended.transpose(1, 2).reshape(shape)


class PostNormLayer(nn.Module):
    """One BERT layer: attention and a GELU feed-forward network, each `LayerNorm(x + f(x))`.

    Shape:
        x `[B, L, D]`, padding_mask bool `[B, L]` (True = padding) or None, result as x.
    """

    def __init__(
        self, dim: int, *, heads: int, ffn_dim: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attention_output = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.expand = nn.Linear(dim, ffn_dim)
        self.contract = nn.Linear(ffn_dim, dim)
        self.output_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Apply the layer; see the class for shapes."""
        attended = attend(
            self.query(x),
            self.key(x),
            self.value(x),
            heads=self.heads,
            padding_mask=padding_mask,
            dropout=self.attention_dropout if self.training else 0.0,
        )
        x = self.attention_norm(x + self.dropout(self.attention_output(attended)))
        normed: Tensor = self.output_norm(x + self.dropout(self.contract(F.gelu(self.expand(x)))))
        return normed


def build_norm(name: str, n_channels: int) -> nn.Module:
    """Build `batch` or `group`, over time: groups of 16 channels, one if 16 does not divide the channels."""
    if name == "batch":
        return FrozenBatchNorm(n_channels)
    return ValidGroupNorm(
        n_channels // CHANNELS_PER_GROUP if n_channels % CHANNELS_PER_GROUP == 0 else 1, n_channels
    )


class FrozenBatchNorm(nn.BatchNorm1d):
    """Batch norm that always uses the statistics it was trained with, in fine-tuning too.

    Shape:
        x `[B, C, T]`, valid bool `[B, T]`, which is not needed, result as x.
    """

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:  # noqa: ARG002, D102 - see the class
        mean, variance = self.running_mean, self.running_var
        if mean is None or variance is None:
            raise RuntimeError("FrozenBatchNorm: expected statistics, got none")
        wide = x.float() if x.dtype != torch.float64 else x
        scale = torch.rsqrt(variance.to(wide.dtype) + self.eps) * self.weight.to(wide.dtype)
        shift = self.bias.to(wide.dtype) - mean.to(wide.dtype) * scale
        return torch.addcmul(shift.view(1, -1, 1), wide, scale.view(1, -1, 1)).to(x.dtype)


class ValidGroupNorm(nn.GroupNorm):
    """Group norm over the valid frames of each sequence, in float32 at least.

    Shape:
        x `[B, C, T]`, valid bool `[B, T]`, result as x; its padded frames are arbitrary.
    """

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:  # type: ignore[override]  # noqa: D102
        wide = x.float() if x.dtype != torch.float64 else x
        grouped = wide.unflatten(1, (self.num_groups, -1))  # [B, groups, C / groups, T]
        weights = valid[:, None, None, :].to(wide.dtype)
        n_values = weights.sum(dim=(2, 3), keepdim=True).clamp(min=1.0) * grouped.size(2)
        centred = grouped - (grouped * weights).sum(dim=(2, 3), keepdim=True) / n_values
        variance = (centred.square() * weights).sum(dim=(2, 3), keepdim=True) / n_values
        normed = (centred * torch.rsqrt(variance + self.eps)).flatten(1, 2)
        scale, shift = (w.to(wide.dtype).view(1, -1, 1) for w in (self.weight, self.bias))
        return torch.addcmul(shift, normed, scale).to(x.dtype)


class TokenTransformer(nn.Module):
    """What image encoders share: a learned CLS before the tokens, post-norm layers, MLP on the CLS."""

    def add_transformer(
        self,
        dim: int,
        *,
        layers: int,
        heads: int,
        ffn_dim: int,
        dropout: float,
        attention_dropout: float,
        output_dim: int,
    ) -> None:
        """Add the shared part."""
        self.dropout = nn.Dropout(dropout)
        self.cls = nn.Parameter(torch.zeros(dim))
        self.layers = nn.ModuleList(
            PostNormLayer(
                dim, heads=heads, ffn_dim=ffn_dim, dropout=dropout, attention_dropout=attention_dropout
            )
            for _ in range(layers)
        )
        self.projection = two_layer_mlp(dim, 2 * dim, output_dim)

    def embed_tokens(self, tokens: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Embed tokens `[B, L, D]`, padding_mask bool `[B, L]` (True = padding): `[B, E]`."""
        cls = self.cls.to(tokens.dtype).expand(tokens.size(0), 1, -1)
        x = torch.cat([cls, self.dropout(tokens)], dim=1)
        if padding_mask is not None:
            padding_mask = F.pad(padding_mask, (1, 0), value=False)
        for layer in self.layers:
            x = layer(x, padding_mask)
        embedding: Tensor = self.projection(x[:, 0])
        return embedding


def sincos_positions(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """Compute positions of rows x columns: `[height * width, dim]`, half of it for the row, half the column.

    They have the type and device of `like`.
    """
    exponents = torch.arange(dim // 4, device=like.device, dtype=torch.float32) / (dim // 4)
    frequencies = LONGEST_WAVELENGTH**-exponents
    rows, columns = (
        torch.arange(n, device=like.device, dtype=torch.float32).unsqueeze(1) * frequencies
        for n in (height, width)
    )
    by_row = torch.cat([rows.sin(), rows.cos()], dim=1).unsqueeze(1).expand(height, width, -1)
    by_column = torch.cat([columns.sin(), columns.cos()], dim=1).unsqueeze(0).expand(height, width, -1)
    return torch.cat([by_row, by_column], dim=2).flatten(0, 1).to(like.dtype)
