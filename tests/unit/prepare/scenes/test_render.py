from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fairseq_vgs.prepare.scenes.render import (
    GAP_PIXELS,
    PixelBox,
    change_speed,
    compose_caption,
    compose_picture,
    draw_orders,
    draw_sizes,
    place_boxes,
)

SHAPES = st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), min_size=1, max_size=6)


def apart(one: PixelBox, other: PixelBox) -> bool:
    """Say whether at least ``GAP_PIXELS`` lie between two boxes in one direction."""
    return (
        one.right + GAP_PIXELS <= other.left
        or other.right + GAP_PIXELS <= one.left
        or one.lower + GAP_PIXELS <= other.upper
        or other.lower + GAP_PIXELS <= one.upper
    )


@settings(deadline=None)
@given(SHAPES, st.integers(64, 300), st.integers(0, 1000))
def test_boxes_lie_inside_and_apart(shapes: list[tuple[int, int]], canvas: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    sizes = draw_sizes(shapes, canvas, generator)
    boxes = place_boxes(sizes, canvas, generator)
    for box, size in zip(boxes, sizes, strict=True):
        assert (box.right - box.left, box.lower - box.upper) == size
        assert 0 <= box.left < box.right <= canvas
        assert 0 <= box.upper < box.lower <= canvas
    assert all(apart(one, other) for one, other in combinations(boxes, 2))


def test_a_layout_without_luck_falls_back_to_a_grid() -> None:
    # Four squares of this size fit in one arrangement only, which no random draw will hit.
    boxes = place_boxes([(46, 46)] * 4, 100, np.random.default_rng(0))
    assert all(apart(one, other) for one, other in combinations(boxes, 2))
    assert {(box.left // 50, box.upper // 50) for box in boxes} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_proportions_are_kept_and_sizes_vary() -> None:
    generator = np.random.default_rng(0)
    sizes = [draw_sizes([(160, 80), (50, 100)], 224, generator) for _ in range(50)]
    assert all(abs(wide[0] / wide[1] - 2) < 0.1 and abs(high[1] / high[0] - 2) < 0.1 for wide, high in sizes)
    assert len({wide for wide, _ in sizes}) > 10


def test_pictures_stand_in_their_boxes_and_nowhere_else() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    pictures = [Image.new("RGB", (80, 60), colour) for colour in colours]
    canvas, boxes = compose_picture(pictures, 224, np.random.default_rng(3))
    pixels = np.asarray(canvas).copy()
    for box, colour in zip(boxes, colours, strict=True):
        inside = pixels[box.upper : box.lower, box.left : box.right]
        assert (inside == colour).all()
        inside[:] = 255
    assert (pixels == 255).all()


def test_relative_box() -> None:
    assert PixelBox(0, 56, 112, 224).relative_to(224) == (0.0, 0.25, 0.5, 1.0)


@pytest.mark.parametrize(("n_objects", "n_captions"), [(1, 3), (2, 2), (3, 6), (2, 5), (4, 2)])
def test_orders_differ_as_long_as_there_are_others(n_objects: int, n_captions: int) -> None:
    orders = draw_orders(n_objects, n_captions, np.random.default_rng(0))
    assert len(orders) == n_captions
    assert all(sorted(order) == list(range(n_objects)) for order in orders)
    n_orders = {1: 1, 2: 2, 3: 6, 4: 24}[n_objects]
    assert len(set(orders)) == min(n_orders, n_captions)


def test_more_captions_keep_the_first_ones() -> None:
    few, many = (draw_orders(4, number, np.random.default_rng(5)) for number in (2, 9))
    assert many[:2] == few


@pytest.mark.parametrize("percent", [90, 97, 100, 110])
def test_speed_changes_duration_and_pitch(percent: int) -> None:
    samples = np.sin(2 * np.pi * 400 * np.arange(16_000) / 16_000)
    changed = change_speed(samples, percent)
    assert abs(len(changed) - 16_000 * 100 / percent) <= 1
    spectrum = np.abs(np.fft.rfft(changed))
    hertz = np.argmax(spectrum) * 16_000 / len(changed)
    assert abs(hertz - 400 * percent / 100) < 2


def test_caption_holds_the_names_in_order_with_pauses() -> None:
    names = {4: np.full(1600, 0.1), 7: np.full(3200, 0.2)}
    asked = []

    def name_at_speed(name: int, percent: int) -> np.ndarray:
        asked.append((name, percent))
        return names[name]

    lengths = set()
    for seed in range(20):
        caption = compose_caption([7, 4], name_at_speed, np.random.default_rng(seed))
        lengths.add(len(caption))
        np.testing.assert_array_equal(caption[caption > 0], np.concatenate([names[7], names[4]]))
        loud = np.flatnonzero(caption)
        pause = np.diff(loud).max() - 1
        assert 0.03 * 16_000 - 1 <= pause <= 0.15 * 16_000 + 1
        assert loud[0] <= 0.05 * 16_000 + 1
        assert len(caption) - loud[-1] <= 0.05 * 16_000 + 2
    assert len(lengths) > 10
    assert all(90 <= percent <= 110 for _, percent in asked)
    assert len({percent for _, percent in asked}) > 5
    # one speed for all names of a caption
    assert all(asked[i][1] == asked[i + 1][1] for i in range(0, len(asked), 2))
