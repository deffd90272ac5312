"""Figures described as data, written as PNG, PDF or SVG with a CSV of the drawn values."""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree as ET

from fairseq_vgs.evaluation.results import write_table
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.output import all_or_none

# Okabe and Ito's colours, which differ for any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#737373"
METADATA: Mapping[str, Mapping[str, str | None]] = {
    ".png": {"Software": "fairseq_vgs"},
    ".pdf": {"Creator": "fairseq_vgs", "CreationDate": None},
    ".svg": {"Creator": "fairseq_vgs", "Date": None},
}
"""Metadata by suffix, without dates, so that equal values give equal files."""

_DPI = 130
_MOST_MARKERS = 40
_LABELS_PER_ROW = 7
_SVG = "http://www.w3.org/2000/svg"
_REFERENCE = re.compile(r"(^|url\()#")


@dataclass(frozen=True)
class Series:
    """A line, a row of points, or, without ``x``, a level across the panel.

    ``label`` is its name in the CSV, and in the legend unless ``legend`` has another text, or an empty one
    for none. ``style`` is ``-``, ``--``, ``:``, ``o`` (points), a blank (in the legend only, as text) or
    empty (in the CSV only), ``width`` in points, ``band`` lower and upper bounds, drawn as a shaded area, or
    as bars of points.
    In the CSV, ``names`` are those of the positions, and ``cells`` further cells, such as the seed. In an
    inline SVG, the line has ``css_class``, and its points have tooltips (``tips``).
    """

    label: str
    y: Sequence[float] | Any
    x: Sequence[float] | Any = None
    colour: Any = GREY
    style: str = "-"
    width: float = 1.5
    alpha: float = 1.0
    band: tuple[Sequence[float], Sequence[float]] | None = None
    legend: str | None = None
    names: Sequence[str] = ()
    cells: Mapping[str, Any] = field(default_factory=dict)
    css_class: str = ""
    tips: Sequence[str] = ()

    @property
    def is_level(self) -> bool:
        """Whether it is a level across the panel."""
        return self.x is None

    @property
    def legend_text(self) -> str:
        """Text in the legend; empty for none."""
        if not self.style:
            return ""
        return self.label if self.legend is None else self.legend


@dataclass
class Panel:
    """One set of axes; a vertical line at ``boundary`` marks a second phase.

    Of the vertical axis are ``unit``, its label, ``limits`` (NaN: from the values) and ``is_logarithmic``.
    """

    title: str
    unit: str
    series: list[Series] = field(default_factory=list)
    limits: tuple[float, float] | None = None
    is_logarithmic: bool = False
    boundary: float | None = None


@dataclass(frozen=True)
class Figure:
    """Panels (at least one) in a grid.

    ``columns``: header of a CSV column -> panel, series, x, value, low, high, unit or a key of
    ``Series.cells``. ``ticks``: names of the positions 0, 1, ..., turned by ``tick_degrees``; numbers if
    empty. ``legend``: ``panel``
    (below each panel), ``figure`` (one above all panels, which share their axes) or ``direct`` (names at the
    levels, none for lines). In a set of figures each has a file ``name``, a ``title`` and a ``note``, which
    says how to read it.
    """

    panels: Sequence[Panel]
    columns: Mapping[str, str]
    x_label: str = "update"
    ticks: Sequence[str] = ()
    legend: str = "panel"
    panel_inches: tuple[float, float] = (5.2, 4.2)
    name: str = ""
    title: str = ""
    note: str = ""
    tick_degrees: float = 0.0


def write_figure(figure: Figure, output: Path, *, also: Sequence[str] = (), force: bool = False) -> Path:
    """Write a figure as .png, .pdf or .svg, and its values as CSV next to it; return the latter's path.

    ``also`` holds suffixes of further files, drawn in one go.

    Raises:
        FaultError: ``plot.suffix``, another format; ``package.missing``, no matplotlib.
        OutputExistsError: a file exists and ``force`` is off.
    """
    paths, table = [output, *map(output.with_suffix, also)], output.with_suffix(".csv")
    suffixes = [require_suffix(path) for path in paths]
    with all_or_none(*paths, table, force=force):
        write_table(table, list(figure.columns), table_rows(figure), force=force)
        with ExitStack() as opened:
            files = [opened.enter_context(atomic_write(path, force=force, mode="wb")) for path in paths]
            _save(figure, dict(zip(suffixes, files, strict=True)))
    return table


def require_suffix(output: Path) -> str:
    """Return the suffix of a plot's file.

    Raises:
        FaultError: ``plot.suffix``, unknown format.
    """
    suffix = output.suffix.lower()
    if suffix not in METADATA:
        message = f"must end in {', '.join(METADATA)}, got {str(output)!r}; choose a format by its suffix"
        raise FaultError.at("OUTPUT", message, "plot.suffix")
    return suffix


