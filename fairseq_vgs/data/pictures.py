"""Raw pictures as tensors.

Shapes: H = W = image_size pixels.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fairseq_vgs.data.errors import BadItemError
from fairseq_vgs.manifest.errors import Fault, ManifestError, fault
from fairseq_vgs.manifest.location import MediaLocation, open_media
from fairseq_vgs.manifest.media import open_picture

MAX_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded (Pillow's own limit: 256 MB as RGB)."""

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


def load_picture(location: MediaLocation, *, place: str, image_size: int) -> npt.NDArray[np.float32]:
    """Decode a picture and bring it to a square.

    Transparent parts become white. The picture is squeezed to the square, not cropped, so that nothing of
    what a caption may name is lost (bicubic with antialiasing).

    Args:
        location: File, or slice of an archive.
        place: Named in errors, such as ``images.tsv:17``.
        image_size: Height and width wanted, pixels.

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
            # JPEGs are decoded at a fraction of their size where that suffices; other formats ignore this.
            image.draft("RGB", (2 * image_size, 2 * image_size))
            square = _opaque(ImageOps.exif_transpose(image)).resize(
                (image_size, image_size), Image.Resampling.BICUBIC, reducing_gap=3.0
            )
    except BadItemError:
        raise
    except ManifestError as error:  # of the archive
        raise BadItemError(Fault(place, str(error))) from error
    except _DECODING_ERRORS as error:
        step = "check the file, or skip it with task.skip_bad=true"
        raise BadItemError(
            Fault(place, f"{location} does not decode as a picture ({error}); {step}")
        ) from error
    pixels = np.asarray(square, dtype=np.float32).transpose(2, 0, 1)
    return np.ascontiguousarray(pixels / np.float32(127.5) - np.float32(1.0))


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow would clip instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", with_alpha.size, _WHITE), with_alpha).convert("RGB")
    return image.convert("RGB")
