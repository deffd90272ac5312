"""A visually grounded speech model outside fairseq: torch and transformers are all it needs.

``AutoModel.from_pretrained(FOLDER, trust_remote_code=True)`` loads it.

Legend: `B` utterances, `S` samples at 16 kHz, `T` frames, `D` dimensions, `P` images, `E` dims embedded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from .configuration_vgs import VgsConfig
from .image_vgs import IMAGE_ENCODERS
from .regions_vgs import RegionNetwork
from .speech_heads_vgs import SPEECH_HEADS
from .speech_vgs import EncodedSpeech, Extractor, SpeechTransformer, lengths_of, padding_of


@dataclass
class VgsOutput(ModelOutput):
    """What the model computes; the CLS vector is in none of the states.

    Attributes:
        last_hidden_state: `[B, T, D]` of the last layer, normalised where norms come first.
        hidden_states: with ``output_hidden_states``: `[B, T, D]` of what enters the first layer, then of what
            each layer puts out.
        cls_state: `[B, D]`, the CLS vector after the layer that the speech head reads; None without CLS.
        cls_states: with ``output_hidden_states``: the CLS vector at each of ``hidden_states``.
        frame_mask: bool `[B, T]`, true where a frame is speech; None without padding.
        speech_embeds: `[B, E]`.
        image_embeds: `[P, E]`, if images were given.
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    cls_state: Tensor | None = None
    cls_states: tuple[Tensor, ...] | None = None
    frame_mask: Tensor | None = None
    speech_embeds: Tensor | None = None
    image_embeds: Tensor | None = None


