"""Exported folders read pictures as training does: every lossless encoding, and those with loss."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from unit.media.test_pictures import EQUAL, colours, encoded

from fairseq_vgs.checkpoints.exports.modeling.image_processing_vgs import VgsImageProcessor
from fairseq_vgs.checkpoints.exports.modeling.pictures_vgs import FORMATS, TURNS, open_picture, rgb
from fairseq_vgs.checkpoints.exports.modeling.region_processing_vgs import VgsRegionProcessor
from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media import pictures
from fairseq_vgs.media.pictures import read_picture

CMYK = Image.fromarray(np.random.default_rng(3).integers(0, 256, (8, 12, 4), dtype=np.uint8), "CMYK")
FOUR_GREYS = Image.fromarray((np.arange(96).reshape(8, 12) % 4).astype(np.uint8))
FILES = {
    **{name: content for name, (content, _) in EQUAL.items()},
    "TIFF, CMYK": encoded(CMYK, "TIFF"),
    "JPEG, CMYK": encoded(CMYK, "JPEG"),
    "JPEG, grey": encoded(colours().convert("L"), "JPEG"),
    "WEBP": encoded(colours(), "WEBP"),
    "PNG, 2 bits, one transparent": encoded(FOUR_GREYS, "PNG", bits=2, transparency=2),
    "TIFF, turned 16-bit grey": encoded(
        Image.fromarray(np.arange(96, dtype=np.uint16).reshape(8, 12) * 600), "TIFF", tiffinfo={274: 6}
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_encoding(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(FILES[name])
    wanted = read_picture(path)
    np.testing.assert_array_equal(np.asarray(rgb(open_picture(path))), np.asarray(wanted))
    read = VgsImageProcessor(image_size=6, fit="crop")
    pixels = load_picture(MediaLocation(path), place="here", image_size=6, fit="crop")
    for given in (path, Image.open(io.BytesIO(FILES[name]))):
        np.testing.assert_array_equal(read(given)["pixel_values"][0].numpy(), pixels)
    whole = VgsRegionProcessor(grid=[1, 1], image_size=12)(path)["pixel_values"][0, 0].numpy()
    square = pictures.pad_to_square(wanted)
    np.testing.assert_array_equal(whole, np.asarray(square.resize((12, 12))).transpose(2, 0, 1))


def test_files_say_what_is_read():
    assert FORMATS == pictures.FORMATS
    assert TURNS == pictures._TURNS


@pytest.mark.parametrize("mode", ["F", "I", "HSV", "LAB"])
def test_pixels_without_a_defined_brightness_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=f"mode {mode}"):
        VgsImageProcessor()(Image.new(mode, (8, 8)))


def test_other_formats_are_refused(tmp_path: Path) -> None:
    colours().save(tmp_path / "a.ico")
    with pytest.raises(OSError, match="cannot identify"):
        VgsImageProcessor()(tmp_path / "a.ico")
