"""Decode pictures from bytes, files and archives.

Pictures are returned upright, as RGB on white: rotated according to EXIF, 16-bit grey scaled to 8 bits,
transparent parts white, the first frame of animations. Pictures are untrusted: only decoders that start no
other program (as EPS would) are used, and sizes are checked before decoding.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fairseq_vgs.files.faults import Fault, shown
from fairseq_vgs.media.content import Source, place_of, read_content
from fairseq_vgs.media.errors import MediumError, media_fault, refuse_picture
from fairseq_vgs.media.incomplete import has_missing_rows, has_missing_scans, has_missing_strips, tiles_of

logger = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
WHITE = (255, 255, 255)

MAX_PIXELS = 89_478_485
"""Larger pictures are refused before decoding (Pillow's own limit: 256 MB as RGB)."""

_ORIENTATION = 0x0112  # of EXIF
_SIDEWAYS = (5, 6, 7, 8)  # its values that exchange width and height
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF
_OF_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_UNDEFINED = ("F", "I", "LAB", "HSV")  # 32 bits, or colours that Pillow does not turn into RGB as meant


@dataclass(frozen=True, slots=True)
class PictureInfo:
    """Properties of a picture: size in pixels as stored (as in tables), and after rotation; animation."""

    width: int
    height: int
    upright: tuple[int, int]
    is_animated: bool


class Picture:
    """An open picture, decoded on demand; see ``open_picture``.

    Width and height are pixels after rotation, ``stored`` are those before; ``format`` is Pillow's (``PNG``).
    """

    def __init__(self, image: Image.Image, content: bytes, place: str) -> None:
        self._image, self._content, self._place = image, content, place
        self.format = image.format or ""
        self.stored = image.size
        self._start, self._raw = _first_data(image)
        if self.format == "TIFF":  # Pillow turns these itself, while decoding
            if has_missing_strips(image):
                raise self._cut("strips or tiles")
            image.load()
            self._orientation = 1
        else:
            self._orientation = _orientation(image)
        turned = self._orientation in _SIDEWAYS
        self.width, self.height = image.size[::-1] if turned else image.size
        self._mode = image.mode  # as stored

    @property
    def is_animated(self) -> bool:
        """Whether there is more than one frame; only the first is used."""
        with named_errors(self._place):
            return bool(getattr(self._image, "is_animated", False))

    @property
    def is_plain(self) -> bool:
        """Whether any program shows the same picture: upright, 8 bits, opaque, one frame."""
        with named_errors(self._place):
            is_common = self._mode in ("RGB", "L", "P") and not self._image.has_transparency_data
        return is_common and self._orientation == 1 and not self.is_animated

    def rgb(self, *, at_least: tuple[int, int] | None = None) -> Image.Image:
        """Decode, rotate, and put on white; refuse pictures whose brightness has no defined meaning.

        JPEGs are decoded at a fraction of their size if that has ``at_least`` this width and height; then a
        missing end is not noticed.
        """
        with named_errors(self._place):
            if at_least is not None:
                self._image.draft("RGB", at_least[::-1] if self._orientation in _SIDEWAYS else at_least)
            return _opaque(self._decode(is_whole=at_least is None))

    def rgba(self) -> Image.Image:
        """Decode and rotate, keeping transparency."""
        with named_errors(self._place):
            return self._decode(is_whole=True).convert("RGBA")

    def _decode(self, *, is_whole: bool) -> Image.Image:
        self._image.load()
        if self.format == "PNG":
            if has_missing_rows(self._content, self._image, self._start, self._raw):
                raise self._cut("rows")
            _scale_transparent(self._image, self._raw, self._place)
        elif is_whole and self.format in ("JPEG", "MPO") and has_missing_scans(self._content, self._image):
            raise self._cut("parts of its scans")
        turn = _TURNS.get(self._orientation)
        upright = self._image if turn is None else self._image.transpose(turn)
        return _eight_bits(upright, self._image, self._place)

    def _cut(self, missing: str) -> MediumError:
        return refuse_picture(self._place, "picture.cut", f"a {self.format} without all {missing}")


@contextmanager
def open_picture(source: Source, *, place: str = "") -> Iterator[Picture]:
    """Yield a picture that is decoded on demand; ``place`` is file and line for errors.

    Raises:
        MediumError: It cannot be read, is in none of ``FORMATS``, or has more than ``MAX_PIXELS`` pixels.
    """
    content, place = read_content(source, place), place_of(source, place)
    with named_errors(place):
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(place, f"{image.width} x {image.height}")
        with named_errors(place):
            picture = Picture(image, content, place)
        yield picture


def is_picture(source: Source) -> bool:
    """Whether something can be opened as a picture."""
    try:
        with open_picture(source):
            return True
    except MediumError:
        return False


def read_picture(source: Source, *, place: str = "") -> Image.Image:
    """Return a picture upright, as RGB on white. Raises MediumError."""
    with open_picture(source, place=place) as picture:
        return picture.rgb()


def inspect_picture(source: Source, *, place: str = "") -> PictureInfo:
    """Decode a picture completely and return its properties. Raises MediumError."""
    with open_picture(source, place=place) as picture:
        is_animated = picture.is_animated
        picture.rgb()
        return PictureInfo(*picture.stored, (picture.width, picture.height), is_animated)


def picture_faults(source: Source, *, place: str, width: int, height: int) -> list[Fault]:
    """Return all faults of a picture listed with a size as stored; training reads any picture without one."""
    try:
        found = inspect_picture(source, place=place)
    except MediumError as error:
        return list(error.faults)
    if (found.width, found.height) != (width, height):
        expected = f"width and height must be the picture's {found.width} x {found.height}"
        return [media_fault(place, "picture.size", f"{width} x {height}", expected=expected)]
    return []


def say_first_frames(animated: Collection[str]) -> None:
    """Log that pictures, named by their paths, are animated and only their first frame is used."""
    if animated:
        logger.warning(
            "%d animated pictures: only the first frame is used (%s, ...)", len(animated), min(animated)
        )


def pad_to_square(picture: Image.Image) -> Image.Image:
    """Centre the picture on a white square as wide as its longer side."""
    side = max(picture.size)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def encode_webp(picture: Image.Image, *, method: int = 4) -> bytes:
    """Return a lossy WebP file; a lower method is faster and gives slightly larger files."""
    return _encode(picture, "WEBP", quality=90, method=method)


def encode_jpeg(picture: Image.Image) -> bytes:
    """Return a JPEG file."""
    return _encode(picture, "JPEG", quality=88)


def encode_png(picture: Image.Image) -> bytes:
    """Return a PNG file."""
    return _encode(picture, "PNG")


def encode_image(image: Image.Image, *, place: str = "the picture") -> bytes:
    """Return a file of an image in memory, without loss, as every reader of pictures takes it.

    Raises:
        MediumError: ``picture.mode``: its pixels have no defined brightness.
    """
    if image.mode in _UNDEFINED:
        raise refuse_picture(place, "picture.mode", f"pixels of Pillow's mode {image.mode}")
    with named_errors(place):
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "RGB" and not upright.has_transparency_data:
            return _encode(upright, "PPM")  # quicker than PNG by far
        return _encode(upright if upright.mode in _OF_PNG else upright.convert("RGB"), "PNG")


def pixel_hash(picture: Image.Image) -> str:
    """Return the SHA-256 of size and pixels, whatever the file format."""
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def _encode(picture: Image.Image, kind: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if it is missing or invalid."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - Pillow's EXIF readers raise nearly anything
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _first_data(image: Image.Image) -> tuple[int, str]:
    """Return the offset of a picture's first data, and Pillow's name of what is there."""
    _, _, start, stored = next(iter(tiles_of(image)), ("", (), 0, ""))
    return start, stored if isinstance(stored, str) else ""


def _scale_transparent(image: Image.Image, stored: str, place: str) -> None:
    """Scale a PNG's transparent colour as Pillow scales the pixels; refuse what it does not tell apart."""
    transparent = image.info.get("transparency")
    if stored == "RGB;16B" and transparent is not None:
        raise refuse_picture(place, "picture.mode", "16-bit RGB with a transparent colour")
    if stored in _SCALES and isinstance(transparent, int):
        image.info["transparency"] = transparent * _SCALES[stored]


_SCALES = {"L;2": 85, "L;4": 17}


def _eight_bits(image: Image.Image, opened: Image.Image, place: str) -> Image.Image:
    """Scale 16-bit grey to 8 bits, which Pillow would clip; refuse modes without a defined brightness."""
    is_grey = opened.mode == "I" and opened.format in ("PNG", "PPM")  # mode I with 16 bits
    if image.mode in _UNDEFINED and not is_grey:
        raise refuse_picture(place, "picture.mode", f"pixels of Pillow's mode {image.mode}")
    if not image.mode.startswith("I"):
        return image
    tags = getattr(opened, "tag_v2", {})
    if tags and tuple(tags.get(_BITS_PER_SAMPLE, ())) != (16,):
        raise refuse_picture(place, "picture.mode", f"{tags.get(_BITS_PER_SAMPLE)} bits")
    steps = np.asarray(image)
    grey = (steps >> 8).astype(np.uint8)
    if tags and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if isinstance(transparent := opened.info.get("transparency"), int):
        grey = np.where(steps == transparent, np.uint8(255), grey)
    return Image.fromarray(grey)


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    with_alpha = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", with_alpha.size, (*WHITE, 255)), with_alpha).convert("RGB")


@contextmanager
def named_errors(place: str) -> Iterator[None]:
    """Convert any exception of Pillow into an error of the picture at ``place``."""
    try:
        yield
    except MediumError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise _too_large(place, "more") from error
    except UnidentifiedImageError as error:
        got = f"no picture of a format that is read ({', '.join(FORMATS)})"
        raise refuse_picture(place, "picture.unreadable", got) from error
    except Exception as error:  # broken pictures make Pillow's decoders raise nearly anything
        got = shown(f"{type(error).__name__}: {error}")
        raise refuse_picture(place, "picture.unreadable", got) from error


def _too_large(place: str, size: str) -> MediumError:
    return refuse_picture(place, "picture.too_large", f"{size} pixels where {MAX_PIXELS:,} are the limit")
