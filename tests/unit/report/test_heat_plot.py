"""The figure of a heat map: boxes where the regions are."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from fairseq_vgs.features.heat_map import HeatMap
from fairseq_vgs.report import heat_plot


@pytest.mark.parametrize("size", [(4, 2), (300, 200)])
def test_boxes_end_where_the_picture_ends(size):
    """To the edge of tiny pictures too, of which half a pixel is much; the line is not cut."""
    boxes = np.array([[0, 0, 1, 1], [0.25, 0.5, 0.5, 1]], dtype=np.float32)
    heat = HeatMap(np.zeros((2, 3), dtype=np.float32), boxes, np.ones(9, dtype=np.float32))
    axes = Figure().subplots()
    heat_plot._draw_picture(axes, heat, Image.new("RGB", size))
    width, height = size
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, width), (height, 0))
    assert axes.images[0].get_extent() == [0, width, height, 0]
    whole, part = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert whole.get_bbox().bounds == (0, 0, width, height)
    assert part.get_bbox().bounds == (width / 4, height / 2, width / 4, height / 2)
    assert not whole.get_clip_on()
