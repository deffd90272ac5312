"""Image encoder over detected regions with boxes: the paper's image branch.

Legend: `P` images, `R` regions, `D` region feature dimensions, `E` embedding dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fairseq_vgs.modules.registry import IMAGE_ENCODERS
from fairseq_vgs.modules.transformer import LAYER_NORM_EPS, ImageTransformer, ImageTransformerSettings
from fairseq_vgs.settings import from_config

BOX_DIM = 4


@IMAGE_ENCODERS.register("regions")
class RegionEncoder(ImageTransformer):
    """Embeds an image from its regions: CLS of a post-norm transformer over region features and boxes.

    A region's embedding is the mean of LayerNorm(linear(feature)) and LayerNorm(linear(box)), then dropout.
    Boxes are the only positions, so the order of regions does not matter.
    Source: FaST-VGS (Peng & Harwath 2022) and its public code: layer norm eps 1e-12, CLS drawn
    from N(0, 1), linear weights from N(0, 0.02), hidden width of the MLP twice the transformer's. That code
    has no padding mask since every image has 36 regions; here regions may be padded.

    Shape:
        image["features"] `[P, R, D]`, image["boxes"] `[P, R, 4]` (x0, y0, x1, y1 in [0, 1]),
        image["padding_mask"] bool `[P, R]` (True = padding; optional). Result `[P, E]`.
    """

    reads = "regions"

    @dataclass(frozen=True)
    class Settings(ImageTransformerSettings):
        """Settings of the transformer, and the dimensions of a region feature (2048: Faster R-CNN)."""

        input_dim: int = from_config("image_dim", default=2048)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        dim = settings.embed_dim
        self.feature_projection = nn.Linear(settings.input_dim, dim)
        self.feature_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.box_projection = nn.Linear(BOX_DIM, dim)
        self.box_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.add_transformer(settings)

    def forward(self, image: dict[str, Tensor]) -> Tensor:
        """Embed images; see the class for shapes."""
        features, boxes, padding_mask = image["features"], image["boxes"], image.get("padding_mask")
        self._check_shapes(features, boxes)
        if padding_mask is not None:
            # Padding, NaN included, must not reach the weights' gradients.
            features = features.masked_fill(padding_mask.unsqueeze(-1), 0.0)
            boxes = boxes.masked_fill(padding_mask.unsqueeze(-1), 0.0)
        regions = self.feature_norm(self.feature_projection(features))
        regions = regions + self.box_norm(self.box_projection(boxes))
        return self.embed_tokens(regions / 2, padding_mask=padding_mask)

    def _check_shapes(self, features: Tensor, boxes: Tensor) -> None:
        shape, width = tuple(features.shape), self.feature_projection.in_features
        if len(shape) != 3 or shape[2] != width:
            step = "set input_dim to the width of regions.npy"
            raise ValueError(f"image features: expected [images, regions, {width}], got {shape}; {step}")
        if tuple(boxes.shape) != (expected := (*shape[:2], BOX_DIM)):
            got = tuple(boxes.shape)
            raise ValueError(f"image boxes: expected shape {expected}, got {got}; one box per region")