def table_rows(figure: Figure) -> Iterator[list[Any]]:
    """Yield the rows of a figure's CSV."""
    for panel in figure.panels:
        for series in panel.series:
            for index, value in enumerate(series.y):
                cells = {"panel": panel.title, "series": series.label, "unit": panel.unit, **series.cells}
                if series.names:
                    cells["x"] = series.names[index]
                elif series.x is not None:
                    cells["x"] = int(series.x[index])
                if series.band is not None:
                    cells["low"], cells["high"] = (float(bound[index]) for bound in series.band)
                cells["value"] = float(value)
                yield [cells.get(name, "") for name in figure.columns.values()]


def inline_svg(figure: Figure, *, name: str, title: str) -> str:
    """Return a figure as an SVG element with classes of lines and tooltips of points.

    ``name``, unique in the page, is the prefix of every id, and ``title`` a label for screen readers.
    """
    file = io.BytesIO()
    _save(figure, {".svg": file})
    ET.register_namespace("", _SVG)
    root = ET.fromstring(file.getvalue())
    for parent in root.iter():
        for child in [c for c in parent if c.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)
    series = {line.css_class: line for panel in figure.panels for line in panel.series if line.css_class}
    for element in root.iter():
        drawn = series.get(element.get("id", ""))
        if drawn is not None:
            del element.attrib["id"]
            element.set("class", f"s {drawn.css_class}")
            for point, tip in zip(element.iter(f"{{{_SVG}}}use"), drawn.tips, strict=False):
                ET.SubElement(point, f"{{{_SVG}}}title").text = tip
        for key, value in element.attrib.items():
            element.set(key, f"{name}-{value}" if key == "id" else _REFERENCE.sub(rf"\1#{name}-", value))
    del root.attrib["width"], root.attrib["height"]
    root.attrib |= {"role": "img", "aria-label": title}
    return ET.tostring(root, encoding="unicode")


def _save(figure: Figure, files: Mapping[str, IO[bytes]]) -> None:
    save_drawing(lambda: _draw(figure), files)


def save_drawing(draw: Callable[[], Any], files: Mapping[str, IO[bytes]]) -> None:
    """Write the ``matplotlib.figure.Figure`` that ``draw`` returns to the file of each suffix.

    Equal drawings give equal files.

    Raises:
        FaultError: ``package.missing``, no matplotlib.
    """
    try:
        from matplotlib import rc_context
    except (ImportError, OSError, RuntimeError) as error:
        message = f"need the package matplotlib, got {error!r}; pip install matplotlib"
        raise FaultError.at("plots", message, "package.missing") from error
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # hundreds of lines for the fonts of one PDF
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "fairseq_vgs", "pdf.fonttype": 42}
    with rc_context(settings):
        drawing = draw()
        for suffix, file in files.items():
            drawing.savefig(file, format=suffix[1:], dpi=_DPI, metadata=METADATA[suffix])


