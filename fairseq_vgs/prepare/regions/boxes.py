"""Boxes of regions: from pixels to parts of the picture, and the lines of ``regions.tsv``.

Shapes: R regions of a picture. A box is x0, y0, x1, y1 from the picture's left upper corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

# Detectors compute in float32 at another scale: what is outside by less is no fault of theirs.
ROUNDING_PIXELS = 0.01


@dataclass(frozen=True)
class PartBoxes:
    """Boxes in parts of the picture, as ``regions.tsv`` holds them.

    Attributes:
        boxes: float32[R, 4] in [0, 1].
        usable: bool[R], false for boxes of no area within the picture.
        n_clipped: Boxes that stood out of the picture by more than ``ROUNDING_PIXELS``.
        overhang: By how many pixels the worst one stood out; 0 where none did.
    """

    boxes: FloatArray
    usable: NDArray[np.bool_]
    n_clipped: int
    overhang: float


def boxes_in_parts(boxes: FloatArray, *, width: int, height: int) -> PartBoxes:
    """Divides boxes by the picture's size and clips them to it.

    Args:
        boxes: float32[R, 4] in pixels, finite.
        width: The picture's, in pixels.
        height: The picture's, in pixels.
    """
    size = np.array([width, height, width, height], dtype=np.float32)
    outside = np.maximum(np.maximum(-boxes, boxes - size), 0).max(axis=1, initial=0)
    # float32 by float32, as FaST-VGS does it: the same numbers enter the same model.
    parts: FloatArray = np.clip(boxes / size, 0, 1).astype(np.float32)
    usable = (parts[:, 0] < parts[:, 2]) & (parts[:, 1] < parts[:, 3])
    clipped = outside > ROUNDING_PIXELS
    overhang = float(outside.max(initial=0)) if clipped.any() else 0.0
    return PartBoxes(parts, usable, int(np.count_nonzero(clipped)), overhang)


def region_lines(image_id: str, first_row: int, boxes: FloatArray) -> str:
    """Returns the lines of ``regions.tsv`` of a picture whose features stand one below the other.

    Nine digits are enough to give every float32 back exactly.
    """
    return "".join(
        f"{image_id}\t{row}\t{x0:.9g}\t{y0:.9g}\t{x1:.9g}\t{y1:.9g}\n"
        for row, (x0, y0, x1, y1) in enumerate(boxes.tolist(), start=first_row)
    )


def grid_boxes(rows: int, columns: int) -> FloatArray:
    """Returns the boxes of a grid over the whole picture in reading order, float32[rows * columns, 4]."""
    across, down = np.arange(columns + 1) / columns, np.arange(rows + 1) / rows
    boxes = [(across[x], down[y], across[x + 1], down[y + 1]) for y in range(rows) for x in range(columns)]
    return np.array(boxes, dtype=np.float32)
