import numpy as np
import pytest
from PIL import Image

from fairseq_vgs.data import pictures
from fairseq_vgs.data.errors import BadItemError
from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.manifest.location import MediaLocation

PLACE = "images.tsv:4 (a.png)"


def load(path, image_size=8):
    return load_picture(MediaLocation(path), place=PLACE, image_size=image_size)


def save(path, image):
    image.save(path)
    return path


def test_scale_and_axes(tmp_path):
    picture = load(save(tmp_path / "a.png", Image.new("RGB", (40, 20), (255, 0, 102))))
    assert picture.shape == (3, 8, 8)
    assert picture.dtype == np.float32
    np.testing.assert_allclose(picture[:, 3, 3], [1.0, -1.0, 102 / 127.5 - 1], atol=1e-6)


def test_transparent_parts_become_white(tmp_path):
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 10, 20))
    picture = load(save(tmp_path / "a.png", image), image_size=20)
    np.testing.assert_allclose(picture[:, 10, 18], [1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(picture[:, 10, 1], [-1, -1, 1], atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16"])
def test_all_modes_become_rgb(tmp_path, mode):
    image = Image.new("L", (9, 9), 255).convert(mode) if mode != "I;16" else None
    if image is None:
        image = Image.fromarray(np.full((9, 9), 65_535, dtype=np.uint16))
    suffix = "tiff" if mode == "CMYK" else "png"
    picture = load(save(tmp_path / f"a.{suffix}", image))
    np.testing.assert_allclose(picture, 1.0, atol=0.02)


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_allclose(load(tmp_path / "a.png"), 1.0, atol=1e-6)


def test_camera_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (32, 16), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 16, 16))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: left becomes top
    image.save(tmp_path / "a.jpg", exif=exif)
    picture = load(tmp_path / "a.jpg", image_size=16)
    assert picture[0, 2].min() > 0.8
    assert picture[0, 13].max() < -0.8


def test_reads_a_slice_of_an_archive(tmp_path):
    content = save(tmp_path / "a.png", Image.new("RGB", (5, 5), (9, 9, 9))).read_bytes()
    (tmp_path / "x.tar").write_bytes(b"-" * 10 + content)
    location = MediaLocation(tmp_path / "x.tar", 10, len(content))
    assert load_picture(location, place=PLACE, image_size=4).shape == (3, 4, 4)


def test_bad_pictures_are_named_with_their_line(tmp_path, monkeypatch):
    good = save(
        tmp_path / "good.png",
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)),
    )
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    for path in ("text.png", "half.png", "empty.jpg", "absent.png"):
        with pytest.raises(BadItemError, match="does not decode as a picture") as caught:
            load(tmp_path / path)
        assert str(caught.value).startswith(PLACE + ": ")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 8000)
    with pytest.raises(BadItemError, match=r"at most 8000 pixels, got '90x90'"):
        load(good)
