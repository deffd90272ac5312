import numpy as np
import pytest
from PIL import Image

from fairseq_vgs.data.pictures import Augmentation, Variation, draw_variation


def vary(seed=0, **settings):
    return draw_variation(Augmentation(**settings), np.random.default_rng(seed))


def test_draws_do_not_depend_on_what_is_switched_on():
    assert vary().draws == vary(crop_scale=0.3, flip=True, jitter=0.2).draws
    assert vary(seed=1).draws != vary(seed=2).draws


@pytest.mark.parametrize("size", [(640, 480), (10, 300), (1, 1)])
def test_crops_stay_inside_and_keep_the_share_asked_for(size):
    width, height = size
    shares, aspects = [], []
    for seed in range(300):
        x0, y0, x1, y1 = vary(seed, crop_scale=0.4).box(width, height)
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        shares.append((x1 - x0) * (y1 - y0) / (width * height))
        aspects.append((x1 - x0) / (y1 - y0))
    assert max(shares) <= 1 + 1e-9
    if size == (640, 480):
        assert min(shares) >= 0.37  # sides that would exceed the picture are cut to it
        assert np.mean(shares) == pytest.approx(0.7, abs=0.05)
        assert 0.74 < min(aspects) < 0.8 and 1.25 < max(aspects) < 1.34


def test_a_crop_is_that_of_its_draws():
    half = Variation(Augmentation(crop_scale=0.25), (0.0, 0.5, 1 / 4, 3 / 4, 0.9, 0.5, 0.5, 0.5))
    assert half.box(100, 100) == pytest.approx((12.5, 37.5, 62.5, 87.5))


def test_flip_mirrors_half_of_the_pictures_and_only_if_asked():
    picture = Image.new("RGB", (2, 1))
    picture.putpixel((0, 0), (255, 0, 0))
    mirrored = [vary(seed, flip=True).colour(picture).getpixel((1, 0))[0] == 255 for seed in range(200)]
    assert 70 < sum(mirrored) < 130
    assert all(vary(seed).colour(picture).getpixel((0, 0))[0] == 255 for seed in range(20))


def test_jitter_changes_brightness_contrast_and_saturation_within_its_bounds():
    grey, red = Image.new("RGB", (4, 4), (100, 100, 100)), Image.new("RGB", (4, 4), (200, 50, 50))
    levels = [vary(seed, jitter=0.2).colour(grey).getpixel((0, 0))[0] for seed in range(100)]
    assert 79 <= min(levels) < 85 and 115 < max(levels) <= 121
    spread = [
        max(pixel) - min(pixel)
        for pixel in (vary(s, jitter=0.2).colour(red).getpixel((0, 0)) for s in range(50))
    ]
    assert min(spread) < 140 < 160 < max(spread)
    assert vary(jitter=0.0).colour(red).tobytes() == red.tobytes()
