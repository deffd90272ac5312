"""Attention for training on a CPU: torch's is slow there in bf16, and without its fast path under dropout.

Legend: `B` sequences, `H` heads, `N = B * H`, `L` tokens, `D` dimensions of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fairseq_vgs.modules.dropout import draw_dropped, drops_some, flag

LONGEST = 1024
"""Tokens up to which weights are kept for the backward pass where torch would not keep them."""
_AT_ONCE = 1 << 18  # weights that fit a processor's cache


def attend(query: Tensor, key: Tensor, value: Tensor, *, padding: Tensor | None, dropout: float) -> Tensor:
    """Compute `F.scaled_dot_product_attention`, up to rounding, in training.

    On a CPU, products are in the type of the tensors, the softmax in float32 at least, and dropout is
    `fairseq_vgs.modules.dropout`'s. Other devices have kernels of their own for this.

    Shape:
        query, key and value `[B, H, L, D]`, padding bool `[B, L]` of the keys (True = padding; every sequence
        has another one). Result `[B, H, L, D]`.
    """
    if not _ours(query, dropout):
        mask = None if padding is None else ~padding[:, None, None, :]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    bias = None
    if padding is not None:
        bias = query.new_zeros(padding.shape, dtype=torch.promote_types(query.dtype, torch.float32))
        bias = bias.masked_fill_(padding, -torch.inf).repeat_interleave(query.size(1), dim=0).unsqueeze(1)
    attended: Tensor = _Attention.apply(query, key, value, bias, dropout)
    return attended


def _ours(query: Tensor, dropout: float) -> bool:
    """Whether torch has nothing better: on a CPU it has without dropout in float32."""
    plain = dropout == 0 and (query.dtype != torch.bfloat16 or query.size(2) > LONGEST)
    return query.device.type == "cpu" and query.numel() > 0 and 0 <= dropout < 1 and not plain


class _Attention(torch.autograd.Function):
    """Keeps the weights, negative where they are dropped; a few heads at a time, for the caches' sake."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float
    ) -> Tensor:
        ctx.scale, ctx.kept_scale = 1 / math.sqrt(query.size(3)), 1 / (1 - dropout)
        q, k, v = (x.flatten(0, 1).contiguous() for x in (query, key, value))
        weights = q.new_empty(len(q), q.size(1), k.size(1))
        dropped = draw_dropped(weights.shape, dropout) if drops_some(dropout) else None
        result = torch.empty_like(q)
        for rows in _parts(weights):
            scores = _scores(q[rows], k[rows], None if bias is None else bias[rows], ctx.scale)
            part = weights[rows].copy_(scores.softmax(dim=2))
            if dropped is not None:
                part = flag(part, dropped[rows]).clamp(min=0.0)
            torch.bmm(part, v[rows], out=result[rows])
        ctx.save_for_backward(q, k, v, weights)
        ctx.drops = dropped is not None
        return result.mul_(ctx.kept_scale).view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        gradient = gradients[0].flatten(0, 1).mul(ctx.kept_scale).contiguous()
        for_q, for_k, for_v = (torch.empty_like(x) for x in (q, k, v))
        for rows in _parts(weights):
            part = weights[rows]
            kept = part.clamp(min=0.0) if ctx.drops else part
            torch.bmm(kept.transpose(1, 2), gradient[rows], out=for_v[rows])
            for_kept = torch.bmm(gradient[rows], v[rows].transpose(1, 2))
            if ctx.drops:
                for_kept = torch.ops.aten.threshold_backward(for_kept, part, 0)
                part = part.abs()
            for_scores = torch._softmax_backward_data(for_kept, part, 2, part.dtype)
            torch.bmm(for_scores, k[rows], out=for_q[rows])
            torch.bmm(for_scores.transpose(1, 2), q[rows], out=for_k[rows])
        shape = gradients[0].shape
        found = (for_q.mul_(ctx.scale), for_k.mul_(ctx.scale), for_v)
        return (*(x.view(shape) for x in found), None, None)


def project_heads(x: Tensor, linears: Sequence[nn.Linear], *, heads: int) -> Sequence[Tensor]:
    """Apply several linear layers of the same size to tokens `[B, L, C]` as one; `[B, H, L, D]` of each."""
    weight = torch.cat([linear.weight for linear in linears])
    bias = torch.cat([linear.bias for linear in linears])
    joint = F.linear(x, weight, bias).unflatten(2, (len(linears), heads, -1))  # [B, L, n, H, D]
    return joint.permute(2, 0, 3, 1, 4).unbind()


def _scores(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Compute the logits `[N, L, L]` of attention, in float32 at least."""
    scores = torch.bmm(q, k.transpose(1, 2))
    scores = scores.float() if scores.dtype != torch.float64 else scores
    return scores.mul_(scale) if bias is None else torch.add(bias, scores, alpha=scale, out=scores)


def _parts(weights: Tensor) -> Iterator[slice]:
    """Cut the heads into parts of about as many weights as a cache holds."""
    step = max(1, _AT_ONCE // weights[0].numel())
    return (slice(first, first + step) for first in range(0, len(weights), step))
