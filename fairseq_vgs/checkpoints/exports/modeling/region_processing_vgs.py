"""Regions of pictures: cells of a grid, the objects on a white ground, or boxes that are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_base import ImageProcessingMixin

from .pictures_vgs import WHITE, open_picture, rgb

EDGE_PIXELS = 0.01
OBJECTS = "objects on white"


class VgsRegionProcessor(ImageProcessingMixin):
    """Crops the regions of pictures for the model, which computes their features.

    Args:
        grid: rows and columns of a grid over the picture.
        where: ``objects on white`` instead: what is not white.
        max_regions: how many regions of a picture are kept.
        image_size: height and width of a crop, pixels.
        others: see transformers.
    """

    model_input_names = ["pixel_values", "boxes", "region_mask"]  # noqa: RUF012 - as transformers has it

    def __init__(
        self,
        grid: Sequence[int] | None = None,
        where: str | None = None,
        max_regions: int = 36,
        image_size: int = 224,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.grid, self.where = None if grid is None else list(grid), where
        self.max_regions, self.image_size = max_regions, image_size

    def __call__(
        self, images: Any, boxes: Any = None, return_tensors: str | None = "pt", **_others: Any
    ) -> BatchFeature:
        """Read pictures: one or several of paths and Pillow's images.

        Args:
            images: the pictures.
            boxes: for each picture its regions, [R, 4]: x0, y0, x1, y1 as fractions of width and height.
            return_tensors: ``pt`` or ``np``.

        Returns:
            ``pixel_values`` uint8 [P, R, 3, H, W], ``boxes`` float32 [P, R, 4], ``region_mask`` bool [P, R].
        """
        several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        pictures = [_read(image) for image in several]
        found = [self._boxes(picture) for picture in pictures] if boxes is None else boxes
        kept = [np.asarray(own, dtype=np.float32)[: self.max_regions] for own in found]
        n_most, size = max(map(len, kept)), self.image_size
        pixels = np.zeros((len(kept), n_most, 3, size, size), dtype=np.uint8)
        padded = np.zeros((len(kept), n_most, 4), dtype=np.float32)
        mask = np.zeros((len(kept), n_most), dtype=bool)
        for row, (picture, own) in enumerate(zip(pictures, kept, strict=True)):
            pixels[row, : len(own)] = [self._crop(picture, box) for box in own]
            padded[row, : len(own)], mask[row, : len(own)] = own, True
        content = {"pixel_values": pixels, "boxes": padded, "region_mask": mask}
        return BatchFeature(content, tensor_type=return_tensors)

    preprocess = __call__

    def _boxes(self, picture: Image.Image) -> Any:
        if self.where == OBJECTS:
            from .objects_vgs import object_boxes  # which an export puts next to this file

            return object_boxes(picture)
        if self.grid is None:
            raise ValueError("VgsRegionProcessor: the regions of the training came from a table; give boxes")
        rows, columns = self.grid
        across, down = np.arange(columns + 1) / columns, np.arange(rows + 1) / rows
        return [(across[x], down[y], across[x + 1], down[y + 1]) for y in range(rows) for x in range(columns)]

    def _crop(self, picture: Image.Image, box: Any) -> Any:
        """Crop a region, rounded outwards, and centre it on a white square: uint8 [3, H, W]."""
        size = np.array([picture.width, picture.height] * 2)
        left, top = np.floor(box * size + EDGE_PIXELS)[:2].astype(int).tolist()
        right, bottom = np.ceil(box * size - EDGE_PIXELS)[2:].astype(int).tolist()
        crop = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        side = max(crop.size)
        square = Image.new("RGB", (side, side), WHITE)
        square.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
        resized = square.resize((self.image_size, self.image_size), Image.Resampling.BICUBIC)
        return np.asarray(resized).transpose(2, 0, 1)


def _read(image: Image.Image | str | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return rgb(image)
    with open_picture(image) as opened:
        return rgb(opened)
