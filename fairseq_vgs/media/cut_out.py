"""Cut-out pictures (PNG, SVG), put on white, since not all readers support transparent pixels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from fairseq_vgs.media.content import Source
from fairseq_vgs.media.errors import refuse_picture
from fairseq_vgs.media.pictures import WHITE, open_picture

VISIBLE_ALPHA = 8
"""Pixels fainter than this (of 255), such as shadows and compression noise, are not part of the object."""

MIN_VISIBLE_SHARE = 0.01
"""A picture is invisible if a smaller share of its pixels has a colour darker than ``NEARLY_WHITE``."""

NEARLY_WHITE = 245
RSVG_CONVERT = "rsvg-convert"
RSVG_TIMEOUT_SECONDS = 60


def can_render_svg() -> bool:
    """Return whether librsvg's command-line renderer is installed."""
    return shutil.which(RSVG_CONVERT) is not None


def read_cut_out(path: Path, size: int) -> Image.Image:
    """Return a picture (PNG, SVG) on white, cropped to its visible part, with sides of at most ``size`` px.

    Small pictures are not enlarged; SVG drawings are rendered at the requested size. Raises MediumError.
    """
    # Rendered larger than needed, so that cropping does not cost resolution.
    source: Source = _render_svg(path, 2 * size) if path.suffix == ".svg" else path
    with open_picture(source, place=str(path)) as opened:
        picture = opened.rgba()
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > VISIBLE_ALPHA else 0).getbbox()
    if box is None:
        raise refuse_picture(str(path), "picture.invisible", "nothing that is opaque")
    picture = picture.crop(box)
    on_white = Image.new("RGB", picture.size, WHITE)
    on_white.paste(picture, mask=picture.getchannel("A"))
    if (np.asarray(on_white).min(axis=2) < NEARLY_WHITE).mean() < MIN_VISIBLE_SHARE:
        raise refuse_picture(str(path), "picture.invisible", "hardly any pixel that is not white")
    return fit_inside(on_white, size)


def fit_inside(picture: Image.Image, size: int) -> Image.Image:
    """Shrink the picture to sides of at most ``size`` px."""
    scale = size / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _render_svg(path: Path, size: int) -> bytes:
    command = [RSVG_CONVERT, "--keep-aspect-ratio", "--width", str(size), "--height", str(size), str(path)]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=RSVG_TIMEOUT_SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        got = f"{type(error).__name__} of {RSVG_CONVERT}"
        raise refuse_picture(str(path), "picture.unreadable", got) from error