class VgsModel(PreTrainedModel):
    """Embeds speech and images in one space, and offers every layer of its speech encoder.

    Padding of utterances comes after them, and ``attention_mask`` `[B, S]` is 0 there; what influence it has
    is ``config.padding``. Loading with ``padding="exact"`` makes a model that was trained with ``fairseq``
    embed each utterance of a batch as if it were alone.
    """

    config_class = VgsConfig
    base_model_prefix = "vgs"
    main_input_name = "input_values"
    _no_split_modules = ["PostNormLayer", "ResidualBlock", "SpeechLayer"]  # noqa: RUF012 - as transformers has it
    _supports_sdpa = True
    _keep_in_fp32_modules_strict = ["region_network"]  # noqa: RUF012

    def __init__(self, config: VgsConfig) -> None:
        super().__init__(config)
        channels, dim = config.conv_layers[-1][0], config.hidden_size
        self.feature_extractor = Extractor(config)
        self.layer_norm = nn.LayerNorm(channels)
        self.post_extract_proj = nn.Linear(channels, dim) if channels != dim else None
        self.encoder = SpeechTransformer(config)
        self.speech_head = SPEECH_HEADS[config.speech_head](
            config.speech_head_settings, padding=config.padding
        )
        self.image_encoder = IMAGE_ENCODERS[config.image_encoder](config.image_encoder_settings)
        recipe = config.region_network
        self.region_network = RegionNetwork(recipe["precision"]) if recipe else None
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.logit_bias = nn.Parameter(torch.zeros(()))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        for name, parameter in module.named_parameters(recurse=False):
            if name in ("cls", "cls_embedding", "queries"):
                nn.init.normal_(parameter, std=self.config.initializer_range)
            elif name in ("logit_scale", "logit_bias"):
                nn.init.zeros_(parameter)

    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        regions: Mapping[str, Tensor] | None = None,
        boxes: Tensor | None = None,
        region_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> VgsOutput | tuple[Any, ...]:
        """Encode speech, images, or both.

        Args:
            input_values: waveforms `[B, S]`, normalised as the feature extractor does.
            attention_mask: `[B, S]`, 0 where a sample is padding; None without padding.
            pixel_values: pictures `[P, 3, height, width]`, black -1 and white +1; where the model reads
                regions and computes them itself, their crops, uint8 `[P, R, 3, 224, 224]`.
            regions: instead of pictures, where the model reads regions: ``features`` `[P, R, D]``, ``boxes``
                `[P, R, 4]`, and optionally ``padding_mask`` bool `[P, R]`.
            boxes: of crops, `[P, R, 4]`: x0, y0, x1, y1 as fractions of the picture.
            region_mask: of crops, bool `[P, R]`, false where there is no region; None for all.
            output_hidden_states: also return every layer (default: that of the configuration).
            return_dict: false for a plain tuple.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        output = VgsOutput()
        if input_values is not None:
            encoded = self._encode(input_values, attention_mask, self.config.num_hidden_layers)
            last, layer = encoded.states[-1], self.config.vgs_layer
            last = self.encoder.layer_norm(last) if self.config.layer_norm_first else last
            mask = encoded.padding_mask
            output = VgsOutput(
                last_hidden_state=last,
                hidden_states=encoded.states if output_hidden_states else None,
                cls_state=encoded.cls_states[layer] if encoded.cls_states else None,
                cls_states=encoded.cls_states or None if output_hidden_states else None,
                frame_mask=None if mask is None else ~mask,
                speech_embeds=self._embed(encoded),
            )
        if pixel_values is not None or regions is not None:
            output["image_embeds"] = self.get_image_features(pixel_values, regions, boxes, region_mask)
        return output.to_tuple() if return_dict is False else output

    def get_speech_features(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Embed waveforms `[B, S]` as `[B, E]`; layers above the speech head's are not computed."""
        return self._embed(self._encode(input_values, attention_mask, self.config.vgs_layer))

    def get_speech_states(
        self, input_values: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Encode waveforms `[B, S]`: ``hidden_states`` of `forward`, without embedding them."""
        return self._encode(input_values, attention_mask, self.config.num_hidden_layers).states

    def get_image_features(
        self,
        pixel_values: Tensor | None = None,
        regions: Mapping[str, Tensor] | None = None,
        boxes: Tensor | None = None,
        region_mask: Tensor | None = None,
    ) -> Tensor:
        """Embed pictures, crops of their regions with boxes, or regions (see `forward`), as `[P, E]`."""
        reads_regions = self.image_encoder.reads == "regions"
        if pixel_values is not None and boxes is not None and self.region_network is not None:
            features = self.region_network(pixel_values.flatten(0, 1)).unflatten(0, boxes.shape[:2])
            regions, pixel_values = {"features": features, "boxes": boxes}, None
            if region_mask is not None:
                regions["padding_mask"] = ~region_mask
        given = regions if reads_regions else pixel_values
        if given is None or (regions is not None and pixel_values is not None):
            wanted = "regions" if reads_regions else "pixel_values"
            wanted += " (or pixel_values and boxes)" if self.region_network is not None else ""
            raise ValueError(f"VgsModel: this model's images are {wanted}; give these alone")
        embedding: Tensor = self.image_encoder(given)
        return embedding

    def similarity(self, speech_embeds: Tensor, image_embeds: Tensor) -> Tensor:
        """Compare utterances `[B, E]` with images `[P, E]` as the model was trained: `[B, P]`."""
        if self.config.similarity == "cosine":
            speech_embeds, image_embeds = F.normalize(speech_embeds, dim=1), F.normalize(image_embeds, dim=1)
        return speech_embeds @ image_embeds.t()

    def _encode(self, input_values: Tensor, attention_mask: Tensor | None, n_layers: int) -> EncodedSpeech:
        extractor, config = self.feature_extractor, self.config
        n_samples = lengths_of(attention_mask)
        features = extractor(input_values.to(self.dtype), n_samples if config.padding == "exact" else None)
        features = self.layer_norm(features.transpose(1, 2))
        n_frames, multiple, padding_mask = features.size(1), config.crop_seq_to_multiple, None
        if n_samples is not None:
            longest, padding = input_values.size(1), config.padding
            padding_mask = padding_of(
                n_samples, extractor, longest=longest, n_frames=n_frames, padding=padding
            )
        frames = features
        if multiple > 1:  # by index: the layout of a slice ties graphs to batches of more than one
            kept = torch.arange(n_frames - n_frames % multiple, device=features.device)
            frames = features[:, kept]
            padding_mask = None if padding_mask is None else padding_mask[:, kept]
        if self.post_extract_proj is not None:
            frames = self.post_extract_proj(frames)
        encoded: EncodedSpeech = self.encoder(frames, padding_mask, n_layers)
        return encoded

    def _embed(self, encoded: EncodedSpeech) -> Tensor:
        frames, layer = encoded.states[self.config.vgs_layer], self.config.vgs_layer
        mask = encoded.padding_mask
        if mask is None:
            mask = torch.zeros(frames.shape[:2], dtype=torch.bool, device=frames.device)
        cls = encoded.cls_states[layer] if encoded.cls_states else None
        embedding: Tensor = self.speech_head(frames, cls, mask)
        return embedding
