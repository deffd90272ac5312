"""Raw pictures as tensors.

Shapes: H = W = image_size pixels.
"""

from __future__ import annotations

import math
import struct
import zlib
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fairseq_vgs.data.augmentation import Box, Variation
from fairseq_vgs.data.errors import BadItemError
from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.location import MediaLocation, open_media
from fairseq_vgs.media.inspection import open_picture

MAX_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded (Pillow's own limit: 256 MB as RGB)."""

FITS = ("squeeze", "crop")

_ORIENTATION = 0x0112  # of EXIF
_SIDEWAYS = (5, 6, 7, 8)  # its values that exchange width and height
_WHITE = (255, 255, 255, 255)
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
)


def load_picture(
    location: MediaLocation,
    *,
    place: str,
    image_size: int,
    fit: str = "squeeze",
    variation: Variation | None = None,
) -> npt.NDArray[np.float32]:
    """Decode a picture and bring it to a square.

    Transparent parts become white. By default the picture is squeezed to the square, not cropped, so that
    nothing of what a caption may name is lost (bicubic with antialiasing). What is cut off is never resized,
    and JPEGs are decoded at a fraction of their size where that suffices.

    Args:
        location: File, or slice of an archive.
        place: Named in errors, such as ``images.tsv:17``.
        image_size: Height and width wanted, pixels.
        fit: "squeeze" for all of the picture, "crop" for the largest square in its middle.
        variation: Training's random changes; a random crop takes the place of ``fit``.

    Returns:
        float32[3, H, W], red, green, blue; black is -1 and white is +1: ``byte / 127.5 - 1``.

    Raises:
        BadItemError: The picture does not decode, or has more than ``MAX_PIXELS`` pixels.
    """
    try:
        with ExitStack() as stack:
            whole_file = location.offset is None
            source = location.path if whole_file else stack.enter_context(open_media(location))
            image = stack.enter_context(open_picture(source))
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width}x{image.height}"
                raise BadItemError(
                    fault(place, f"picture must have at most {MAX_PIXELS} pixels", size, "shrink it")
                )
            square = _square(image, image_size, fit=fit, variation=variation)
    except BadItemError:
        raise
    except FaultError as error:  # of the archive
        raise BadItemError(Fault(place, str(error))) from error
    except _DECODING_ERRORS as error:
        step = "check the file, or skip it with task.skip_bad=true"
        raise BadItemError(
            Fault(place, f"{location} does not decode as a picture ({error}); {step}")
        ) from error
    # One array of this size and no other: to get memory costs as much as to fill it.
    pixels = np.empty((3, image_size, image_size), dtype=np.float32)
    np.divide(np.asarray(square).transpose(2, 0, 1), np.float32(127.5), out=pixels)
    pixels -= np.float32(1.0)
    return pixels


def _square(image: Image.Image, size: int, *, fit: str, variation: Variation | None) -> Image.Image:
    turned = image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS
    width, height = (image.height, image.width) if turned else image.size
    oversampling = 2
    if variation is not None and variation.augmentation.crops:
        box = variation.box(width, height)
        oversampling = 1  # the little that decoding at twice the size gains does not count beside the crop
    else:
        box = _fitted(width, height, fit)
    # All of the picture at the size at which the box has the pixels wanted.
    whole = [
        oversampling * size * width / (box[2] - box[0]),
        oversampling * size * height / (box[3] - box[1]),
    ]
    wanted_width, wanted_height = map(math.ceil, whole[::-1] if turned else whole)
    image.draft("RGB", (wanted_width, wanted_height))
    upright = _opaque(ImageOps.exif_transpose(image))
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


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow would clip instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", with_alpha.size, _WHITE), with_alpha).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
