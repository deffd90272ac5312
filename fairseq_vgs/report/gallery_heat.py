"""The gallery's heat maps: a picture with its regions, and a map of regions over time.

The maps need no script; ``heat.js`` only moves the playback cursor and highlights boxes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fairseq_vgs.arrays import F32
from fairseq_vgs.features.heat_map import HOP_SECONDS, SILENCED_SECONDS, HeatMap
from fairseq_vgs.media.pictures import encode_png
from fairseq_vgs.media.rates import FRAME_STRIDE, SAMPLE_RATE

NOTE = (
    f"Rows: regions, numbered in the picture. Columns: {1000 * HOP_SECONDS:g} ms of speech; above, its "
    "loudness. Orange: the region and the moment raise the similarity only together; blue: together they "
    "lower it. Measured by leaving out each region, each moment (silence for "
    f"{1000 * SILENCED_SECONDS:g} ms around it), and both. Play the caption: boxes light up with the moment; "
    "click a map to go there."
)
_MATCH, _MISMATCH, _LOUD = (213, 94, 0), (0, 114, 178), (128, 137, 147)
_LOUDNESS_PIXELS = 32
_ROW_PIXELS, _MAP_PIXELS = (9, 40), 300
_TICK_SECONDS = 0.5
_MAX_TICKS = 10


@dataclass(frozen=True)
class HeatFigure:
    """One picture's heat map on the page.

    ``picture`` (None if it cannot be shown), ``cells`` and ``loudness`` are addresses; the latter of what
    ``draw_cells`` and ``draw_loudness`` return. ``peak`` is the similarity drawn in full colour, the same for
    all maps of a caption.
    """

    title: str
    is_hit: bool
    picture: str | None
    cells: str
    loudness: str
    heat: HeatMap
    peak: float

    hop_seconds = HOP_SECONDS

    @property
    def is_cropped(self) -> bool:
        """Whether only the central square of the picture was used."""
        return self.heat.is_cropped

    @property
    def shares(self) -> str:
        """Heat relative to the peak as JSON: a list of moments per region."""
        return json.dumps(np.round(_shares(self.heat, self.peak), 2).tolist())

    @property
    def boxes(self) -> list[str]:
        """CSS of every region's box."""
        return [
            f"left: {x0:.1f}%; top: {y0:.1f}%; width: {x1 - x0:.1f}%; height: {y1 - y0:.1f}%"
            for x0, y0, x1, y1 in 100 * self.heat.boxes.astype(float)
        ]

    @property
    def row_pixels(self) -> int:
        """Height of a region's row."""
        fewest, most = _ROW_PIXELS
        return min(most, max(fewest, _MAP_PIXELS // len(self.heat.boxes)))

    @property
    def loudness_width(self) -> str:
        """Width of the loudness on the time axis of the map."""
        n_frames = self.heat.seconds * SAMPLE_RATE / FRAME_STRIDE
        return f"{100 * len(self.heat.loudness) / n_frames:.2f}%"

    @property
    def ticks(self) -> list[tuple[str, str]]:
        """Positions and labels of the time axis, without one that would overflow at the end."""
        seconds = self.heat.seconds
        step = _TICK_SECONDS * max(1, int(np.ceil(seconds / _TICK_SECONDS / _MAX_TICKS)))
        times = np.arange(0.0, seconds - step / 2, step)
        return [(f"{100 * time / seconds:.2f}%", f"{time:g} s") for time in times]

    @property
    def description(self) -> str:
        """Text that says when each region's heat is highest."""
        peaks = [
            f"region {number} at {(int(row.argmax()) + 0.5) * HOP_SECONDS:.2f} s"
            for number, row in enumerate(self.heat.values, start=1)
        ]
        return f"Heat map of {len(peaks)} regions over {self.heat.seconds:.1f} s, highest: {', '.join(peaks)}"


def peak_heat(maps: Sequence[HeatMap]) -> float:
    """Return the largest heat, positive or negative, of a caption's maps."""
    return max(float(np.abs(heat.values).max()) for heat in maps)


def draw_cells(heat: HeatMap, peak: float) -> bytes:
    """Return a PNG with one pixel per region and moment, transparent where the heat is 0."""
    share = _shares(heat, peak)
    return _png(np.where((share > 0)[..., None], _MATCH, _MISMATCH), 255 * np.abs(share))


def draw_loudness(heat: HeatMap) -> bytes:
    """Return a PNG of the loudness as a filled curve, one column per frame."""
    height = np.arange(_LOUDNESS_PIXELS, 0, -1)[:, None] - 0.5
    inside = np.clip(heat.loudness * _LOUDNESS_PIXELS - height + 0.5, 0.0, 1.0)
    return _png(np.broadcast_to(_LOUD, (*inside.shape, 3)), 160 * inside)


def _shares(heat: HeatMap, peak: float) -> F32:
    return np.asarray(np.clip(heat.values / (peak or 1.0), -1.0, 1.0))


def _png(colours: np.ndarray, alpha: np.ndarray) -> bytes:
    pixels = np.concatenate([colours, np.round(alpha)[..., None]], axis=-1).astype(np.uint8)
    return encode_png(Image.fromarray(pixels))
