"""Light speech head: attention pooling over frames.

Legend: `P` utterances, `T` frames, `D` dimensions, `H` heads, `E` embedding dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_vgs.modules.registry import SPEECH_HEADS, SpeechHeadSettings, check_fields, expect_divisor
from fairseq_vgs.modules.transformer import BASE_STD, init_like_bert, two_layer_mlp
from fairseq_vgs.settings import from_config


@SPEECH_HEADS.register("attention")
class AttentionPoolingHead(nn.Module):
    """Pools frames with one learned query per head, then LayerNorm and a two-layer MLP.

    Each head weighs all frames by its own query and averages its share of the value dimensions. A CLS vector,
    if given, is one more token. Queries start near zero, so pooling starts as the mean. Not in the paper; it
    learns much faster than the convolutional head on small data, and costs next to nothing.

    Shape:
        frames `[P, T, D]`, cls `[P, D]` or None, padding_mask bool `[P, T]` (True = padding) or None. Result
        `[P, E]`. An utterance needs a valid frame or a CLS.
    """

    needs_cls = False

    @dataclass(frozen=True)
    class Settings(SpeechHeadSettings):
        """Queries, which divide `input_dim`; dropout of the pooled vector and of the frames' weights."""

        heads: int = from_config("speech_head_heads", default=12)
        dropout: float = from_config("speech_head_dropout", default=0.1)
        attention_dropout: float = from_config("speech_head_attention_dropout", default=0.1)

        def __post_init__(self) -> None:
            check_fields(self)
            expect_divisor(self, "heads", "input_dim", self.input_dim)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        dim, self.heads = settings.input_dim, settings.heads
        # Queries are compared with frames directly: they would absorb a key projection.
        self.queries = nn.Parameter(torch.randn(settings.heads, dim) * BASE_STD)
        self.value = nn.Linear(dim, dim)
        self.attention_dropout = nn.Dropout(settings.attention_dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.projection = two_layer_mlp(dim, 2 * dim, settings.output_dim)
        init_like_bert(self, width=dim)

    def forward(
        self, frames: Tensor, *, cls: Tensor | None = None, padding_mask: Tensor | None = None
    ) -> Tensor:
        """Embed utterances; see the class for shapes."""
        if padding_mask is None:
            padding_mask = frames.new_zeros(frames.shape[:2], dtype=torch.bool)
        tokens = frames.masked_fill(padding_mask.unsqueeze(-1), 0.0)
        if cls is not None:
            tokens = torch.cat([cls.unsqueeze(1).to(tokens.dtype), tokens], dim=1)
            padding_mask = F.pad(padding_mask, (1, 0), value=False)
        scores = F.linear(tokens, self.queries)
        if scores.dtype != torch.float64:
            scores = scores.float()
        scores = scores.masked_fill(padding_mask.unsqueeze(-1), -torch.inf)
        weights = self.attention_dropout(scores.softmax(dim=1))  # [P, T, H]
        values = self.value(tokens)
        values = values.reshape(*values.shape[:2], self.heads, values.size(2) // self.heads)
        pooled = torch.einsum("pth,pthd->phd", weights.to(values.dtype), values).flatten(1)
        embedding: Tensor = self.projection(self.dropout(self.norm(pooled)))
        return embedding
