"""Random changes to raw pictures in training: crop, mirroring, colours.

All use one generator, seeded by (seed, epoch, index), and always draw the same numbers, so that changing one
setting does not change the random numbers of the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

Box = tuple[float, float, float, float]

# Widest aspect ratio of a random crop, in pixels, from Szegedy et al. 2015 (section 6).
_WIDEST = 4 / 3
_N_DRAWS = 8  # area, aspect ratio, x, y, mirroring, brightness, contrast, saturation


@dataclass(frozen=True)
class Augmentation:
    """Settings of the random changes.

    A crop keeps at least ``crop_scale`` of a picture's area; 1 for no crop. ``flip`` mirrors half of the
    pictures, which makes their captions' left and right wrong. Colours vary by 1 - jitter to 1 + jitter.
    """

    crop_scale: float = 1.0
    flip: bool = False
    jitter: float = 0.0

    @property
    def crops(self) -> bool:
        """Whether pictures are cropped."""
        return self.crop_scale < 1


@dataclass(frozen=True)
class Variation:
    """The random numbers of one picture, each in [0, 1); see ``draw_variation``."""

    augmentation: Augmentation
    draws: tuple[float, ...]

    def box(self, width: int, height: int) -> Box:
        """Return the part of a picture to keep, in pixels: x0, y0, x1, y1.

        Area and aspect ratio are those of a random resized crop; sides that exceed the picture are clipped,
        where other implementations draw again.
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
    """Draw the random numbers of one picture."""
    return Variation(augmentation, tuple(generator.random(_N_DRAWS).tolist()))
