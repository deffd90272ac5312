"""wav2vec 2.0's transformer with a learned CLS vector and a view of its shared layers.

Shapes: B utterances, T frames, D dims of the transformer.
"""

import contextlib
import importlib
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.models.wav2vec.wav2vec2 import TransformerEncoder, Wav2Vec2Config
from torch import Tensor, nn

LayerResult = tuple[Tensor, Tensor | None, Tensor | None]

MOST_SHAPES = 64
"""Shapes for which layers are compiled; torch's own limit is 8."""


class ClsTransformerEncoder(TransformerEncoder):
    """fairseq's encoder with an utterance vector (Khorrami et al. 2023, section II; Peng & Harwath 2022).

    The CLS vector is prepended before the positional convolution and removed at the end, so callers of
    fairseq's interface get T frames. The output of the last shared layer is kept for `take_shared`, because
    fairseq's ``Wav2Vec2Model.forward`` does not return it.

    With ``zero_padding`` off, padded frames are not set to zero before the positional convolution, which then
    mixes them into valid ones, as the authors' code does.
    """

    def __init__(
        self, cfg: Wav2Vec2Config, *, use_cls: bool, shared_layers: int, zero_padding: bool = True
    ) -> None:
        super().__init__(cfg)
        self.shared_layers = shared_layers
        self.zero_padding = zero_padding
        self.cls_embedding: nn.Parameter | None = None
        if use_cls:
            self.cls_embedding = nn.Parameter(torch.randn(cfg.encoder_embed_dim))
        self.frame_padding: Tensor | None = None
        """bool[B, T] for calls without a padding mask, true where a frame is padding."""
        self._shared: Tensor | None = None
        self._compiled = False

    def compile_layers(self, *, graphs: bool = False, backend: str = "inductor") -> None:
        """Compile the layers once per shape that training meets, with ``graphs`` as CUDA graphs.

        Evaluation, whose shapes are many, does not use what was compiled. Weights keep their names.
        """
        config: Any = importlib.import_module(
            "torch._dynamo.config"
        )  # takes a second, so only where it is used
        config.recompile_limit = max(config.recompile_limit, MOST_SHAPES)
        mode = {"mode": "reduce-overhead"} if graphs else {}
        for layer in self.layers:
            layer.compile(dynamic=False, backend=backend, **mode)
        self._compiled = True

    def forward(
        self, x: Tensor, padding_mask: Tensor | None = None, layer: int | None = None
    ) -> tuple[Tensor, list[LayerResult]]:
        """Run fairseq's forward."""
        eager = self._compiled and not self.training
        with torch.compiler.set_stance("force_eager") if eager else contextlib.nullcontext():
            return super().forward(x, padding_mask, layer)

    def extract_features(
        self, x: Tensor, padding_mask: Tensor | None = None, tgt_layer: int | None = None, min_layer: int = 0
    ) -> tuple[Tensor, list[LayerResult]]:
        """Run the layers up to ``tgt_layer`` as fairseq does, with the CLS vector in front.

        Frames f[B, T, D] and padding bool[B, T] (true = padding) give frames and, per layer from
        ``min_layer`` on, fairseq's triple with f[T, B, D] first, both without the CLS position.
        """
        padding_mask = self.frame_padding if padding_mask is None else padding_mask
        if self.cls_embedding is not None:
            cls = self.cls_embedding.to(x.dtype).expand(x.size(0), 1, -1)
            x = torch.cat([cls, x], dim=1)
            if padding_mask is not None:
                padding_mask = nn.functional.pad(padding_mask, (1, 0), value=False)
        if self.zero_padding or padding_mask is None:
            x, results = super().extract_features(x, padding_mask, tgt_layer)
        else:
            x, results = self._extract_with_padding(x, padding_mask, tgt_layer)
        if len(results) >= self.shared_layers:
            self._shared = results[self.shared_layers - 1][0].transpose(0, 1)
        if self.cls_embedding is not None:
            x = x[:, 1:]
            results = [(y[1:], attention, None if ffn is None else ffn[1:]) for y, attention, ffn in results]
        return x, results[min_layer:]

    def _extract_with_padding(
        self, x: Tensor, padding_mask: Tensor, tgt_layer: int | None
    ) -> tuple[Tensor, list[LayerResult]]:
        """Run the layers as fairseq does, but do not set padded frames f[B, T, D] to zero first."""
        x = x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2)
        if not self.layer_norm_first:
            x = self.layer_norm(x)
        x = F.dropout(x, p=self.dropout, training=self.training).transpose(0, 1)
        results = []
        for layer in self.layers[: None if tgt_layer is None else tgt_layer + 1]:
            x, (attention, ffn) = layer(x, self_attn_padding_mask=padding_mask, need_weights=False)
            results.append((x, attention, ffn))
        return x.transpose(0, 1), results

    def drop_shared(self) -> None:
        """Drop the latest pass, so that nothing keeps its graph alive."""
        self._shared = None

    def take_shared(self) -> tuple[Tensor, Tensor | None]:
        """Return what the last shared layer put out in the latest pass, once: frames f[B, T, D], CLS f[B, D].

        Raises:
            RuntimeError: no pass has reached that layer since the last call.
        """
        shared, self._shared = self._shared, None
        if shared is None:
            raise RuntimeError(f"no pass has reached shared layer {self.shared_layers} since the last call")
        return (shared, None) if self.cls_embedding is None else (shared[:, 1:], shared[:, 0])
