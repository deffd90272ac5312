"""The heat map of one recording and one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fairseq_vgs.arrays import F32
from fairseq_vgs.features.heat_map import HOP_SECONDS, HeatMap
from fairseq_vgs.report.heat_plot import plot_heat_map, write_heat_map


@dataclass(frozen=True, kw_only=True)
class PairHeatMap(HeatMap):
    """Which regions of a picture go with which moments of a recording.

    Shapes: R regions, W moments of 0.1 s.

    >>> import fairseq_vgs as vgs
    >>> heat = vgs.load("run").heat_map("a.wav", "x.jpg")
    >>> heat.values.shape, heat.times.shape, heat.boxes.tolist()
    ((2, 3), (3,), [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]])
    >>> picture = heat.plot("heat.png")

    Attributes:
        values: float32[R, W], positive where the region and the moment raise the similarity together,
            negative where they lower it.
        boxes: float32[R, 4] x0, y0, x1, y1 of the regions as fractions of the picture.
        loudness: float32[frames of 20 ms] of the speech, the loudest being 1.
        is_cropped: the boxes are of the picture's central square (``task.image_fit=crop``).
        similarity: of the recording and the picture.
        picture: upright, RGB; None of an image of a split.
        title: names of the two.
    """

    similarity: float
    picture: Image.Image | None
    title: str = ""

    @property
    def times(self) -> F32:
        """float32[W]: where each moment starts, in seconds."""
        return np.arange(self.values.shape[1], dtype=np.float32) * np.float32(HOP_SECONDS)

    def plot(self, path: str | Path | None = None, *, force: bool = False) -> Image.Image:
        """Draw the picture with its regions, the loudness and the map.

        A notebook shows what is returned; elsewhere call its ``show()``.

        Args:
            path: where to write it too, as .png, .pdf or .svg.
            force: replace an existing file.

        Raises:
            FaultError: ``plot.suffix``, another format, or ``package.missing``, no matplotlib.
            OutputExistsError: the file exists and ``force`` is off.
        """
        title = f"{self.title}: similarity {self.similarity:.3g}"
        if path is not None:
            write_heat_map(self, self.picture, Path(path), title=title, force=force)
        return plot_heat_map(self, self.picture, title=title)
