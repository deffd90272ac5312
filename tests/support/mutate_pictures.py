"""Damaged pictures, through preparation, check, training, regions, gallery; by path, memory and archive."""

from __future__ import annotations

import io
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.mutate import Draws, Kind, agree, attempt, mutate_bytes

from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.pictures import Augmentation, draw_variation, load_picture
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media.pictures import (
    PictureInfo,
    inspect_picture,
    open_picture,
    picture_faults,
    read_picture,
)
from fairseq_vgs.report.gallery_media import MediaFolder

PLACE = "images.tsv:4"
PNG = b"\x89PNG\r\n\x1a\n"
SIZE, LARGE = 8, 1 << 22
AUGMENTATION = Augmentation(crop_scale=0.3, flip=True, jitter=0.2)
VARIED = {"variation": draw_variation(AUGMENTATION, np.random.default_rng(1))}


def kind() -> Kind:
    """Return the kind with pictures in all formats and modes."""
    originals = pictures()
    others = tuple(originals.values())

    def mutate(name: str, content: bytes, draws: Draws) -> bytes:
        result = mutate_bytes(content, draws, others=others)
        return with_chunk_checksums(result) if name.startswith("PNG") and draws.integers(4) else result

    return Kind(originals, mutate, read, max_seconds=30, max_bytes=1536 << 20)


