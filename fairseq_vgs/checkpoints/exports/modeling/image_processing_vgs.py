"""Pictures as the model reads them: upright, on white, one size, black -1 and white +1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_base import ImageProcessingMixin

from .pictures_vgs import SIDEWAYS, open_picture, orientation, rgb, upright_size


class VgsImageProcessor(ImageProcessingMixin):
    """Resizes pictures to a square, bicubically.

    Args:
        image_size: height and width, pixels.
        fit: ``squeeze`` for all of the picture, ``crop`` for the largest square in its middle.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 - as transformers has it

    def __init__(self, image_size: int = 224, fit: str = "squeeze", **others: Any) -> None:
        super().__init__(**others)
        self.image_size, self.fit = image_size, fit

    def __call__(self, images: Any, return_tensors: str | None = "pt", **_others: Any) -> BatchFeature:
        """Read pictures: one or several of paths and Pillow's images, to ``pixel_values`` `[P, 3, H, W]`."""
        several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        pixels = np.stack([self._pixels(image) for image in several])
        return BatchFeature({"pixel_values": pixels}, tensor_type=return_tensors)

    preprocess = __call__

    def _pixels(self, image: Image.Image | str | Path) -> Any:
        if isinstance(image, Image.Image):
            return self._square(image, upright_size(image))
        with open_picture(image) as opened:
            width, height = upright_size(opened)
            x0, y0, x1, y1 = self._box(width, height)
            # JPEGs are decoded at a fraction of their size if that is twice the wanted one.
            wanted = (
                math.ceil(2 * self.image_size * width / (x1 - x0)),
                math.ceil(2 * self.image_size * height / (y1 - y0)),
            )
            opened.draft("RGB", wanted[::-1] if orientation(opened) in SIDEWAYS else wanted)
            return self._square(opened, (width, height))

    def _square(self, image: Image.Image, upright_size: tuple[int, int]) -> Any:
        """Return the pixels of a picture, given with its size before it was decoded at a fraction of it."""
        (width, height), size = upright_size, self.image_size
        box = self._box(width, height)
        upright = rgb(image)
        scales = (upright.width / width, upright.height / height)
        x0, y0, x1, y1 = (edge * scale for edge, scale in zip(box, 2 * scales, strict=True))
        inside = (x0, y0, min(x1, upright.width), min(y1, upright.height))
        square = upright.resize((size, size), Image.Resampling.BICUBIC, box=inside, reducing_gap=3.0)
        pixels = np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / np.float32(127.5)
        return pixels - np.float32(1.0)

    def _box(self, width: int, height: int) -> tuple[float, float, float, float]:
        if self.fit == "squeeze":
            return 0.0, 0.0, float(width), float(height)
        side = min(width, height)
        x0, y0 = (width - side) / 2, (height - side) / 2
        return x0, y0, x0 + side, y0 + side
