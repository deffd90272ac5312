"""wav2vec 2.0 with a visually grounded branch on its shared layers ("VGS+").

Shapes: B utterances of which the first P are paired with a picture, S samples, T frames, D dims,
E embedding dims, R image regions.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_vgs.models.cls_encoder import ClsTransformerEncoder
from fairseq_vgs.models.fast_wav2vec2 import FastWav2Vec2Model
from fairseq_vgs.models.settings import (
    MAX_LOGIT_SCALE,
    VgsWav2Vec2Config,
    authors_sample_padding,
    autocast_enabled,
    check_config,
)
from fairseq_vgs.modules import IMAGE_ENCODERS, SPEECH_HEADS
from fairseq_vgs.modules.conv_spec import parse_conv_layers
from fairseq_vgs.modules.dropout import FastDropout
from fairseq_vgs.modules.transformer import PostNormLayer, init_like_bert
from fairseq_vgs.settings import bad_setting, build_entry


class VgsWav2Vec2Model(FastWav2Vec2Model):
    """One speech model, two mechanisms (Khorrami et al. 2023, section II and Fig. 1).

    With ``use_cls: false`` its SSL branch is fairseq's wav2vec 2.0, loss and gradients included (if
    utterances are padded, with ``padding: fairseq``).
    """

    has_ssl = True

    def __init__(self, cfg: VgsWav2Vec2Config) -> None:
        check_config(cfg)
        padding = str(cfg.padding)
        super().__init__(cfg, fast=str(cfg.arithmetic) == "fast", exact_padding=padding == "exact")
        self.encoder = ClsTransformerEncoder(
            cfg, use_cls=cfg.use_cls, shared_layers=cfg.vgs_layer, zero_padding=padding != "fast_vgs"
        )
        self.take_fast_parts()
        if str(cfg.compile) != "none":
            self.encoder.compile_layers(graphs=str(cfg.compile) == "graphs")
        if str(cfg.linear_init) == "bert":
            init_like_bert(self, width=cfg.encoder_embed_dim)
        self.speech_head = build_entry(SPEECH_HEADS, "model.speech_head", cfg)
        self.image_encoder = build_entry(IMAGE_ENCODERS, "model.image_encoder", cfg)
        if self.speech_head.needs_cls and not cfg.use_cls:
            expected = "a head that works without CLS when model.use_cls is false"
            step = "set model.use_cls=true or model.speech_head=attention"
            raise bad_setting("model.speech_head", expected, cfg.speech_head, step)
        if self.fast:
            take_fast_modules(self)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(cfg.logit_scale_init)))  # natural logarithm
        self.logit_bias = nn.Parameter(torch.tensor(cfg.logit_bias_init))
        self.autocast_enabled = autocast_enabled(cfg.autocast)
        self._keep_unmasked = False
        self._unmasked: Tensor | None = None
        self._computed_branches: set[str] = set()

    def forward(
        self,
        source: Tensor,
        padding_mask: Tensor | None = None,
        mask: bool = True,
        features_only: bool = False,
        layer: int | None = None,
        mask_indices: Tensor | None = None,
        mask_channel_indices: Tensor | None = None,
        padding_count: int | None = None,
        *,
        image: dict[str, Tensor] | None = None,
        compute_ssl: bool = True,
        compute_vgs: bool = False,
        learned: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Run fairseq's forward and, from the same pass, the visually grounded branch.

        Waveforms are f[B, S], their padding bool[B, S] (true = padding), ``mask_indices`` the frames to mask,
        equally many per row (bool[B, T], or their numbers int64[B, M]; drawn by fairseq if None), ``image``
        the pictures of the first P utterances, as the image encoder reads them. ``compute_ssl`` and
        ``compute_vgs`` choose the branches; without ``image`` there is only SSL.

        The result is fairseq's ``net_output`` (when SSL is computed) with, when VGS is computed,
        ``speech_embedding`` f[P, E], ``image_embedding`` f[P, E], and those of ``logit_scale`` (a multiplier)
        and ``logit_bias`` that are ``learned``, used by the loss: distributed wrappers wait for a gradient of
        everything in it.
        """
        padding_mask = self._sample_padding(padding_mask)
        with self._autocast(source.device):
            if features_only or not (compute_vgs and image is not None):
                self._record("ssl")
                output = super().forward(
                    source,
                    padding_mask,
                    mask,
                    features_only,
                    layer,
                    mask_indices,
                    mask_channel_indices,
                    padding_count,
                )
                self.encoder.drop_shared()
                return _in_fp32(output) if features_only else output
            if compute_ssl:
                self._keep_unmasked = self._vgs_is_unmasked
                output = super().forward(
                    source, padding_mask, mask, False, None, mask_indices, mask_channel_indices
                )
                self._record("ssl")
            else:
                n_pairs = next(iter(image.values())).size(0)
                source, padding_mask = source[:n_pairs], _rows(padding_mask, n_pairs)
                output = self._shared_forward(source, padding_mask, mask, _rows(mask_indices, n_pairs))
            output.update(self._vgs_branch(output["padding_mask"], image))
            output.update(self._learned_scalars(learned))
        self._record("vgs")
        return output

    def encode_speech(self, source: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Embed utterances, unmasked: f[B, S], padding bool[B, S] (true = padding) -> f[B, E]."""
        padding_mask = self._sample_padding(padding_mask)
        with self._autocast(source.device):
            output = super().forward(source, padding_mask, False, True, self.cfg.vgs_layer - 1)
            frames, cls = self.encoder.take_shared()
            return self.speech_head(frames, cls=cls, padding_mask=output["padding_mask"]).float()

    def encode_image(self, image: dict[str, Tensor]) -> Tensor:
        """Embed pictures, as the image encoder reads them (leading axis P) -> f[P, E]."""
        with self._autocast(next(iter(image.values())).device):
            return self.image_encoder(image).float()

    def unused_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of branches that no forward has computed since the last call.

        Distributed wrappers fill missing gradients with zeros, on which Adam still decays weights;
        the task drops them.
        """
        computed, self._computed_branches = self._computed_branches, set()
        if "vgs" not in computed:
            yield from self.vgs_parameters()
        if "ssl" not in computed:
            yield from self.ssl_parameters()
        for name in ("logit_scale", "logit_bias"):
            if name not in computed:
                yield getattr(self, name)

    def vgs_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that only the VGS loss trains."""
        yield from self.speech_head.parameters()
        yield from self.image_encoder.parameters()

    def ssl_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that only the SSL loss trains."""
        for module in (self.quantizer, self.project_q, self.target_glu, self.final_proj):
            if module is not None:
                yield from module.parameters()
        for layer in self.encoder.layers[self.cfg.vgs_layer :]:
            yield from layer.parameters()
        if self.cfg.layer_norm_first:
            yield from self.encoder.layer_norm.parameters()
        if self.cfg.vgs_forward == "unmasked":
            yield self.mask_emb

    def apply_mask(
        self,
        x: Tensor,
        padding_mask: Tensor | None,
        mask_indices: Tensor | None = None,
        mask_channel_indices: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Mask frames f[B, T, D] as fairseq does; keep the unmasked ones if VGS needs a second pass."""
        x = x.to(self.mask_emb.dtype)  # fairseq writes the mask embedding into x, which autocast made bf16
        if self._keep_unmasked:
            self._unmasked = x.clone()  # fairseq masks in place
            self._keep_unmasked = False
        return super().apply_mask(x, padding_mask, mask_indices, mask_channel_indices)

    def remove_pretraining_modules(self, last_layer: int | None = None) -> None:
        """Drop the parts that only pre-training needs, the VGS branch included."""
        super().remove_pretraining_modules(last_layer)
        self.speech_head = self.image_encoder = None  # as fairseq drops its own

    @property
    def _vgs_is_unmasked(self) -> bool:
        """Whether VGS reads unmasked speech: always in evaluation, as in the authors' code."""
        return self.cfg.vgs_forward == "unmasked" or not self.training

    def _sample_padding(self, padding_mask: Tensor | None) -> Tensor | None:
        """Return bool[B, S] from which fairseq derives the frames' padding mask; None without padding."""
        padding_mask = self._if_any(padding_mask)
        if padding_mask is not None and str(self.cfg.padding) == "fast_vgs":
            return authors_sample_padding(padding_mask, parse_conv_layers(self.cfg.conv_feature_layers))
        return padding_mask

    def _if_any(self, padding_mask: Tensor | None) -> Tensor | None:
        """Return None for a mask, bool[B, S], of nothing; in training on a GPU the mask counts as padding."""
        if padding_mask is None:
            return None
        # on a GPU the host would wait for the answer
        is_asked = not (padding_mask.is_cuda and self.fast and self.training)
        return None if is_asked and not padding_mask.any() else padding_mask

    def _record(self, branch: str) -> None:
        if self.training:
            self._computed_branches.add(branch)

    def _shared_forward(
        self, source: Tensor, padding_mask: Tensor | None, mask: bool, mask_indices: Tensor | None
    ) -> dict[str, Any]:
        mask = mask and not self._vgs_is_unmasked
        output = super().forward(
            source, padding_mask, mask, True, self.cfg.vgs_layer - 1, mask_indices if mask else None
        )
        return {"padding_mask": output["padding_mask"]}

    def _vgs_branch(self, padding_mask: Tensor | None, image: dict[str, Tensor]) -> dict[str, Tensor]:
        image_embedding = self.image_encoder(image)
        n_pairs = image_embedding.size(0)
        padding_mask = _rows(padding_mask, n_pairs)
        frames, cls = self.encoder.take_shared()
        if self._unmasked is not None:
            unmasked, self._unmasked = self._unmasked, None
            self.encoder(unmasked[:n_pairs], padding_mask=padding_mask, layer=self.cfg.vgs_layer - 1)
            frames, cls = self.encoder.take_shared()
        speech_embedding = self.speech_head(
            frames[:n_pairs], cls=_rows(cls, n_pairs), padding_mask=padding_mask
        )
        return {"speech_embedding": speech_embedding.float(), "image_embedding": image_embedding.float()}

    def _learned_scalars(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Compute the scalars that a loss uses; DDP's search would not find the parameters themselves."""
        scalars = {}
        if "logit_scale" in names:
            with torch.no_grad():  # clamping the result would give a scale above the limit no gradient
                self.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))
            scalars["logit_scale"] = self.logit_scale.float().exp()
        if "logit_bias" in names:
            scalars["logit_bias"] = self.logit_bias.float() * 1.0
        for name in scalars:
            self._record(name)
        return scalars

    def _autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        if not self.autocast_enabled:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)


def take_fast_modules(model: nn.Module) -> None:
    """Let dropout and attention of all parts be the faster ones; weights and their order stay the same."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout
        if isinstance(module, FastDropout | PostNormLayer):
            module.fast = True


def _in_fp32(features: dict[str, Any]) -> dict[str, Any]:
    """Return fairseq's features for code that knows nothing of autocast, such as a CTC head."""
    wide = {name: part.float() for name, part in features.items() if name in ("x", "features")}
    layers = [(x.float(), *rest) for x, *rest in features["layer_results"]]
    return {**features, **wide, "layer_results": layers}


def _rows(tensor: Tensor | None, n_rows: int) -> Tensor | None:
    return None if tensor is None else tensor[:n_rows]
