"""fairseq's transformer layer with rearranged arithmetic for training.

Shapes: B utterances, T frames, D dims.
"""

from __future__ import annotations

import torch.nn.functional as F
from fairseq.models.wav2vec.wav2vec2 import TransformerSentenceEncoderLayer
from fairseq.modules import gelu
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import Tensor, nn

from fairseq_vgs.modules.attention import attend, project_heads


class FastTransformerLayer(TransformerSentenceEncoderLayer):
    """In training: one product for query, key and value, `attend`, and GELU in the type of the frames."""

    def forward(
        self,
        x: Tensor,
        self_attn_mask: Tensor | None = None,
        self_attn_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        att_args: object = None,
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor]]:
        """Apply the layer to frames f[T, B, D], padding bool[B, T]; fairseq's result, without weights."""
        if not self.training or self_attn_mask is not None:
            result: tuple[Tensor, tuple[Tensor | None, Tensor]] = super().forward(
                x, self_attn_mask, self_attn_padding_mask, need_weights, att_args
            )
            return result
        if self.layer_norm_first:
            x = x + self.dropout1(self._attend(self.self_attn_layer_norm(x), self_attn_padding_mask))
            ffn = self._feed_forward(self.final_layer_norm(x))
            return x + self.dropout3(ffn), (None, ffn)
        x = self.self_attn_layer_norm(x + self.dropout1(self._attend(x, self_attn_padding_mask)))
        ffn = self._feed_forward(x)
        return self.final_layer_norm(x + self.dropout3(ffn)), (None, ffn)

    def _attend(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        attention = self.self_attn
        linears = (attention.q_proj, attention.k_proj, attention.v_proj)
        query, key, value = project_heads(x.transpose(0, 1), linears, heads=attention.num_heads)
        attended = attend(query, key, value, padding=padding_mask, dropout=attention.dropout_module.p)
        output: Tensor = attention.out_proj(attended.permute(2, 0, 1, 3).flatten(2))
        return output

    def _feed_forward(self, x: Tensor) -> Tensor:
        # fairseq's GELU converts to float32 and back, which changes nothing but the time
        activation = F.gelu if self.activation_fn is gelu else self.activation_fn
        output: Tensor = self.fc2(self.dropout2(activation(self.fc1(x))))
        return output


def take_fast_layers(layers: nn.ModuleList) -> None:
    """Give fairseq's layers this class; activations that are not kept are computed by it too."""
    for layer in layers:
        if type(layer) is not TransformerSentenceEncoderLayer:
            continue
        checkpointed = "precheckpoint_forward" in vars(layer)
        if checkpointed:
            del layer.forward, layer.precheckpoint_forward
        layer.__class__ = FastTransformerLayer
        if checkpointed:
            checkpoint_wrapper(layer)
