"""The image encoders: regions with boxes, patches of a picture, or a backbone of Hugging Face.

Legend: `P` pictures of `H` x `W` pixels, `R` regions, `D` dimensions, `E` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from .layers_vgs import LAYER_NORM_EPS, TokenTransformer, sincos_positions, two_layer_mlp

BOX_DIM = 4
# Keys of a backbone's configuration, at any depth, that name code, kernels or other files, or do not matter.
LEFT_OUT = (
    "_attn_implementation",
    "_attn_implementation_internal",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)
_SHARED = ("layers", "heads", "ffn_dim", "dropout", "attention_dropout", "output_dim")


def _shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: settings[key] for key in _SHARED}


def _plain(value: Any) -> Any:
    """Leave out, at any depth, what transformers would fetch and run."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items() if key not in LEFT_OUT}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


class RegionEncoder(TokenTransformer):
    """Embeds an image from the features and boxes of its regions.

    Shape:
        regions["features"] `[P, R, D]`, regions["boxes"] `[P, R, 4]` (x0, y0, x1, y1 in [0, 1]),
        regions["padding_mask"] bool `[P, R]` (True = padding; optional). Result `[P, E]`.
    """

    reads = "regions"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        dim = settings["embed_dim"]
        self.feature_projection = nn.Linear(settings["input_dim"], dim)
        self.feature_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.box_projection = nn.Linear(BOX_DIM, dim)
        self.box_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.add_transformer(dim, **_shared(settings))

    def forward(self, regions: Mapping[str, Tensor]) -> Tensor:
        """Embed images; see the class for shapes."""
        dtype = self.feature_projection.weight.dtype
        features, boxes = regions["features"].to(dtype), regions["boxes"].to(dtype)
        padding_mask = regions.get("padding_mask")
        if padding_mask is not None:
            features = features.masked_fill(padding_mask.unsqueeze(2), 0.0)
            boxes = boxes.masked_fill(padding_mask.unsqueeze(2), 0.0)
        tokens = self.feature_norm(self.feature_projection(features))
        tokens = tokens + self.box_norm(self.box_projection(boxes))
        return self.embed_tokens(tokens / 2, padding_mask)


class PatchEncoder(TokenTransformer):
    """Embeds a picture, of any size that patches divide: pictures `[P, 3, H, W]` to `[P, E]`."""

    reads = "pictures"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        dim, size = settings["embed_dim"], settings["patch_size"]
        self.patch_projection = nn.Conv2d(3, dim, kernel_size=size, stride=size)
        self.input_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.add_transformer(dim, **_shared(settings))

    def forward(self, pictures: Tensor) -> Tensor:
        """Embed pictures; see the class for shapes."""
        grid = self.patch_projection(pictures.to(self.patch_projection.weight.dtype))
        positions = sincos_positions(grid.size(2), grid.size(3), grid.size(1), like=grid)
        return self.embed_tokens(self.input_norm(grid.flatten(2).transpose(1, 2) + positions))


class Backbone(nn.Module):
    """A vision backbone and its normalisation: pictures `[P, 3, H, W]`, black -1 and white +1.

    Returns the pooled vector `[P, D]`, and tokens `[P, L, D]` or a map `[P, D, h, w]`.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        model = _plain(settings["model"])
        self.model = AutoModel.from_config(AutoConfig.for_model(model.pop("model_type"), **model))
        pooler = getattr(self.model, "pooler", None)
        if pooler is not None and next(pooler.parameters(), None) is not None:
            self.model.pooler = None
        for name in ("scale", "offset"):  # kept with the weights: loading makes no other buffers
            self.register_buffer(name, torch.tensor(settings[name]).view(3, 1, 1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Run the backbone; see the class for shapes."""
        output = self.model(pixel_values=pictures.to(self.scale.dtype) * self.scale + self.offset)
        tokens = output.last_hidden_state
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            pooled = tokens[:, 0] if tokens.dim() == 3 else tokens.mean(dim=(2, 3))
        return pooled.flatten(1), tokens


class HuggingFaceEncoder(TokenTransformer):
    """Embeds a picture with a backbone, by its pooled output or its tokens: `[P, 3, H, W]` to `[P, E]`."""

    reads = "pictures"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        dim, self.reads_tokens = settings["backbone_dim"], settings["backbone_output"] == "tokens"
        self.input_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        if self.reads_tokens:
            self.token_projection = nn.Linear(dim, settings["embed_dim"])
            self.add_transformer(settings["embed_dim"], **_shared(settings))
        else:
            self.projection = two_layer_mlp(dim, 2 * dim, settings["output_dim"])
        self.backbone = Backbone(settings["backbone"])

    def forward(self, pictures: Tensor) -> Tensor:
        """Embed pictures; see the class for shapes."""
        pooled, tokens = self.backbone(pictures)
        if not self.reads_tokens:
            embedding: Tensor = self.projection(self.input_norm(pooled))
            return embedding
        positions: Tensor | float = 0.0
        if tokens.dim() == 4:
            dim = self.token_projection.out_features
            positions = sincos_positions(tokens.size(2), tokens.size(3), dim, like=tokens)
            tokens = tokens.flatten(2).transpose(1, 2)
        return self.embed_tokens(self.token_projection(self.input_norm(tokens)) + positions)


IMAGE_ENCODERS: dict[str, type[RegionEncoder | PatchEncoder | HuggingFaceEncoder]] = {
    "regions": RegionEncoder,
    "patches": PatchEncoder,
    "hugging_face": HuggingFaceEncoder,
}
