from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.tiny_speech import write

from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media import pictures
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.pictures import (
    FORMATS,
    encode_image,
    encode_png,
    encode_webp,
    inspect_picture,
    open_picture,
    pad_to_square,
    picture_faults,
    pixel_hash,
    read_picture,
)
from fairseq_vgs.report.gallery_media import MediaFolder

PLACE = "images.tsv:4"
WIDTH, HEIGHT = 12, 8
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def refusal(source: Any) -> str:
    with pytest.raises(MediumError) as caught:
        inspect_picture(source, place=PLACE)
    assert {fault.place for fault in caught.value.faults} == {PLACE}
    return caught.value.code


def encoded(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def colours() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def greys() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8))


def few_colours() -> Image.Image:
    return colours().quantize(16)


def cut_out() -> tuple[Image.Image, Image.Image]:
    """Return a picture with soft edges, and what it looks like on white."""
    pixels = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels, "RGBA")
    white = Image.new("RGB", picture.size, (255, 255, 255))
    white.paste(picture, mask=picture.getchannel("A"))
    return picture, white


def odd_exif(orientation: int) -> bytes:
    """Return EXIF with an orientation and a resolution given as text, which Pillow cannot write again."""
    entries = [(0x112, 3, 1, struct.pack("<H", orientation)), (0x11A, 2, 4, b"72\0\0")]
    body = b"".join(
        struct.pack("<HHI", tag, kind, n) + value.ljust(4, b"\0") for tag, kind, n, value in entries
    )
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 0)


def turned(image: Image.Image, value: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    stored = image.transpose(TURNS[value])
    return encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


def equal_pictures() -> dict[str, tuple[bytes, Image.Image]]:
    """Return files, and the RGB picture that all programs should see in them."""
    rgb, grey, palette, (alpha, on_white) = colours(), greys(), few_colours(), cut_out()
    grey16 = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    found: dict[str, tuple[bytes, Image.Image]] = {}
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        found[f"{kind}, RGB"] = encoded(rgb, kind), rgb
        found[f"{kind}, grey"] = encoded(grey, kind), grey.convert("RGB")
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        found[f"{kind}, palette"] = encoded(palette, kind), palette.convert("RGB")
    for kind in ("PNG", "TIFF", "PPM"):
        found[f"{kind}, 16-bit grey"] = encoded(grey16, kind), grey.convert("RGB")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        found[f"TIFF, {compression}"] = encoded(rgb, "TIFF", compression=compression), rgb
    inverted = Image.fromarray(65_535 - np.asarray(grey16))
    found["TIFF, 16-bit grey, white is zero"] = (
        encoded(inverted, "TIFF", tiffinfo={262: 0}), grey.convert("RGB"),
    )  # fmt: skip
    found["PNG, 16-bit grey, one transparent"] = (
        encoded(grey16, "PNG", transparency=int(np.asarray(grey16)[0, 0])),
        Image.fromarray(np.where(np.asarray(grey) == np.asarray(grey)[0, 0], 255, grey)).convert("RGB"),
    )
    found["WEBP, RGB"] = encoded(rgb, "WEBP", lossless=True), rgb
    found["PNG, alpha"] = encoded(alpha, "PNG"), on_white
    found["TIFF, alpha"] = encoded(alpha, "TIFF"), on_white
    found["WEBP, alpha"] = encoded(alpha, "WEBP", lossless=True, exact=True), on_white
    black = rgb.convert("1")
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        found[f"{kind}, 1 bit"] = encoded(black, kind), black.convert("RGB")
    for value in TURNS:
        for kind in ("PNG", "TIFF", "WEBP"):
            found[f"{kind}, turned by {value}"] = turned(rgb, value, kind), rgb
    found["PNG, odd EXIF"] = encoded(rgb.transpose(TURNS[6]), "PNG", exif=odd_exif(6)), rgb
    found["GIF, animated"] = (
        encoded(palette, "GIF", save_all=True, append_images=[few_colours().rotate(180)]),
        (palette.convert("RGB")),
    )
    return found


EQUAL = equal_pictures()


@pytest.mark.parametrize("name", EQUAL)
def test_the_same_picture_is_the_same_for_everyone(name: str, tmp_path: Path) -> None:
    """In every lossless encoding; for training, regions, gallery and check; in and out of archives."""
    content, expected = EQUAL[name]
    path = write(tmp_path / "a.png", content)
    write(tmp_path / "a.tar", b"before" + content + b"behind")
    reference = write(tmp_path / "expected.png", encode_png(expected))
    trained = load_picture(MediaLocation(reference), place=PLACE, image_size=6)
    for source in (content, path, MediaLocation(path), MediaLocation(tmp_path / "a.tar", 6, len(content))):
        np.testing.assert_array_equal(np.asarray(read_picture(source)), np.asarray(expected))
        info = inspect_picture(source)
        assert info.upright == (WIDTH, HEIGHT)
        assert info.is_animated == ("animated" in name)
        assert picture_faults(source, place=PLACE, width=info.width, height=info.height) == []
        if isinstance(source, MediaLocation):
            found = load_picture(source, place=PLACE, image_size=6)
            np.testing.assert_array_equal(found, trained)
    address = MediaFolder(tmp_path / "media").add_picture(tmp_path, "a.png")
    assert address is not None
    with Image.open(tmp_path / address) as shown:
        is_whole = shown.mode in ("RGB", "L", "P")
        pixels = np.asarray(shown.convert("RGB"), dtype=np.float64)
    assert is_whole and pixels.shape == (HEIGHT, WIDTH, 3)
    if not address.endswith(".jpg"):
        np.testing.assert_array_equal(pixels, np.asarray(expected))


@pytest.mark.parametrize("value", range(1, 9))
def test_jpegs_are_turned_by_the_tag_alone(value: int) -> None:
    upright = Image.new("RGB", (64, 32), (0, 0, 0))
    upright.paste((255, 255, 255), (0, 0, 32, 16))
    stored = upright.transpose(TURNS[value]) if value in TURNS else upright
    found = np.asarray(read_picture(encoded(stored, "JPEG", exif=odd_exif(value), quality=95)), dtype=int)
    assert np.abs(found - np.asarray(upright, dtype=int)).max() < 40


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"", b"Exif\0\0II*\0" + bytes(8), odd_exif(9)])
def test_exif_that_says_nothing_turns_nothing(exif: bytes) -> None:
    content = encoded(colours(), "PNG", exif=exif) if exif else encoded(colours(), "PNG")
    np.testing.assert_array_equal(np.asarray(read_picture(content)), np.asarray(colours()))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_defined_brightness_are_refused(dtype: Any, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 1, WIDTH), (HEIGHT, 1))
    content = encoded(
        Image.fromarray((ramp * (1 if dtype is np.float32 else 2**31 - 1)).astype(dtype)), "TIFF"
    )
    assert refusal(content) == "picture.mode"
    with pytest.raises(BadItemError) as caught:
        load_picture(MediaLocation(write(tmp_path / "a.tif", content)), place=PLACE, image_size=4)
    assert caught.value.codes == ("picture.mode",)


