import numpy as np
import pytest
from PIL import Image
from support.faults import raises_fault

from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.pictures import Augmentation, Variation, load_picture
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media import pictures

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
    codes = {"text.png": "picture.unreadable", "half.png": "picture.unreadable", "empty.jpg": "file.empty"}
    for path, code in {**codes, "absent.png": "file.unreadable"}.items():
        with pytest.raises(BadItemError) as caught:
            load(tmp_path / path)
        assert [(item.place, item.code) for item in caught.value.faults] == [(PLACE, code)]
        assert "task.skip_bad=true" in str(caught.value)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 8000)
    with raises_fault("picture.too_large", error=BadItemError) as caught:
        load(good)
    assert "90 x 90" in str(caught.value)
    assert "8,000" in str(caught.value)


def gradient(width, height):
    """Make a picture whose red grows to the right and whose green grows downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    pixels[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return Image.fromarray(pixels)


def fixed(scale, *draws):
    return Variation(Augmentation(crop_scale=scale), (*draws, 0.9, 0.5, 0.5, 0.5))


def test_fit_crop_keeps_the_square_in_the_middle(tmp_path):
    path = save(tmp_path / "a.png", gradient(400, 100))
    squeezed = load(path, image_size=16)
    cropped = load_picture(MediaLocation(path), place=PLACE, image_size=16, fit="crop")
    assert squeezed[0, 8, 0] < -0.9 and squeezed[0, 8, 15] > 0.9
    np.testing.assert_allclose([cropped[0, 8, 0], cropped[0, 8, 15]], [-0.25, 0.25], atol=0.04)
    np.testing.assert_allclose(cropped[1], squeezed[1], atol=0.02)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_random_crop_shows_its_box(tmp_path, suffix):
    """A quarter of the area, aspect ratio 1, in the upper right corner."""
    path = tmp_path / f"a.{suffix}"
    gradient(640, 640).save(path, **({"quality": 95} if suffix == "jpg" else {}))
    variation = fixed(0.25, 0.0, 0.5, 1.0, 0.0)
    picture = load_picture(MediaLocation(path), place=PLACE, image_size=64, variation=variation)
    expected = np.linspace(0, 1, 64)
    np.testing.assert_allclose(picture[0, 30], expected, atol=0.05)
    np.testing.assert_allclose(picture[1, :, 30], expected - 1, atol=0.05)


@pytest.mark.parametrize("turn", range(1, 9))
def test_crops_are_of_the_upright_picture(tmp_path, turn):
    """However the camera stored it, the upper left quarter is the upper left quarter."""
    upright = gradient(512, 256)
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[turn]  # fmt: skip
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = turn
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    variation = fixed(0.125, 0.0, 0.5, 0.0, 0.0)  # 128 x 128 pixels of 512 x 256
    location = MediaLocation(tmp_path / "a.jpg")
    picture = load_picture(location, place=PLACE, image_size=32, variation=variation)
    np.testing.assert_allclose(picture[0, 16, [0, 31]], [-1, -0.5], atol=0.06)
    np.testing.assert_allclose(picture[1, [0, 31], 16], [-1, 0], atol=0.06)


def test_jpegs_are_decoded_no_larger_than_needed(tmp_path, monkeypatch):
    decoded, resize = [], Image.Image.resize

    def record(self, *args, **kwargs):
        decoded.append(self.size)
        return resize(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", record)
    path = save(tmp_path / "a.jpg", gradient(1280, 960))
    load(path, image_size=112)
    for share in (1 / 16, 0.999):
        variation = fixed(share, 0.0, 0.5, 0.5, 0.5)
        load_picture(MediaLocation(path), place=PLACE, image_size=112, variation=variation)
    assert decoded == [(320, 240), (640, 480), (160, 120)]
