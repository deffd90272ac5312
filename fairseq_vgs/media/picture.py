"""Reads cut-out pictures, puts them on white and writes them as WebP.

Pictures with transparency are composited on white once, here: a reader that knows nothing of alpha then
sees the object as intended, and not the arbitrary colours that lie under transparent pixels.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from fairseq_vgs.media.inspection import open_picture

WHITE = (255, 255, 255)
WEBP_QUALITY = 90
WEBP_METHOD = 4
# Fainter than this (of 255), shadows and compression noise do not count as part of the object.
VISIBLE_ALPHA = 8
# A picture shows nothing where fewer of its pixels than this share are darker than nearly white.
MIN_VISIBLE_SHARE = 0.01
NEARLY_WHITE = 245
RSVG_CONVERT = "rsvg-convert"
RSVG_TIMEOUT_SECONDS = 60


class PictureError(ValueError):
    """A picture cannot be used; the text says why in a few words."""


def can_render_svg() -> bool:
    """Says whether librsvg's command line renderer is installed."""
    return shutil.which(RSVG_CONVERT) is not None


def _open_svg(path: Path, size: int) -> Image.Image:
    command = [RSVG_CONVERT, "--keep-aspect-ratio", "--width", str(size), "--height", str(size), str(path)]
    try:
        result = subprocess.run(command, capture_output=True, check=True, timeout=RSVG_TIMEOUT_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise PictureError("unreadable picture") from error
    return open_picture(io.BytesIO(result.stdout))


def read_cut_out(path: Path, size: int) -> Image.Image:
    """Returns a picture (PNG, SVG) on white, cropped to what is visible, its longer side at most ``size`` px.

    Small pictures are not enlarged; SVG drawings are rendered at the wanted size.

    Raises:
        PictureError: the picture does not decode, or shows nothing on white.
    """
    try:
        # Rendered larger than needed: what is cropped away must not cost resolution.
        opened = _open_svg(path, 2 * size) if path.suffix == ".svg" else open_picture(path)
        picture = opened.convert("RGBA")
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError("unreadable picture") from error
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > VISIBLE_ALPHA else 0).getbbox()
    if box is None:
        raise PictureError("picture invisible on white")
    picture = picture.crop(box)
    on_white = Image.new("RGB", picture.size, WHITE)
    on_white.paste(picture, mask=picture.getchannel("A"))
    if visible_share(on_white) < MIN_VISIBLE_SHARE:
        raise PictureError("picture invisible on white")
    return fit_inside(on_white, size)


def visible_share(picture: Image.Image) -> float:
    """Returns the share of pixels that differ from white in at least one colour."""
    return float((np.asarray(picture.convert("RGB")).min(axis=2) < NEARLY_WHITE).mean())


def fit_inside(picture: Image.Image, size: int) -> Image.Image:
    """Scales the picture down so that its longer side is at most ``size`` px."""
    scale = size / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def pad_to_square(picture: Image.Image) -> Image.Image:
    """Centres the picture on a white square as wide as its longer side."""
    side = max(picture.size)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def encode_webp(picture: Image.Image, *, method: int = WEBP_METHOD) -> bytes:
    """Returns a lossy WebP file; a lower method is quicker and gives slightly larger files."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=WEBP_QUALITY, method=method)
    return buffer.getvalue()


def pixel_hash(picture: Image.Image) -> str:
    """Returns the SHA-256 of size and pixels, whatever file they came from."""
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()