def test_a_palette_that_is_missing_is_named_by_all_readers(tmp_path: Path) -> None:
    content = encoded(few_colours(), "PNG")
    start = content.index(b"PLTE") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    path = write(tmp_path / "a.png", content[:start] + content[end:])
    assert refusal(path) == "picture.unreadable"
    with open_picture(path, place=PLACE) as picture, pytest.raises(MediumError):
        assert picture.is_plain
    assert MediaFolder(tmp_path / "media").add_picture(tmp_path, "a.png") is None
    with pytest.raises(BadItemError):
        load_picture(MediaLocation(path), place=PLACE, image_size=4)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
@pytest.mark.parametrize("turn", [1, 6])
def test_images_in_memory_are_read_as_their_files(mode: str, turn: int) -> None:
    image = few_colours().convert("L").convert(mode) if mode == "I;16" else few_colours().convert(mode)
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = encoded(
        image, "TIFF" if mode in ("CMYK", "I;16") else "PNG", **({"exif": exif} if turn > 1 else {})
    )
    with Image.open(io.BytesIO(stored)) as opened:
        opened.load()
        found = read_picture(encode_image(opened))
    expected = read_picture(stored)
    assert found.size == expected.size
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("mode", ["F", "I", "LAB", "HSV"])
def test_images_in_memory_need_a_defined_brightness(mode: str) -> None:
    with pytest.raises(MediumError) as caught:
        encode_image(Image.new(mode, (3, 2)), place=PLACE)
    assert caught.value.codes == ("picture.mode",)


