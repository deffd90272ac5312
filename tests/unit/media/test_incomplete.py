from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.pictures import inspect_picture, read_picture

SIDE = 64
PIXELS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
NOISE = Image.fromarray(PIXELS)
END = b"\xff\xd9"


def code(content: bytes) -> str | None:
    """Return the code of what is wrong with a picture, the same for all readers of whole pictures."""
    found = []
    for reader in (read_picture, inspect_picture):
        try:
            reader(content)
            found.append(None)
        except MediumError as error:
            found.append(error.code)
    assert found[0] == found[1]
    return found[0]


def encoded(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(rows: bytes, size: tuple[int, int], *, depth: int, colours: int, **more: Any) -> bytes:
    """Return a PNG of filtered rows; ``transparent`` is the value of tRNS, ``interlaced`` for Adam7."""
    header = struct.pack(">IIBBBBB", *size, depth, colours, 0, 0, more.get("interlaced", 0))
    transparent = chunk(b"tRNS", more["transparent"]) if "transparent" in more else b""
    data = zlib.compress(rows)
    half = len(data) // 2
    parts = chunk(b"IDAT", data[:half]) + chunk(b"IDAT", data[half:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + transparent + parts + chunk(b"IEND", b"")


def test_a_png_with_fewer_rows_than_its_header_is_named() -> None:
    rows = [b"\0" + row.tobytes() for row in PIXELS]
    assert code(png(b"".join(rows), (SIDE, SIDE), depth=8, colours=2)) is None
    assert code(png(b"", (SIDE, SIDE), depth=8, colours=2)) == "picture.unreadable"
    for n_rows in (1, 30, SIDE - 1):
        assert code(png(b"".join(rows[:n_rows]), (SIDE, SIDE), depth=8, colours=2)) == "picture.cut"
    black = b"".join([*rows[:-1], bytes(len(rows[0]))])
    assert code(png(black, (SIDE, SIDE), depth=8, colours=2)) is None


@pytest.mark.parametrize(
    ("depth", "colours", "bits"), [(1, 0, 1), (4, 0, 4), (16, 0, 16), (8, 6, 32), (16, 2, 48)]
)
@pytest.mark.parametrize("side", [5, 8, 13])
def test_rows_of_interlaced_png_are_counted(depth: int, colours: int, bits: int, side: int) -> None:
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    sizes = [(len(range(x, side, dx)), len(range(y, side, dy))) for x, y, dx, dy in passes]
    rows = [bytes(1 + (w * bits + 7) // 8) for w, h in sizes for _ in range(h if w else 0)]
    settings = {"depth": depth, "colours": colours, "interlaced": 1}
    assert code(png(b"".join(rows), (side, side), **settings)) is None
    assert code(png(b"".join(rows[:-1]), (side, side), **settings)) == "picture.cut"


def grey_rows(values: np.ndarray, depth: int) -> bytes:
    bits = "".join(f"{value:0{depth}b}" for value in values)
    return b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_counts_in_the_files_own_depth(depth: int) -> None:
    values = np.arange(8) * (257 if depth == 16 else 1) % 2**depth
    greys = values >> 8 if depth == 16 else values * 255 // (2**depth - 1)
    for value in values:
        content = png(
            grey_rows(values, depth), (8, 1), depth=depth, colours=0, transparent=struct.pack(">H", value)
        )
        found = np.asarray(read_picture(content))[0, :, 0]
        np.testing.assert_array_equal(found, np.where(values == value, 255, greys))


def test_the_same_transparent_picture_is_the_same_in_every_png() -> None:
    """As grey of any depth, palette, RGB and with an alpha channel: four greys, the second transparent."""
    values = np.arange(8) % 4
    expected = np.repeat(np.where(values == 1, 255, values * 85)[:, None], 3, axis=1)
    files = [
        png(grey_rows(values * k, d), (8, 1), depth=d, colours=0, transparent=struct.pack(">H", k))
        for d, k in ((2, 1), (4, 5), (8, 85), (16, 85 * 257))
    ]
    colours = np.repeat((values * 85).astype(np.uint8)[:, None], 3, axis=1)
    rgb = b"\0" + colours.tobytes()
    files.append(png(rgb, (8, 1), depth=8, colours=2, transparent=struct.pack(">HHH", 85, 85, 85)))
    alpha = np.concatenate([colours, np.where(values == 1, 0, 255).astype(np.uint8)[:, None]], axis=1)
    files.append(encoded(Image.fromarray(alpha[None]), "PNG"))
    files.append(encoded(Image.fromarray(alpha[None]), "TIFF"))
    files.append(encoded(Image.fromarray(alpha[None]), "WEBP", lossless=True, exact=True))
    for content in files:
        np.testing.assert_array_equal(np.asarray(read_picture(content))[0], expected)
    deep = b"\0" + (colours.astype(">u2") * 257).tobytes()
    assert code(png(deep, (8, 1), depth=16, colours=2)) is None
    assert code(png(deep, (8, 1), depth=16, colours=2, transparent=bytes(6))) == "picture.mode"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("settings", [{}, {"subsampling": 2}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_jpeg_that_ends_early_is_named(mode: str, settings: dict[str, Any], share: float) -> None:
    content = encoded(NOISE.convert(mode), "JPEG", **settings)
    assert code(content) is code(content + b"more") is None
    assert code(content[: int(share * len(content))] + END) == "picture.cut"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_progressive_jpeg_without_its_last_scans_is_named(mode: str) -> None:
    content = encoded(NOISE.convert(mode), "JPEG", progressive=True)
    assert code(content) is code(content + b"more") is None
    scans = [at for at in range(len(content)) if content.startswith(b"\xff\xda", at)]
    for at in (scans[-1], scans[len(scans) // 2]):
        assert code(content[:at] + END) == "picture.cut"


@pytest.mark.parametrize("settings", [{}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_grey_jpeg_is_whole(mode: str, settings: dict[str, Any]) -> None:
    assert (
        code(encoded(Image.new("RGB", (40, 30), (128, 128, 128)).convert(mode), "JPEG", **settings)) is None
    )


def tag_places(content: bytes) -> dict[int, int]:
    """Return the offsets of the entries of a little-endian TIFF, by tag."""
    start = int.from_bytes(content[4:8], "little")
    n_tags = int.from_bytes(content[start : start + 2], "little")
    places = [start + 2 + 12 * number for number in range(n_tags)]
    return {int.from_bytes(content[place : place + 2], "little"): place for place in places}


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_tiff_without_all_strips_is_named(compression: str | None) -> None:
    content = bytearray(encoded(NOISE, "TIFF", compression=compression, tiffinfo={278: 8}))
    assert code(bytes(content)) is None
    for tag in (273, 279):  # offsets and lengths of strips
        place = tag_places(bytes(content))[tag]
        content[place + 4 : place + 8] = struct.pack("<I", 4)
    assert code(bytes(content)) == ("picture.unreadable" if compression else "picture.cut")


def test_a_gif_bmp_or_ppm_with_fewer_rows_than_its_header_is_named() -> None:
    gif = bytearray(encoded(NOISE.crop((0, 0, SIDE, 20)).quantize(256), "GIF"))
    at = gif.index(b",", 13 + 3 * 256)  # behind the palette
    gif[8:10] = gif[at + 7 : at + 9] = struct.pack("<H", SIDE)
    bmp = bytearray(encoded(NOISE.crop((0, 0, SIDE, 20)), "BMP"))
    bmp[22:26] = struct.pack("<i", SIDE)
    ppm = encoded(NOISE.crop((0, 0, SIDE, 20)), "PPM").replace(b"64 20", b"64 64")
    text = b"P3\n3 2\n255\n" + b"255 0 0 " * 3
    assert [code(bytes(content)) for content in (gif, bmp, ppm, text)] == ["picture.unreadable"] * 4
