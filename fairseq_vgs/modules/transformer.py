"""Post-norm layers, two-layer MLP and initial weights that both branches share; the image transformer.

Unlike them, `torch.nn.TransformerEncoderLayer` drops out inside the feed-forward network, ties attention
dropout to it, and switches to another kernel in eval mode.

Legend: `B` sequences, `L` tokens, `D` dimensions, `H` heads, `E` embedding dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_vgs.modules.attention import attend, project_heads
from fairseq_vgs.modules.registry import ImageEncoderSettings, check_fields, expect_divisor
from fairseq_vgs.settings import from_config

# As in BERT and the authors' public code.
LAYER_NORM_EPS = 1e-12
BASE_STD, BASE_WIDTH = 0.02, 768


def two_layer_mlp(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """Linear, GELU, linear; the authors' hidden width is twice the model's, in both branches."""
    return nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, output_dim))


def init_like_bert(root: nn.Module, *, width: int) -> None:
    """Draw linear weights from N(0, 0.02 sqrt(768 / width)), zero biases, make layer norms the identity.

    The public FaST-VGS-Family and scheduled_VGS_plus code initialises the whole dual encoder from N(0, 0.02),
    whose width is 768. At smaller widths, every layer's output is then tiny compared with its residual, and
    the CLS nearly the same for all inputs. Scaling keeps each layer's gain as in the base size:
    at widths 64 and 96 and on synthetic sequences, 300 updates of the paper's speech head brought R@10 of
    80-97 % with scaling and 10-60 % without (10 %: group norm with dot product; chance 5 %; one seed).
    """
    std = BASE_STD * math.sqrt(BASE_WIDTH / width)
    for module in root.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class PostNormLayer(nn.Module):
    """One BERT layer: self-attention and a GELU feed-forward network, each `LayerNorm(x + dropout(f(x)))`.

    Source: FaST-VGS-Family's public code (its image transformer and the last layer of its speech branch).

    Shape:
        x `[B, L, D]`, padding_mask bool `[B, L]` (True = padding, never read by the others), result as x.
        At least one token of every sequence must be valid.
    """

    fast: bool = False
    """Whether attention in training is `attend`, faster on a CPU, in place of torch's."""

    def __init__(
        self, dim: int, *, heads: int, ffn_dim: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"PostNormLayer: expected heads to divide the width {dim}, got {heads} heads")
        self.heads = heads
        self.attention_dropout = attention_dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attention_output = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.expand = nn.Linear(dim, ffn_dim)
        self.contract = nn.Linear(ffn_dim, dim)
        self.output_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, padding_mask: Tensor | None) -> Tensor:
        """Apply the layer; see the class for shapes."""
        x = self.attention_norm(x + self.dropout(self._attend(x, padding_mask)))
        normed: Tensor = self.output_norm(x + self.dropout(self.contract(F.gelu(self.expand(x)))))
        return normed

    def _attend(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        linears = (self.query, self.key, self.value)
        if self.fast and self.training:
            query, key, value = project_heads(x, linears, heads=self.heads)
            attended = attend(query, key, value, padding=padding_mask, dropout=self.attention_dropout)
            joined: Tensor = self.attention_output(attended.transpose(1, 2).flatten(2))
            return joined
        query, key, value = (self._split_heads(linear(x)) for linear in linears)
        mask = None if padding_mask is None else ~padding_mask[:, None, None, :]
        dropout = self.attention_dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        output: Tensor = self.attention_output(attended.transpose(1, 2).reshape(x.shape))
        return output

    def _split_heads(self, x: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, H, L, D / H]`."""
        return x.reshape(*x.shape[:2], self.heads, x.size(2) // self.heads).transpose(1, 2)


@dataclass(frozen=True)
class ImageTransformerSettings(ImageEncoderSettings):
    """Sizes of the image transformer; the defaults are the paper's (Khorrami et al. 2023).

    `heads` divide `embed_dim`. `dropout` follows the input embedding and every sub-layer; an
    `attention_dropout` of 0 is much faster on a CPU than the authors' 0.1.
    """

    embed_dim: int = from_config("image_embed_dim", default=768)
    layers: int = from_config("image_layers", default=6)
    heads: int = from_config("image_heads", default=12)
    ffn_dim: int = from_config("image_ffn_dim", default=3072)
    dropout: float = from_config("image_dropout", default=0.1)
    attention_dropout: float = from_config("image_attention_dropout", default=0.1)

    def __post_init__(self) -> None:
        check_fields(self, may_be_zero=("layers",))
        expect_divisor(self, "heads", "embed_dim", self.embed_dim)


class ImageTransformer(nn.Module):
    """What image encoders share: a learned CLS before the tokens, post-norm layers, two-layer MLP on the CLS.

    A base class rather than a part, which keeps the names of the weights in checkpoints. The derived class
    makes its input layers, then calls `add_transformer`: optimizer states in checkpoints go by that order.
    """

    def add_transformer(self, settings: ImageTransformerSettings) -> None:
        """Add the shared part, then draw the weights of all linear layers and norms, the input's too."""
        dim = settings.embed_dim
        self.dropout = nn.Dropout(settings.dropout)
        self.cls = nn.Parameter(torch.randn(dim))
        self.layers = nn.ModuleList(
            PostNormLayer(
                dim,
                heads=settings.heads,
                ffn_dim=settings.ffn_dim,
                dropout=settings.dropout,
                attention_dropout=settings.attention_dropout,
            )
            for _ in range(settings.layers)
        )
        self.projection = two_layer_mlp(dim, 2 * dim, settings.output_dim)
        init_like_bert(self, width=dim)

    def embed_tokens(self, tokens: Tensor, *, padding_mask: Tensor | None) -> Tensor:
        """Drop out and embed tokens `[B, L, D]`, padding_mask bool `[B, L]` (True = padding): `[B, E]`."""
        tokens = self.dropout(tokens)
        x = torch.cat([self.cls.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        if padding_mask is not None:
            padding_mask = F.pad(padding_mask, (1, 0), value=False)
        for layer in self.layers:
            x = layer(x, padding_mask=padding_mask)
        embedding: Tensor = self.projection(x[:, 0])
        return embedding
