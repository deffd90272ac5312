from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_vgs.files.tables import parse_rows
from fairseq_vgs.manifest.tables import REGIONS
from fairseq_vgs.regions.writer import ROUNDING_PIXELS, boxes_in_parts, grid_boxes, region_lines

pixels = st.floats(-3000, 3000, width=32)
pictures = st.tuples(st.integers(1, 2000), st.integers(1, 2000))


@settings(deadline=None, max_examples=200)
@given(boxes=st.lists(st.tuples(*[pixels] * 4), min_size=1, max_size=5), size=pictures)
def test_boxes_are_parts_of_the_picture_whatever_the_detector_says(
    boxes: list[tuple[float, float, float, float]], size: tuple[int, int]
) -> None:
    width, height = size
    found = boxes_in_parts(np.array(boxes, np.float32), width=width, height=height)
    assert found.boxes.dtype == np.float32
    n_clipped, worst = 0, 0.0
    for box, part, usable in zip(boxes, found.boxes.tolist(), found.usable.tolist(), strict=True):
        limits = (width, height, width, height)
        for value, limit, share in zip(box, limits, part, strict=True):
            assert share == pytest.approx(min(max(value / limit, 0.0), 1.0), abs=1e-6)
            assert 0 <= share <= 1
        assert usable == (part[0] < part[2] and part[1] < part[3])
        outside = max(max(-value, value - limit, 0.0) for value, limit in zip(box, limits, strict=True))
        n_clipped += outside > ROUNDING_PIXELS
        worst = max(worst, outside)
    assert found.n_clipped == n_clipped
    assert found.overhang == (pytest.approx(worst, rel=1e-5) if n_clipped else 0)


@settings(deadline=None, max_examples=200)
@given(
    boxes=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=5),
    first=st.integers(0, 10**9),
)
def test_lines_read_back_as_the_same_float32(
    boxes: list[tuple[float, float, float, float]], first: int
) -> None:
    array = np.array([box for box in boxes if box[0] < box[2] and box[1] < box[3]], np.float32).reshape(-1, 4)
    lines = region_lines("я x", first, array).splitlines()
    table = parse_rows(lines, REGIONS, name="x", start=0, order=range(6))
    assert [(row.image_id, row.feature_row) for row in table.rows] == [
        ("я x", first + number) for number in range(len(array))
    ]
    read = np.array([(row.x0, row.y0, row.x1, row.y1) for row in table.rows], np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(read, array)


def test_a_grid_covers_the_picture_without_gaps() -> None:
    boxes = grid_boxes(2, 3)
    assert len(boxes) == 6
    np.testing.assert_array_equal(boxes[0], np.array([0, 0, 1 / 3, 0.5], np.float32))
    np.testing.assert_array_equal(boxes[4], np.array([1 / 3, 0.5, 2 / 3, 1], np.float32))
    assert ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum() == pytest.approx(1)
    assert grid_boxes(1, 1).tolist() == [[0, 0, 1, 1]]
