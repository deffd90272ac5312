"""Raw pictures as tensors, and their random changes in training: crop, mirroring, colours.

All changes use one generator, seeded by (seed, epoch, index), and always draw the same numbers, so that
changing one setting does not change the random numbers of the others.

Shapes: H = W = image_size pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from fairseq_vgs.arrays import F32
from fairseq_vgs.data.bad_items import bad_item
from fairseq_vgs.media.content import Source
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.pictures import Picture, named_errors, open_picture

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


def load_picture(
    source: Source,
    *,
    place: str,
    image_size: int,
    fit: str = "squeeze",
    variation: Variation | None = None,
) -> F32:
    """Decode a picture and resize it to a square (bicubic with antialiasing).

    Transparent parts become white. By default the picture is squeezed, not cropped, so that everything that a
    caption may name is kept. Cropped parts are never resized, and JPEGs are decoded at a fraction of their
    size if that suffices.

    Args:
        source: File, slice of an archive, or a file's bytes.
        place: Named in errors (BadItemError), such as ``images.tsv:17``.
        image_size: Height and width wanted, pixels.
        fit: "squeeze" for all of the picture, "crop" for the largest square in its middle.
        variation: Training's random changes; a random crop takes the place of ``fit``.

    Returns:
        float32[3, H, W], red, green, blue; black is -1 and white is +1: ``byte / 127.5 - 1``.
    """
    try:
        with open_picture(source, place=place) as picture, named_errors(place):
            square = _square(picture, image_size, fit=fit, variation=variation)
    except MediumError as error:
        raise bad_item(error) from error
    # A single array of this size: allocating memory costs as much as filling it.
    pixels = np.empty((3, image_size, image_size), dtype=np.float32)
    np.divide(np.asarray(square).transpose(2, 0, 1), np.float32(127.5), out=pixels)
    pixels -= np.float32(1.0)
    return pixels


def _square(picture: Picture, size: int, *, fit: str, variation: Variation | None) -> Image.Image:
    width, height = picture.width, picture.height
    box, oversampling = _fitted(width, height, fit), 2
    if variation is not None and variation.augmentation.crops:
        # Decoding at twice the size gains little compared with the crop.
        box, oversampling = variation.box(width, height), 1
    # Size of the whole picture at which the box has the wanted number of pixels.
    wanted_width = math.ceil(oversampling * size * width / (box[2] - box[0]))
    wanted_height = math.ceil(oversampling * size * height / (box[3] - box[1]))
    upright = picture.rgb(at_least=(wanted_width, wanted_height))
    scales = (upright.width / width, upright.height / height)
    x0, y0, x1, y1 = (edge * scale for edge, scale in zip(box, 2 * scales, strict=True))
    inside = (x0, y0, min(x1, upright.width), min(y1, upright.height))  # whatever rounding does
    square = upright.resize((size, size), Image.Resampling.BICUBIC, box=inside, reducing_gap=3.0)
    return square if variation is None else variation.colour(square)


def _fitted(width: int, height: int, fit: str) -> Box:
    if fit == "squeeze":
        return 0.0, 0.0, float(width), float(height)
    side = min(width, height)
    x0, y0 = (width - side) / 2, (height - side) / 2
    return x0, y0, x0 + side, y0 + side