def pictures() -> dict[str, bytes]:
    """Return small pictures by format and mode."""
    draws = np.random.default_rng(0)
    colours = Image.fromarray(draws.integers(0, 256, (30, 44, 3), dtype=np.uint8))
    smooth = colours.resize((44, 30), Image.Resampling.BICUBIC, box=(0, 0, 6, 4))
    grey = smooth.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    alpha = smooth.copy()
    alpha.putalpha(grey)
    modes = {
        "RGB": smooth, "L": grey, "P": smooth.quantize(16), "1": grey.convert("1"), "RGBA": alpha,
        "LA": alpha.convert("LA"), "16": deep, "CMYK": smooth.convert("CMYK"), "F": grey.convert("F"),
        "LAB": Image.new("LAB", (9, 7)), "YCbCr": smooth.convert("YCbCr"),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    kinds = {
        "PNG": ("RGB", "L", "P", "1", "RGBA", "LA", "16"),
        "JPEG": ("RGB", "L", "CMYK"),
        "TIFF": ("RGB", "L", "P", "1", "RGBA", "LA", "16", "CMYK", "F", "LAB", "YCbCr"),
        "GIF": ("P", "L"),
        "WEBP": ("RGB", "RGBA"),
        "BMP": ("RGB", "L", "P", "1", "RGBA"),
        "PPM": ("RGB", "L", "1", "16"),
    }
    made = {f"{kind} {mode}": encoded(modes[mode], kind) for kind, names in kinds.items() for mode in names}
    for compression, mode in (
        ("tiff_lzw", "RGB"), ("tiff_adobe_deflate", "16"), ("packbits", "P"), ("jpeg", "RGB"),
        ("group4", "1"), ("tiff_lzw", "CMYK"),
    ):  # fmt: skip
        made[f"TIFF {compression} {mode}"] = encoded(modes[mode], "TIFF", compression=compression)
    for kind, settings in {"PNG": {}, "JPEG": {}, "WEBP": {"lossless": True}, "TIFF": {}}.items():
        made[f"{kind} EXIF"] = encoded(smooth, kind, exif=exif, **settings)
    frames = {"save_all": True, "append_images": [modes["P"].rotate(180)], "duration": 100}
    return made | {
        "PNG transparency": encoded(deep, "PNG", transparency=int(np.asarray(deep)[0, 0])),
        "PNG animated": encoded(smooth, "PNG", save_all=True, append_images=[smooth.rotate(180)]),
        "JPEG progressive": encoded(smooth, "JPEG", progressive=True, exif=exif, subsampling=2),
        "GIF animated": encoded(modes["P"], "GIF", transparency=3, **frames),
        "WEBP lossless": encoded(smooth, "WEBP", lossless=True),
        "WEBP animated": encoded(smooth, "WEBP", save_all=True, append_images=[smooth.rotate(180)]),
        "TIFF white is zero": encoded(deep, "TIFF", tiffinfo={262: 0}),
        "TIFF frames": encoded(smooth, "TIFF", save_all=True, append_images=[grey]),
        "PPM text": b"P3\n3 2\n255\n" + b"255 0 0 " * 6,
        "PPM text grey": b"P2\n# made by hand\n3 2\n15\n0 3 7\n11 15 1\n",
    }


def encoded(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    """Return a picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()


def read(name: str, content: bytes, folder: Path) -> str:
    """Pass a picture through every door; return whether it was animated."""
    path = folder / "picture"
    path.write_bytes(content)
    doors = [content, path, MediaLocation(path)]
    if content:
        archive = folder / "pictures.tar"
        archive.write_bytes(b"before" + content + b"behind")
        doors.append(MediaLocation(archive, 6, len(content)))
    info, error = attempt(inspect_picture, content, place=PLACE)
    if info is not None and info.width * info.height > LARGE:
        doors = [content, MediaLocation(path)]  # each takes a second
    for door in doors[1:]:
        other, other_error = attempt(inspect_picture, door, place=PLACE)
        codes = [one and one.codes for one in (error, other_error)]
        agree("doors refuse", holds=codes[0] == codes[1], codes=codes)
        agree("doors see", holds=info == other, first=info, other=other)
    shown = MediaFolder(folder / "media").add_picture(folder, path.name)
    agree("gallery", holds=(shown is None) == (error is not None), shown=shown)
    if error is not None:
        see_refused(content, path)
        raise error
    (folder / shown).unlink()
    see_accepted(doors, info)
    return "animated" if info.is_animated else "read"


def see_accepted(doors: list[Any], info: PictureInfo) -> None:
    """Check, training and regions must see the picture that preparation measured."""
    pixels = [np.asarray(read_picture(door, place=PLACE)) for door in doors]
    size = (pixels[0].shape[1], pixels[0].shape[0])
    agree("prepare measures", holds=size == info.upright, upright=info.upright, decoded=size)
    agree("prepare lists", holds=sorted(size) == sorted((info.width, info.height)), listed=info, decoded=size)
    agree("doors decode other pixels", holds=all(np.array_equal(pixels[0], other) for other in pixels[1:]))
    size_in_table = {"width": info.width, "height": info.height}
    for door in doors:
        faults = [fault.code for fault in picture_faults(door, place=PLACE, **size_in_table)]
        agree("check refuses what prepare measured", holds=not faults, codes=faults)
    with open_picture(doors[0]) as picture:  # as prepare stamps and regions read them
        agree("transparent size", holds=picture.rgba().size == info.upright)
    places = [door for door in doors if isinstance(door, MediaLocation)]
    for setting in ({"fit": "squeeze"}, {"fit": "crop"}, VARIED):
        tensors = [load_picture(place, place=PLACE, image_size=SIZE, **setting) for place in places]
        agree("tensor", holds=tensors[0].shape == (3, SIZE, SIZE) and bool(np.isfinite(tensors[0]).all()))
        agree("training reads other pixels", holds=all(np.array_equal(tensors[0], one) for one in tensors))


def see_refused(content: bytes, path: Path) -> None:
    """Check must refuse what preparation refuses, and training skip it or read it."""
    faults = picture_faults(content, place=PLACE, width=44, height=30)
    agree("check accepts what prepare refuses", holds=bool(faults))
    _, error = attempt(read_picture, content, place=PLACE)
    agree("regions read what prepare refuses", holds=error is not None)
    for setting in ({}, VARIED):
        with suppress(BadItemError):
            load_picture(MediaLocation(path), place=PLACE, image_size=SIZE, **setting)


def with_chunk_checksums(content: bytes) -> bytes:
    """Return a PNG whose chunks have true checksums, so that decoders look further."""
    result, start = bytearray(content), len(PNG)
    while start + 12 <= len(result):
        end = start + 8 + int.from_bytes(result[start : start + 4], "big")
        if end + 4 > len(result):
            break
        result[end : end + 4] = zlib.crc32(result[start + 4 : end]).to_bytes(4, "big")
        start = end + 4
    return bytes(result)
