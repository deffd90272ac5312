"""Pictures of any encoding as training reads them: upright, RGB on white, 16-bit grey scaled to 8 bits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
WHITE = (255, 255, 255)
ORIENTATION = 0x0112  # of EXIF
SIDEWAYS = (5, 6, 7, 8)  # its values that exchange width and height
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # of TIFF
UNDEFINED = ("F", "I", "LAB", "HSV")  # 32 bits, or colours that Pillow does not turn into RGB as meant
SCALES = {"L;2": 85, "L;4": 17}  # by which Pillow scales pixels, but not the transparent one


def open_picture(path: str | Path) -> Image.Image:
    """Open a file; its pixels are decoded when they are asked for.

    From memory: Pillow garbles turned TIFFs of files, which it maps.
    """
    return Image.open(io.BytesIO(Path(path).read_bytes()), formats=FORMATS)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if it is missing or invalid."""
    if image.format == "TIFF":  # Pillow turns these itself, while decoding
        image.load()
        return 1
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - Pillow's EXIF readers raise nearly anything
        return 1
    return value if value in TURNS else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height after rotation."""
    return image.size[::-1] if orientation(image) in SIDEWAYS else image.size


def rgb(image: Image.Image) -> Image.Image:
    """Return an opened picture upright, as RGB on white."""
    turn = TURNS.get(orientation(image))
    tiles: Any = getattr(image, "tile", None)
    stored = tiles[0][3] if tiles else ""
    image.load()
    upright = image.copy() if turn is None else image.transpose(turn)
    transparent = image.info.get("transparency")
    if stored == "RGB;16B" and transparent is not None:
        raise ValueError("pictures: expected 8 bits where one colour is transparent, got 16-bit RGB")
    if stored in SCALES and isinstance(transparent, int):
        upright.info["transparency"] = transparent * SCALES[stored]
    return _on_white(_eight_bits(upright, image))


def _eight_bits(upright: Image.Image, image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, which Pillow would clip; refuse modes without a defined brightness."""
    is_grey = image.mode == "I" and image.format in ("PNG", "PPM")  # mode I with 16 bits
    tags = getattr(image, "tag_v2", {})
    has_bits = not tags or tuple(tags.get(BITS_PER_SAMPLE, ())) == (16,)
    if (image.mode in UNDEFINED and not is_grey) or (image.mode.startswith("I") and not has_bits):
        raise ValueError(f"pictures: expected colours or 8 or 16-bit grey, got Pillow's mode {image.mode}")
    if not image.mode.startswith("I"):
        return upright
    steps = np.asarray(upright)
    grey = (steps >> 8).astype(np.uint8)
    if tags and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    if isinstance(transparent := image.info.get("transparency"), int):
        grey = np.where(steps == transparent, np.uint8(255), grey)
    return Image.fromarray(grey)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    with_alpha = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", with_alpha.size, (*WHITE, 255)), with_alpha).convert("RGB")
