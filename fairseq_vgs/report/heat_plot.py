"""The figure of one heat map: the picture with its regions, the loudness of the speech, and the map."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fairseq_vgs.features.heat_map import HeatMap
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.media.pictures import WHITE, read_picture
from fairseq_vgs.media.rates import FRAME_STRIDE, SAMPLE_RATE
from fairseq_vgs.report.plots import BLUE, GREY, ORANGE, require_suffix, save_drawing

_INCHES = 11.0, 4.2
_MOST_NAMED = 20  # regions whose rows and boxes have numbers


def plot_heat_map(heat: HeatMap, picture: Image.Image | None, *, title: str = "") -> Image.Image:
    """Draw a heat map with its picture, upright and RGB, or with boxes on white; the result is RGB."""
    file = io.BytesIO()
    save_drawing(lambda: _draw(heat, picture, title), {".png": file})
    return read_picture(file.getvalue())


def write_heat_map(
    heat: HeatMap, picture: Image.Image | None, output: Path, *, title: str = "", force: bool = False
) -> None:
    """Write the same as .png, .pdf or .svg.

    Raises:
        FaultError: ``plot.suffix``, another format; ``package.missing``, no matplotlib.
        OutputExistsError: the file exists and ``force`` is off.
    """
    suffix = require_suffix(output)
    with atomic_write(output, force=force, mode="wb") as file:
        save_drawing(lambda: _draw(heat, picture, title), {suffix: file})


def _draw(heat: HeatMap, picture: Image.Image | None, title: str) -> Any:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=_INCHES, layout="constrained")
    parts: Any = drawing.subfigures(1, 2, width_ratios=(1, 2))
    left, right = parts
    _draw_picture(left.subplots(), heat, picture)
    above, below = right.subplots(2, 1, sharex=True, height_ratios=(1, 4))
    _draw_loudness(above, heat)
    _draw_map(right, below, heat)
    if title:
        drawing.suptitle(title, fontsize=10)
    return drawing


def _draw_picture(axes: Any, heat: HeatMap, picture: Image.Image | None) -> None:
    from matplotlib.patches import Rectangle

    shown = Image.new("RGB", (100, 100), WHITE) if picture is None else picture
    if heat.is_cropped:
        shown = _central_square(shown)
    # pixels from edge to edge, as boxes count them: matplotlib's own axes begin half a pixel before
    axes.imshow(shown, extent=(0, shown.width, shown.height, 0))
    axes.set_axis_off()
    is_named = len(heat.boxes) <= _MOST_NAMED
    for number, box in enumerate(heat.boxes * np.array([shown.width, shown.height] * 2), start=1):
        x0, y0, x1, y1 = box
        corner, line = (x0, y0), dict[str, Any](fill=False, edgecolor=BLUE, linewidth=1.2)
        axes.add_patch(Rectangle(corner, x1 - x0, y1 - y0, clip_on=False, **line))
        if is_named:
            named = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
            axes.text(x0, y0, str(number), fontsize=9, color=BLUE, va="top", ha="left", bbox=named)


def _central_square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _draw_loudness(axes: Any, heat: HeatMap) -> None:
    times = np.arange(len(heat.loudness)) * FRAME_STRIDE / SAMPLE_RATE
    axes.fill_between(times, heat.loudness, color=GREY, alpha=0.6, linewidth=0, step="post")
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("loudness", fontsize=9)


def _draw_map(figure: Any, axes: Any, heat: HeatMap) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("heat", [BLUE, "white", ORANGE])
    peak = float(np.abs(heat.values).max()) or 1.0
    n_regions = len(heat.values)
    extent = (0.0, heat.seconds, n_regions + 0.5, 0.5)
    drawn = axes.imshow(
        heat.values,
        cmap=colours,
        vmin=-peak,
        vmax=peak,
        aspect="auto",
        extent=extent,
        interpolation="nearest",
    )
    if n_regions <= _MOST_NAMED:
        axes.set_yticks(range(1, n_regions + 1))
    axes.set_xlabel("time, s", fontsize=9)
    axes.set_ylabel("region", fontsize=9)
    figure.colorbar(drawn, ax=axes, label="heat (similarity)", pad=0.01)
