"""The gallery's heat maps: a picture with its regions, beside them region by moment, with a playback cursor.

Drawn without a script; the page's one script (``gallery.js``) moves the cursor and lights the boxes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from fairseq_vgs.features.heat_map import HOP_SECONDS, SILENCED_SECONDS, HeatMap
from fairseq_vgs.media.rates import FRAME_STRIDE, SAMPLE_RATE

NOTE = (
    f"Rows: regions, numbered in the picture. Columns: {1000 * HOP_SECONDS:g} ms of speech; above, its "
    "loudness. Orange: similarity that is there only if both are, the region in the picture and the moment "
    "in the speech; blue: similarity that both together cost. Measured by leaving out: each region, each "
    f"moment (silence for {1000 * SILENCED_SECONDS:g} ms around it), and both. Play the caption: boxes light "
    "up with the moment; click a map to go there."
)
_MATCH, _MISMATCH = (213, 94, 0), (0, 114, 178)  # Okabe and Ito's vermilion and blue
_ROW_PIXELS, _MAP_PIXELS = (9, 40), 300
_TICK_SECONDS = 0.5
_MAX_TICKS = 10


@dataclass(frozen=True)
class HeatFigure:
    """One picture's heat map on the page.

    Attributes:
        title: what the picture is, such as "rank 1, wrong".
        is_hit: a correct answer.
        picture: address; None if it cannot be shown.
        cells: address of the PNG of `draw_cells`.
        heat: the values.
        peak: the similarity that is drawn in full colour, the same for all maps of a caption.
    """

    title: str
    is_hit: bool
    picture: str | None
    cells: str
    heat: HeatMap
    peak: float


def peak_heat(maps: Sequence[HeatMap]) -> float:
    """Return the largest heat, positive or negative, of a caption's maps."""
    return max(float(np.abs(heat.values).max()) for heat in maps)


def draw_cells(heat: HeatMap, peak: float) -> bytes:
    """Draw one pixel per region and moment: a PNG, transparent where the heat is 0."""
    share = np.clip(heat.values / (peak or 1.0), -1.0, 1.0)
    pixels = np.empty((*share.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where((share > 0)[..., None], _MATCH, _MISMATCH)
    pixels[..., 3] = np.round(255 * np.abs(share))
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, format="PNG")
    return output.getvalue()


def render_heat(figure: HeatFigure) -> str:
    """Return the figure's HTML."""
    heat, n_regions = figure.heat, len(figure.heat.boxes)
    fewest, most = _ROW_PIXELS
    row = min(most, max(fewest, _MAP_PIXELS // n_regions))
    shares = np.round(np.clip(heat.values / (figure.peak or 1.0), -1.0, 1.0), 2).tolist()
    labels = "".join(f"<span>{number}</span>" for number in range(1, n_regions + 1))
    picture = (
        f'<img src="{escape(figure.picture)}" alt="">' if figure.picture else '<span class="absent"></span>'
    )
    state = "hit" if figure.is_hit else "wrong"
    shape = " square" if heat.is_cropped else ""
    return f"""<figure class="heat {state}" data-hop="{HOP_SECONDS:g}" data-shares="{json.dumps(shares)}">
<div class="regions{shape}">{picture}{_boxes(heat)}</div>
<div class="plane">
{_loudness(heat)}
<div class="labels" style="grid-auto-rows: {row}px" aria-hidden="true">{labels}</div>
<div class="map" style="height: {row * n_regions}px">
<img src="{escape(figure.cells)}" alt="{escape(_spoken(heat))}"><span class="cursor"></span></div>
<div class="ticks" aria-hidden="true">{_ticks(heat.seconds)}</div>
</div>
<figcaption>{escape(figure.title)}; full colour: {figure.peak:.2g} of similarity</figcaption>
</figure>"""


def _boxes(heat: HeatMap) -> str:
    spans = []
    for number, (x0, y0, x1, y1) in enumerate(100 * heat.boxes.astype(float), start=1):
        place = f"left: {x0:.1f}%; top: {y0:.1f}%; width: {x1 - x0:.1f}%; height: {y1 - y0:.1f}%"
        spans.append(f'<span class="box" style="{place}"><b>{number}</b></span>')
    return "".join(spans)


def _loudness(heat: HeatMap) -> str:
    """Draw the loudness above the map, on the map's time axis."""
    level = heat.loudness
    points = "".join(f"L{index} {1 - value:.2f}" for index, value in enumerate(level))
    width = heat.seconds * SAMPLE_RATE / FRAME_STRIDE
    return (
        f'<svg class="loudness" viewBox="0 0 {width:g} 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M0 1{points}L{len(level)} 1Z"/></svg>'
    )


def _ticks(seconds: float) -> str:
    step = _TICK_SECONDS * max(1, int(np.ceil(seconds / _TICK_SECONDS / _MAX_TICKS)))
    times = np.arange(0.0, seconds - step / 2, step)  # a label at the very end would hang over
    return "".join(f'<span style="left: {100 * time / seconds:.2f}%">{time:g} s</span>' for time in times)


def _spoken(heat: HeatMap) -> str:
    """Say in words where each region's heat is highest."""
    peaks = [
        f"region {number} at {(int(row.argmax()) + 0.5) * HOP_SECONDS:.2f} s"
        for number, row in enumerate(heat.values, start=1)
    ]
    return f"Heat map of {len(peaks)} regions over {heat.seconds:.1f} s, highest: {', '.join(peaks)}"
