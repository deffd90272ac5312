"""Find pictures that end early although their files are well-formed.

Pillow leaves the rest of a PNG or uncompressed TIFF black; libjpeg makes that of a JPEG grey.
"""

from __future__ import annotations

import io
import re
import zlib
from typing import Any

from PIL import Image


def tiles_of(image: Image.Image) -> list[Any]:
    """Return Pillow's list of codec, box, offset and form of all parts to decode of an opened picture."""
    return list(getattr(image, "tile", ()))


# PNG ------------------------------------------------------------------------------------------------------

_BITS = {  # per pixel, by Pillow's names of what is in the file
    "1": 1, "P;1": 1, "L;2": 2, "P;2": 2, "L;4": 4, "P;4": 4, "L": 8, "P": 8, "I;16B": 16, "LA": 16,
    "RGB": 24, "LA;16B": 32, "RGBA": 32, "RGB;16B": 48, "RGBA;16B": 64,
}  # fmt: skip
_PASSES = (  # of Adam7: first column and row, and steps
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
_BLOCK_BYTES = 1 << 20


def has_missing_rows(content: bytes, image: Image.Image, start: int, stored: str) -> bool:
    """Return whether the compressed rows of a PNG that Pillow has decoded end early.

    Args:
        content: The file.
        image: The decoded picture.
        start: Offset of the first data.
        stored: Pillow's name of what is in the file (``RGB;16B``).
    """
    width, height = image.size
    is_interlaced = bool(image.info.get("interlace"))
    last = image.crop((0, height - 1, width, height))
    if stored not in _BITS or (not is_interlaced and last.tobytes().strip(b"\0")):
        return False
    passes = _PASSES if is_interlaced else ((0, 0, 1, 1),)
    sides = [(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in passes]
    expected = sum(h * (1 + (w * _BITS[stored] + 7) // 8) for w, h in sides if w > 0 and h > 0)
    return _inflated(content, start - 8, expected) < expected


def _inflated(content: bytes, at: int, enough: int) -> int:
    """Return the number of bytes in consecutive IDAT chunks, decompressed; stop when there are enough."""
    decompressor, n_bytes = zlib.decompressobj(), 0
    while content.startswith(b"IDAT", at + 4) and not decompressor.eof:
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        rest = content[at + 8 : end]
        while rest and n_bytes < enough:
            n_bytes += len(decompressor.decompress(rest, _BLOCK_BYTES))
            rest = decompressor.unconsumed_tail
        at = end + 4
    return n_bytes


# TIFF -----------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _SAMPLES_PER_PIXEL, _PLANES = 256, 257, 277, 284


def has_missing_strips(image: Image.Image) -> bool:
    """Return whether the strips or tiles of a TIFF that was opened, not decoded, leave pixels out."""
    tags = getattr(image, "tag_v2", {})
    width, height = tags[_WIDTH], tags[_HEIGHT]  # as stored, not upright
    tiles = tiles_of(image)
    if not tiles or tiles[0][0] != "raw":  # libtiff notices it
        return False
    n_planes = tags.get(_SAMPLES_PER_PIXEL, 1) if tags.get(_PLANES) == 2 else 1
    sides = [(min(x1, width) - x0, min(y1, height) - y0) for _, (x0, y0, x1, y1), *_ in tiles]
    return sum(max(0, w) * max(0, h) for w, h in sides) < width * height * n_planes


# JPEG -----------------------------------------------------------------------------------------------------

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed byte nor a restart
_ENDS, _SCAN, _ALONE = 0xD9, 0xDA, (0x01, 0xD8)
_BLOCK_SIDE = 8
_MORE_BITS = bytes(range(1, 65))


def has_missing_scans(content: bytes, image: Image.Image) -> bool:
    """Return whether a JPEG that Pillow has decoded as a whole lacks scans, or the end of its only scan."""
    if image.info.get("progressive"):
        return not _has_all_bits(_scans(content)[0], len(image.getbands()))
    width, height = image.size
    left, top = ((side - 1) // _BLOCK_SIDE * _BLOCK_SIDE for side in (width, height))
    ranges = image.crop((left, top, width, height)).getextrema()
    if not set(ranges[0] if isinstance(ranges[0], tuple) else ranges) <= {127, 128}:
        return False
    # Grey may be meant: then the bits behind it change nothing.
    end = _scans(content)[1]
    with Image.open(io.BytesIO(content[:end] + _MORE_BITS + content[end:]), formats=("JPEG",)) as other:
        return other.tobytes() != image.tobytes()


def _scans(content: bytes) -> tuple[list[bytes], int]:
    """Return the headers of all scans up to the end of the first picture, and the offset of that end."""
    scans: list[bytes] = []
    at = 2
    while found := _MARKER.search(content, at):
        marker, start = content[found.start() + 1], found.end()
        if marker == _ENDS:
            return scans, found.start()
        end = start + (0 if marker in _ALONE else int.from_bytes(content[start : start + 2], "big"))
        if marker == _SCAN:
            scans.append(content[start + 2 : end])
        at = max(start, end)
    return scans, len(content)


def _has_all_bits(scans: list[bytes], n_components: int) -> bool:
    """Return whether scans (T.81, B.2.3) hold every bit of the 64 coefficients of every component."""
    lowest: dict[int, list[int]] = {}
    for scan in scans:
        n_in_scan = scan[0]
        first, last, bits = scan[1 + 2 * n_in_scan : 4 + 2 * n_in_scan]
        for component in scan[1 : 1 + 2 * n_in_scan : 2]:
            known = lowest.setdefault(component, [16] * 64)
            known[first : last + 1] = [bits & 15] * (last + 1 - first)
    return len(lowest) >= n_components and not any(any(known) for known in lowest.values())
