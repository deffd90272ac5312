"""Drawing a study's figures: a PNG, and a CSV of exactly what was drawn.

Thin lines are seeds, thick ones their mean; a vertical line is the start of a second phase. Dotted lines are
chance, dashed grey ones the untrained model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairseq_vgs.evaluation.results import write_table
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.report.plots import matplotlib_classes
from fairseq_vgs.study.curves import SeedCurves

GREY = "0.45"
_COLUMNS = ("panel", "series", "seed", "x", "value")
_WIDTH_INCHES, _PANEL_INCHES, _LEGEND_INCHES = 10.0, 2.5, 0.2
_PANELS_PER_ROW, _LABELS_PER_ROW = 3, 7


@dataclass(frozen=True)
class Lines:
    """One quantity in a panel.

    Attributes:
        label: for the legend.
        colour: matplotlib's.
        curves: by seed.
        marks: drawn as points instead of lines.
        thin: the mean alone, as a thin line.
    """

    label: str
    colour: Any
    curves: SeedCurves
    marks: bool = False
    thin: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line across a panel."""

    label: str
    value: float
    colour: str = GREY
    style: str = ":"


@dataclass
class StudyPanel:
    """One scenario's axes.

    Attributes:
        title: of the scenario.
        lines: what is drawn.
        levels: chance and the untrained model.
        boundary: where a vertical line marks a second phase.
    """

    title: str
    lines: list[Lines]
    levels: list[Level] = field(default_factory=list)
    boundary: int | None = None


@dataclass(frozen=True)
class Figure:
    """Panels with common axes.

    Attributes:
        name: of the files.
        title: what is shown, for a caption.
        note: how to read it.
        x_label: of the horizontal axes.
        y_label: of the vertical axes, with the unit.
        panels: one per scenario.
        ticks: names of the horizontal positions 0, 1, ...; numbers if None.
        limits: of the vertical axes.
    """

    name: str
    title: str
    note: str
    x_label: str
    y_label: str
    panels: Sequence[StudyPanel]
    ticks: Sequence[str] | None = None
    limits: tuple[float, float] | None = None

    @property
    def has_data(self) -> bool:
        """Whether there is a line to draw."""
        return any(lines.curves.seeds for panel in self.panels for lines in panel.lines)


def write_figure(figure: Figure, output: Path) -> Path:
    """Draw a figure; write the PNG and, beside it, ``<name>.csv``; existing files are replaced.

    Returns:
        Path of the CSV: columns panel, series, seed ("mean" for the mean), x, value.
    """
    table = output.with_suffix(".csv")
    write_table(table, _COLUMNS, _plotted(figure), force=True)
    drawn = _draw(figure)
    with atomic_write(output, force=True, mode="wb") as file:
        drawn.savefig(file, format="png", dpi=140, metadata={"Software": "fairseq_vgs"})
    return table


def _plotted(figure: Figure) -> Iterator[tuple[Any, ...]]:
    for panel in figure.panels:
        for lines in panel.lines:
            mean = lines.curves.mean
            named = [*lines.curves.seeds.items(), *([("mean", mean)] if mean is not None else [])]
            for seed, curve in named:
                for x, value in zip(curve.updates.tolist(), curve.values.tolist(), strict=True):
                    shown = figure.ticks[x] if figure.ticks else x
                    yield panel.title, lines.label, seed, shown, value
        for level in panel.levels:
            yield panel.title, level.label, "", "", level.value


def _draw(figure: Figure) -> Any:
    figure_class, canvas_class = matplotlib_classes()
    columns = min(_PANELS_PER_ROW, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    labels = _labels(figure)
    top = 0.4 + _LEGEND_INCHES * -(-len(labels) // _LABELS_PER_ROW)
    height = _PANEL_INCHES * rows + 0.55 + top
    drawn = figure_class(figsize=(_WIDTH_INCHES, height))
    canvas_class(drawn)
    # Margins by hand: matplotlib's automatic layouts draw everything twice.
    grid = drawn.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    drawn.subplots_adjust(
        left=0.075, right=0.985, bottom=0.55 / height, top=1 - top / height, wspace=0.05, hspace=0.2
    )
    handles: dict[str, Any] = {}
    for index, axes in enumerate(grid.flat):
        if index >= len(figure.panels):
            axes.set_visible(False)
            continue
        _draw_panel(axes, figure.panels[index], handles)
        if figure.ticks is not None:
            axes.set_xticks(range(len(figure.ticks)), figure.ticks)
        if index + columns >= len(figure.panels):  # the lowest of its column, even if the row is not full
            axes.tick_params(labelbottom=True)
    if figure.limits is not None:
        low, high = figure.limits
        margin = 0.03 * (high - low)
        grid[0, 0].set_ylim(low - margin, high + margin)
    drawn.supxlabel(figure.x_label, fontsize=10, y=0.1 / height)
    drawn.supylabel(figure.y_label, fontsize=10, x=0.008)
    drawn.legend(
        [handles[label] for label in labels],
        labels,
        loc="upper center",
        ncols=min(len(labels), _LABELS_PER_ROW),
        frameon=False,
        fontsize=9,
    )
    return drawn


def _labels(figure: Figure) -> list[str]:
    """List what the legend names: lines in the order of the panels, some of which lack some, then levels."""
    lines = [lines for panel in figure.panels for lines in panel.lines]
    drawn = {entry.label for entry in lines if entry.curves.seeds}
    levels = [level.label for panel in figure.panels for level in panel.levels]
    return [label for label in dict.fromkeys(entry.label for entry in lines) if label in drawn] + list(
        dict.fromkeys(levels)
    )


def _draw_panel(axes: Any, panel: StudyPanel, handles: dict[str, Any]) -> None:
    """Draw one scenario; ``handles`` collects what the legend names."""
    for lines in panel.lines:
        style = {"linestyle": "", "marker": "o", "markersize": 3} if lines.marks else {"linestyle": "-"}
        style["color"] = lines.colour
        if len(lines.curves.seeds) > 1 and not (lines.marks or lines.thin):
            for curve in lines.curves.seeds.values():
                axes.plot(curve.updates, curve.values, linewidth=0.7, alpha=0.45, **style)
        mean = lines.curves.mean
        if mean is not None:
            width = 0.9 if lines.thin else 1.8
            handles[lines.label] = axes.plot(mean.updates, mean.values, linewidth=width, **style)[0]
    for level in panel.levels:
        handles[level.label] = axes.axhline(
            level.value, color=level.colour, linestyle=level.style, linewidth=1.1
        )
    if panel.boundary is not None:
        axes.axvline(panel.boundary, color="0.6", linewidth=1.0)
    axes.set_title(panel.title, fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(visible=True, alpha=0.25)
