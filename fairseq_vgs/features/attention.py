"""Attention weights of a transformer layer, computed again from what entered its attention.

Layers do not ask for the weights, so torch never makes them whole: they are the softmax of queries times
keys, from the layer's own projections.

Shapes: S samples at 16 kHz, H heads, n positions: T frames and, in front, the CLS vector of models with one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fairseq_vgs.features.speech import speech_features


@torch.inference_mode()
def attention_weights(model: nn.Module, source: Tensor, layer: int) -> Tensor:
    """Compute the weights of layer ``layer`` (1 is the first) over an utterance f[S], whole and unmasked.

    Returns:
        f32[H, n, n] on the CPU: of each position (row) how much it takes from each other (column).
    """
    wav2vec: Any = model
    encoder = wav2vec.encoder
    attention = encoder.layers[layer - 1].self_attn
    kept: list[tuple[Tensor, Tensor | None]] = []

    def keep(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        if "query" in named:  # of fairseq, f[n, 1, D]
            kept.append((named["query"][:, 0], named.get("key_padding_mask")))
        else:  # of an exported model, f[1, n, D]
            kept.append((given[0][0], given[1]))

    hook = attention.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        n_frames = len(speech_features(model, [source])[0].layers["layer_1"])
    finally:
        hook.remove()
    n_positions = n_frames + int(getattr(encoder, "cls_embedding", None) is not None)
    return _weights(attention, *kept[0])[:, :n_positions, :n_positions]


def _weights(attention: Any, states: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Return f32[H, n, n] of the states f[n, D] that entered; of what is padding, bool[1, n], none."""
    n_heads = getattr(attention, "num_heads", None) or attention.heads
    queries, keys = (
        projection(states).unflatten(1, (n_heads, -1)).transpose(0, 1)
        for projection in (attention.q_proj, attention.k_proj)
    )
    scores = (queries * queries.size(2) ** -0.5) @ keys.transpose(1, 2)
    if padding_mask is not None:
        scores = scores.masked_fill(padding_mask[:, None, :], -torch.inf)
    return scores.float().softmax(dim=-1).cpu()
