"""Find the objects of a picture on white, such as those that ``fairseq-vgs prepare scenes`` composes.

It needs nothing of this package, since exported models take it along.

Shapes: R objects. A box is x0, y0, x1, y1 from the upper left corner, in fractions of the picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

OBJECTS_ON_WHITE = "objects on white"
"""What ``summary.json`` says of such regions, under ``where``."""

_DARKEST_WHITE = 235  # lossy files have shades of white
_REACH = 0.008  # parts of an object are closer than twice this share of the picture's longer side
_SMALLEST = 0.0005  # share of the picture's area


def object_boxes(picture: Image.Image) -> npt.NDArray[np.float32]:
    """Return the boxes of what is not white in an RGB picture, float32[R, 4], the largest first.

    Parts whose boxes nearly touch are one object. A picture without any is one box.
    """
    from scipy import ndimage  # slow to import

    is_object = np.asarray(picture).min(axis=2) < _DARKEST_WHITE
    labels, _ = ndimage.label(is_object, structure=np.ones((3, 3)))
    found = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
    merged = _merged(np.array(found, dtype=np.float64).reshape(-1, 4), _REACH * max(picture.size))
    boxes = merged / np.array([picture.width, picture.height] * 2)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = [number for number in np.argsort(-areas, kind="stable") if areas[number] >= _SMALLEST]
    if not kept:
        return np.array([[0, 0, 1, 1]], dtype=np.float32)
    return boxes[kept].astype(np.float32)


def _merged(boxes: np.ndarray, reach: float) -> np.ndarray:
    """Join boxes that meet when each grows by ``reach``, until none do."""
    while len(boxes) > 1:
        low, high = boxes[:, :2] - reach, boxes[:, 2:] + reach
        meets = np.all((low[:, None] < high[None]) & (low[None] < high[:, None]), axis=2)
        first = meets.argmax(axis=1)  # of the boxes that each meets
        joined = [boxes[first == number] for number in np.unique(first)]
        smaller = np.array([np.hstack([part[:, :2].min(axis=0), part[:, 2:].max(axis=0)]) for part in joined])
        if len(smaller) == len(boxes):
            break
        boxes = smaller
    return boxes
