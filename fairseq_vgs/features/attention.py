"""Attention weights of a transformer layer, computed again from what entered its attention.

fairseq's layers do not ask for the weights, so torch never makes them whole: they are the softmax of queries
times keys, from the layer's own projections.

Shapes: S samples at 16 kHz, H heads, n positions: T frames and, in front, the CLS vector of models with one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


@torch.inference_mode()
def attention_weights(model: nn.Module, source: Tensor, layer: int) -> Tensor:
    """Compute the weights of layer ``layer`` (1 is the first) over an utterance f[S], whole and unmasked.

    Returns:
        f32[H, n, n] on the CPU: of each position (row) how much it takes from each other (column).
    """
    wav2vec: Any = model
    attention = wav2vec.encoder.layers[layer - 1].self_attn
    kept: dict[str, Any] = {}
    hook = attention.register_forward_pre_hook(lambda _module, _, named: kept.update(named), with_kwargs=True)
    try:
        output = wav2vec.extract_features(source.unsqueeze(0), None, mask=False, layer=layer - 1)
    finally:
        hook.remove()
        if callable(drop := getattr(wav2vec.encoder, "drop_shared", None)):
            drop()
    n_cls = int(getattr(wav2vec.encoder, "cls_embedding", None) is not None)
    n_positions = n_cls + output["layer_results"][0][0].size(0)
    return _weights(attention, kept["query"], kept.get("key_padding_mask"))[:, :n_positions, :n_positions]


def _weights(attention: Any, states: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Return f32[H, n, n] of the states f[n, 1, D] that entered; of what is padding, bool[1, n], none."""
    queries, keys = (
        projection(states)[:, 0].unflatten(1, (attention.num_heads, attention.head_dim)).transpose(0, 1)
        for projection in (attention.q_proj, attention.k_proj)
    )
    scores = (queries * attention.scaling) @ keys.transpose(1, 2)
    if padding_mask is not None:
        scores = scores.masked_fill(padding_mask[:, None, :], -torch.inf)
    return scores.float().softmax(dim=-1).cpu()