def _draw(figure: Figure) -> Any:
    from matplotlib.figure import Figure as Drawing  # without pyplot: no display, no shared state

    n_columns = 2 if len(figure.panels) == 4 and figure.legend == "panel" else min(3, len(figure.panels))
    n_rows = -(-len(figure.panels) // n_columns)
    width, height = figure.panel_inches
    is_shared = figure.legend == "figure"
    size = width * n_columns, height * n_rows
    # An automatic layout draws everything twice: too slow for many panels, whose shared labels need none.
    drawing = Drawing(figsize=size, layout=None if is_shared else "constrained")
    grid = drawing.subplots(n_rows, n_columns, sharex=is_shared, sharey=is_shared, squeeze=False)
    legend: dict[str, Any] = {}
    for index, axes in enumerate(grid.flat):
        if index >= len(figure.panels):
            axes.set_visible(False)
            continue
        panel, entries = figure.panels[index], legend if is_shared else {}
        _draw_panel(axes, panel, figure, entries)
        if is_shared and index + n_columns >= len(figure.panels):  # lowest in its column of a ragged grid
            axes.tick_params(labelbottom=True)
        elif not is_shared:
            axes.set(xlabel=figure.x_label, ylabel=panel.unit)
        if figure.legend == "panel":
            axes.legend(
                entries.values(),
                entries,
                fontsize=8,
                loc="upper center",
                bbox_to_anchor=(0.5, -0.15),
                ncols=3,
                frameon=False,
            )
    if is_shared:
        _arrange(drawing, figure, legend)
    return drawing


def _arrange(drawing: Any, figure: Figure, legend: Mapping[str, Any]) -> None:
    """Place shared labels and the legend around the panels, in inches."""
    n_legend_rows = -(-len(legend) // _LABELS_PER_ROW)
    n_labels = -(-len(legend) // n_legend_rows)  # rows of equal length
    width, height = drawing.get_size_inches()
    drawing.subplots_adjust(
        left=0.75 / width,
        right=1 - 0.15 / width,
        bottom=0.55 / height,
        top=1 - (0.4 + 0.2 * n_legend_rows) / height,
        wspace=0.05,
        hspace=0.2,
    )
    drawing.supxlabel(figure.x_label, fontsize=10, y=0.1 / height)
    drawing.supylabel(figure.panels[0].unit, fontsize=10, x=0.1 / width)
    drawing.legend(legend.values(), legend, loc="upper center", ncols=n_labels, frameon=False, fontsize=9)


def _draw_panel(axes: Any, panel: Panel, figure: Figure, legend: dict[str, Any]) -> None:
    """Draw one panel; ``legend`` collects its entries, lines before levels."""
    levels = [series for series in panel.series if series.is_level]
    lines = [series for series in panel.series if not series.is_level]
    drawn = [(series, _draw_line(axes, series)) for series in lines]
    drawn += [(series, _draw_level(axes, series)) for series in levels]
    if panel.boundary is not None:
        axes.axvline(panel.boundary, color="0.6", linewidth=1.0)
    axes.set_title(panel.title, fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(visible=True, alpha=0.25)
    if panel.is_logarithmic:
        axes.set_yscale("log")
    if figure.ticks:
        axes.set_xticks(range(len(figure.ticks)), figure.ticks, rotation=figure.tick_degrees)
    elif lines:
        axes.set_xlim(left=0)
    if figure.tick_degrees:  # names of points, not of a line's positions
        axes.set_xlim(-0.6, len(figure.ticks) - 0.4)
    _set_limits(axes, panel)
    if figure.legend == "direct":
        axes.margins(y=0.1)
        _name_levels(axes, levels)
    for series, handle in drawn:
        if series.legend_text:
            legend[series.legend_text] = _entry(legend.get(series.legend_text), handle)


def _entry(known: Any, handle: Any) -> Any:
    """Return a legend's handle: grey where lines of several colours share the entry, or it would name one."""
    from matplotlib.lines import Line2D

    if known is None or known.get_color() == handle.get_color():
        return handle
    style, width = handle.get_linestyle(), handle.get_linewidth()
    return Line2D([], [], color=GREY, linestyle=style, linewidth=width)


def _draw_line(axes: Any, series: Series) -> Any:
    is_line, size = series.style != "o", 3
    marker = "" if is_line and len(series.x) > _MOST_MARKERS else "o"
    if series.tips:
        marker, size = "o", 7
    elif series.width < 1 or not series.style:  # thin lines stay thin
        marker = ""
    (line,) = axes.plot(
        series.x,
        series.y,
        linestyle=(series.style or "none") if is_line else "none",
        marker=marker,
        markersize=size,
        gid=series.css_class or None,
        clip_on=not series.tips,
        **_pen(series),
    )
    if series.band is not None and is_line:
        axes.fill_between(series.x, *series.band, **_shade(series))
    elif series.band is not None:
        axes.vlines(series.x, *series.band, **_pen(series))
    return line


def _draw_level(axes: Any, series: Series) -> Any:
    line = axes.axhline(series.y[0], linestyle=series.style, **_pen(series))
    if series.band is not None:
        axes.axhspan(series.band[0][0], series.band[1][0], **_shade(series))
    return line


def _pen(series: Series) -> dict[str, Any]:
    return {"color": series.colour, "linewidth": series.width, "alpha": series.alpha}


def _shade(series: Series) -> dict[str, Any]:
    return {"color": series.colour, "alpha": 0.15, "linewidth": 0}


def _set_limits(axes: Any, panel: Panel) -> None:
    if panel.limits is None:
        return
    low, high = panel.limits
    margin = 0.03 * (high - low) if math.isfinite(high - low) else 0.0
    axes.set_ylim(*(None if math.isnan(end) else end + sign * margin for end, sign in ((low, -1), (high, 1))))


def _name_levels(axes: Any, levels: Sequence[Series]) -> None:
    """Write the names of levels at the right, one above the other if levels are close."""
    low, high = axes.get_ylim()
    place = -math.inf
    for level in sorted(levels, key=lambda level: float(level.y[0])):
        place = max(float(level.y[0]), place + 0.06 * (high - low))
        axes.annotate(
            level.label,
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="0.35",
        )