def test_lab_is_refused() -> None:
    assert refusal(encoded(Image.new("LAB", (3, 2)), "TIFF")) == "picture.mode"


def test_cmyk_is_read() -> None:
    content = encoded(Image.new("RGB", (3, 2), (255, 255, 255)).convert("CMYK"), "TIFF")
    assert read_picture(content).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_sound_pictures_have_no_faults(tools: Any, kind: str) -> None:
    assert picture_faults(tools.picture(0, kind=kind), place=PLACE, width=8, height=6) == []


def test_picture_of_another_size(tools: Any) -> None:
    (fault,) = picture_faults(tools.picture(0), place=PLACE, width=6, height=8)
    assert (fault.code, fault.place) == ("picture.size", PLACE)
    assert "must be the picture's 8 x 6, got 6 x 8" in fault.message


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file.empty"),
        (b"not a picture", "picture.unreadable"),
        (b"\x89PNG\r\n\x1a\n", "picture.unreadable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n", "picture.unreadable"),
    ],
)
def test_picture_that_does_not_decode(content: bytes, code: str) -> None:
    assert refusal(content) == code


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_picture_cut_short(tools: Any, kind: str) -> None:
    data = tools.picture(0, width=64, height=64, kind=kind)
    assert refusal(data[: len(data) // 2]) == "picture.unreadable"


@pytest.mark.parametrize("limit", [40, 20])
def test_pictures_within_pillows_limit_only(tools: Any, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    # 48 pixels: above the limit Pillow warns, above twice the limit it refuses.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(pictures, "MAX_PIXELS", limit)
    (fault,) = picture_faults(tools.picture(0), place=PLACE, width=8, height=6)
    assert fault.code == "picture.too_large"
    assert f"{limit} are the limit" in fault.message


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_beyond_the_limit_is_not_decoded(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 40)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("it was decoded"))
    assert refusal(tools.picture(0)) == "picture.too_large"


def test_threads_share_the_warning_filters(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the process's: changed by one thread, they may stay changed when another one restores them."""
    before, seen, opened = list(warnings.filters), [], Image.open

    def look(*args: Any, **settings: Any) -> Any:
        seen.append(list(warnings.filters))
        return opened(*args, **settings)

    monkeypatch.setattr(Image, "open", look)
    read_picture(tools.picture(0))
    assert seen == [before]


@pytest.mark.parametrize("kind", FORMATS)
def test_pictures_of_known_formats_open(kind: str) -> None:
    with open_picture(encoded(Image.new("RGB", (3, 2)), kind)) as picture:
        assert (picture.width, picture.height, picture.format) == (3, 2, kind)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "TGA", "ICO"])
def test_pictures_of_other_formats_do_not_open(kind: str) -> None:
    assert refusal(encoded(Image.new("RGB", (3, 2)), kind)) == "picture.unreadable"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_mutated_pictures_raise_our_errors_only(kind: str, tmp_path: Path) -> None:
    """And what the checker accepts, training reads."""
    draws = np.random.default_rng(5)
    settings = {"exif": odd_exif(6)} if kind in ("PNG", "JPEG", "WEBP") else {}
    whole = encoded(few_colours() if kind == "GIF" else colours(), kind, **settings)
    for _ in range(60):
        content = bytearray(whole)
        for at in draws.integers(0, min(len(content), 200), draws.integers(1, 4)):
            content[at] = draws.integers(0, 256)
        path = write(tmp_path / "a", bytes(content))
        try:
            info = inspect_picture(path)
        except MediumError:
            info = None
        try:
            found = load_picture(MediaLocation(path), place=PLACE, image_size=4)
            assert found.shape == (3, 4, 4)
        except BadItemError:
            assert info is None


def test_square_holds_the_picture_in_its_middle() -> None:
    square = pad_to_square(Image.new("RGB", (4, 2), (0, 0, 0)))
    assert square.size == (4, 4)
    assert [square.getpixel((0, row))[0] for row in range(4)] == [255, 0, 0, 255]


def test_webp_repeats_exactly() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    content = encode_webp(picture)
    assert encode_webp(picture) == content
    with open_picture(content) as decoded:
        assert (decoded.format, decoded.stored) == ("WEBP", (40, 30))


def test_pixel_hash_tells_size_and_content() -> None:
    wide, high = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))
    assert pixel_hash(wide) == pixel_hash(wide.copy())
    assert pixel_hash(wide) != pixel_hash(high)
