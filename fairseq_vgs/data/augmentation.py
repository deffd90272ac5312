"""Random changes to raw pictures in training: crop, mirroring, colours.

All come from one generator, seeded by (seed, epoch, index), and take the same draws whatever is switched on:
changing one setting leaves the others' random numbers as they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

Box = tuple[float, float, float, float]

# Of a random crop, relative to the picture's pixels; the range of Szegedy et al. 2015 (section 6).
_WIDEST = 4 / 3
_N_DRAWS = 8  # area, aspect ratio, x, y, mirroring, brightness, contrast, saturation


@dataclass(frozen=True)
class Augmentation:
    """How much pictures vary.

    Attributes:
        crop_scale: Smallest share of a picture's area that a random crop keeps; 1 for no crop.
        flip: Mirror half of the pictures. What captions say about left and right is then wrong for them.
        jitter: Brightness, contrast and saturation vary by factors of up to 1 - jitter to 1 + jitter.
    """

    crop_scale: float = 1.0
    flip: bool = False
    jitter: float = 0.0

    @property
    def crops(self) -> bool:
        """Whether a part of the picture is taken."""
        return self.crop_scale < 1


@dataclass(frozen=True)
class Variation:
    """One picture's draws, each in [0, 1), for an ``Augmentation``; see ``draw_variation``."""

    augmentation: Augmentation
    draws: tuple[float, ...]

    def box(self, width: int, height: int) -> Box:
        """Return the part to keep of a picture, in pixels: x0, y0, x1, y1.

        Area and aspect ratio are those of a random resized crop; sides that would exceed the picture are cut
        to it, where other code draws again.
        """
        area, ratio, x, y = self.draws[:4]
        share = self.augmentation.crop_scale + (1 - self.augmentation.crop_scale) * area
        aspect = math.exp((2 * ratio - 1) * math.log(_WIDEST))
        wanted = share * width * height
        kept_width = min(float(width), math.sqrt(wanted * aspect))
        kept_height = min(float(height), math.sqrt(wanted / aspect))
        x0, y0 = x * (width - kept_width), y * (height - kept_height)
        return x0, y0, min(x0 + kept_width, float(width)), min(y0 + kept_height, float(height))

    def colour(self, picture: Image.Image) -> Image.Image:
        """Mirror an RGB picture and change its colours."""
        flip, *amounts = self.draws[4:]
        if self.augmentation.flip and flip < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.augmentation.jitter > 0:
            enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
            for enhancer, amount in zip(enhancers, amounts, strict=True):
                picture = enhancer(picture).enhance(1 + (2 * amount - 1) * self.augmentation.jitter)
        return picture


def draw_variation(augmentation: Augmentation, generator: np.random.Generator) -> Variation:
    """Draw what one picture needs."""
    return Variation(augmentation, tuple(generator.random(_N_DRAWS).tolist()))
