"""One chart with a line per scenario as inline SVG; styles and which lines show are the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fairseq_vgs.report.run_logs import Curve

_WIDTH, _HEIGHT = 560, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 22, 40


@dataclass(frozen=True)
class ChartLine:
    """A scenario's curve.

    Attributes:
        name: of the scenario; its CSS class is ``s-<name>``.
        title: as it is shown.
        curve: what is drawn.
    """

    name: str
    title: str
    curve: Curve


@dataclass(frozen=True)
class Chart:
    """Axes with lines, and levels (label, value) across them.

    Attributes:
        title: what is shown, with the unit.
        lines: scenarios; at least one.
        levels: such as chance.
        limits: of the vertical axis; chosen from the values if None.
        decimals: of values in the labels that the pointer shows.
    """

    title: str
    lines: Sequence[ChartLine]
    levels: Sequence[tuple[str, float]] = ()
    limits: tuple[float, float] | None = None
    decimals: int = 1


def render_chart(chart: Chart) -> str:
    """Return the chart's SVG element."""
    last = max(int(line.curve.updates[-1]) for line in chart.lines)
    values = [float(value) for line in chart.lines for value in line.curve.values]
    values += [value for _, value in chart.levels]
    y_ticks = _ticks(*(chart.limits or (min(values), max(values))))
    low, high = min(y_ticks[0], *values), max(y_ticks[-1], *values)
    scale = _Scale(float(max(last, 1)), low, high if high > low else low + 1.0)
    x_ticks = [tick for tick in _ticks(0.0, float(last)) if tick <= last]
    parts = [_axes(scale, x_ticks, y_ticks)]
    parts += [_level(scale, label, value) for label, value in chart.levels]
    parts += [_line(scale, line, chart.decimals) for line in chart.lines]
    body = "\n".join(parts)
    title = escape(chart.title)
    return f"""<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}: curves over updates">
{body}
</svg>"""


@dataclass(frozen=True)
class _Scale:
    last: float
    low: float
    high: float

    def x(self, update: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * update / self.last

    def y(self, value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)


def _axes(scale: _Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for tick in y_ticks:
        y = scale.y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x = scale.x(tick)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 5}" text-anchor="middle">update</text>')
    return "\n".join(parts)


def _level(scale: _Scale, label: str, value: float) -> str:
    y = scale.y(value)
    right = _WIDTH - _RIGHT
    return (
        f'<line class="level" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="level" x="{right - 4}" y="{y - 4:.1f}" text-anchor="end">{escape(label)}</text>'
    )


def _line(scale: _Scale, line: ChartLine, decimals: int) -> str:
    points = [
        (update, value, f"{scale.x(update):.1f}", f"{scale.y(value):.1f}")
        for update, value in zip(line.curve.updates.tolist(), line.curve.values.tolist(), strict=True)
    ]
    path = " ".join(f"{x},{y}" for _, _, x, y in points)
    title = escape(line.title)
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="3.5">'
        f"<title>{title}, update {update}: {value:.{decimals}f}</title></circle>"
        for update, value, x, y in points
    )
    return f'<g class="s s-{escape(line.name)}"><polyline points="{path}"/>{dots}</g>'


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Choose round numbers that cover low..high."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]
