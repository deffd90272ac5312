"""Render one scene: pictures on a white canvas, and captions joined from their recorded names.

Pixels are counted from the canvas's upper left corner; times are in samples at 16 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from PIL import Image

from fairseq_vgs.media.encode import limit_peak, resample
from fairseq_vgs.media.pictures import WHITE
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.media.sound import Samples

MAX_SIDE_SHARE = 0.5
MIN_SIDE_SHARE_OF_MAX = 0.6
GAP_PIXELS = 4
PLACEMENT_ATTEMPTS = 200
PAUSE_SECONDS = (0.03, 0.15)
EDGE_SECONDS = (0.0, 0.05)
# Speed in hundredths: resampling by a ratio of small whole numbers is exact and quick.
SPEED_PERCENT = (90, 110)

NameAtSpeed = Callable[[int, int], Samples]


@dataclass(frozen=True)
class PixelBox:
    """Edges of a picture in pixels; right and lower are exclusive."""

    left: int
    upper: int
    right: int
    lower: int

    def relative_to(self, canvas_size: int) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 in [0, 1]."""
        size = canvas_size
        return self.left / size, self.upper / size, self.right / size, self.lower / size


def draw_sizes(
    shapes: Sequence[tuple[int, int]], canvas_size: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """Draw the size (width, height) of each picture, with the proportions of its shape."""
    per_row = math.ceil(math.sqrt(len(shapes)))
    largest = min(int(MAX_SIDE_SHARE * canvas_size), canvas_size // per_row) - GAP_PIXELS
    smallest = max(1, round(MIN_SIDE_SHARE_OF_MAX * largest))
    sizes = []
    for width, height in shapes:
        side, longer = int(generator.integers(smallest, largest + 1)), max(width, height)
        sizes.append((max(1, round(width * side / longer)), max(1, round(height * side / longer))))
    return sizes


def place_boxes(
    sizes: Sequence[tuple[int, int]], canvas_size: int, generator: np.random.Generator
) -> list[PixelBox]:
    """Draw positions so that no two pictures overlap or touch.

    Whole layouts are drawn until one fits; if none does, each picture gets its own cell of a grid.
    """
    extents = np.array(sizes)
    room = canvas_size - extents + 1
    # [attempts, pictures, (x, y)]: all attempts at once, for speed.
    corners = generator.integers(0, room, size=(PLACEMENT_ATTEMPTS, len(sizes), 2))
    ends = corners + extents + GAP_PIXELS
    meets = (corners[:, :, None] < ends[:, None, :]) & (corners[:, None, :] < ends[:, :, None])
    overlaps = meets.all(axis=3)
    overlaps[:, np.arange(len(sizes)), np.arange(len(sizes))] = False
    fitting = np.flatnonzero(~overlaps.any(axis=(1, 2)))
    chosen = corners[fitting[0]] if len(fitting) else _grid_corners(extents, canvas_size, generator)
    return [
        PixelBox(int(x), int(y), int(x) + width, int(y) + height)
        for (x, y), (width, height) in zip(chosen, sizes, strict=True)
    ]


def _grid_corners(extents: np.ndarray, canvas_size: int, generator: np.random.Generator) -> np.ndarray:
    per_row = math.ceil(math.sqrt(len(extents)))
    cell = canvas_size // per_row
    cells = generator.permutation(per_row * per_row)[: len(extents)]
    origins = np.stack([cells % per_row, cells // per_row], axis=1) * cell
    return np.asarray(origins + generator.integers(0, cell - GAP_PIXELS - extents + 1))


def compose_picture(
    pictures: Sequence[Image.Image], canvas_size: int, generator: np.random.Generator
) -> tuple[Image.Image, list[PixelBox]]:
    """Return the canvas, RGB and square, and the box of each picture."""
    sizes = draw_sizes([picture.size for picture in pictures], canvas_size, generator)
    boxes = place_boxes(sizes, canvas_size, generator)
    canvas = Image.new("RGB", (canvas_size, canvas_size), WHITE)
    for picture, size, box in zip(pictures, sizes, boxes, strict=True):
        canvas.paste(picture.resize(size, Image.Resampling.LANCZOS), (box.left, box.upper))
    return canvas, boxes


def draw_orders(n_objects: int, n_captions: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Draw the order of the objects in each caption; no order repeats before all were used."""
    orders = list(permutations(range(n_objects)))
    shuffled = generator.permutation(len(orders))
    return [orders[int(shuffled[number % len(orders)])] for number in range(n_captions)]


def change_speed(samples: Samples, percent: int) -> Samples:
    """Play the recording at ``percent`` of its speed; the pitch changes too."""
    return resample(samples, percent, 100)


def _silence(bounds: tuple[float, float], generator: np.random.Generator) -> Samples:
    """Return silence of a drawn duration, uniform between bounds in seconds."""
    return np.zeros(round(generator.uniform(*bounds) * SAMPLE_RATE))


def compose_caption(
    names: Sequence[int], name_at_speed: NameAtSpeed, generator: np.random.Generator
) -> Samples:
    """Join recorded names, numbered in spoken order, with random pauses, all at one speed of 90 to 110 %."""
    percent = int(generator.integers(SPEED_PERCENT[0], SPEED_PERCENT[1] + 1))
    parts = []
    for place, name in enumerate(names):
        parts += [_silence(PAUSE_SECONDS if place else EDGE_SECONDS, generator), name_at_speed(name, percent)]
    return limit_peak(np.concatenate([*parts, _silence(EDGE_SECONDS, generator)]))
