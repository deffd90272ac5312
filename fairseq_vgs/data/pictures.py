"""Raw pictures as tensors.

Shapes: H = W = image_size pixels.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from fairseq_vgs.arrays import F32
from fairseq_vgs.data.augmentation import Box, Variation
from fairseq_vgs.data.bad_items import bad_item
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.pictures import Picture, named_errors, open_picture


def load_picture(
    location: MediaLocation,
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
        location: File, or slice of an archive.
        place: Named in errors (BadItemError), such as ``images.tsv:17``.
        image_size: Height and width wanted, pixels.
        fit: "squeeze" for all of the picture, "crop" for the largest square in its middle.
        variation: Training's random changes; a random crop takes the place of ``fit``.

    Returns:
        float32[3, H, W], red, green, blue; black is -1 and white is +1: ``byte / 127.5 - 1``.
    """
    try:
        with open_picture(location, place=place) as picture, named_errors(place):
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
