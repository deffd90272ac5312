"""A study's figures: one small panel per scenario, a PNG and a CSV of exactly what was drawn.

Thin lines are seeds, thick ones their mean; a vertical line is the start of a second phase. Dotted lines are
chance, dashed grey ones the untrained model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_vgs.evaluation.plots import matplotlib_classes
from fairseq_vgs.evaluation.results import write_table
from fairseq_vgs.evaluation.retrieval import DIRECTIONS
from fairseq_vgs.evaluation.training_log import Curve
from fairseq_vgs.manifest.atomic import atomic_write
from fairseq_vgs.study.curves import (
    SeedCurves,
    boundary,
    logged_curves,
    loss,
    point_curves,
    probe_curves,
    retrieval,
)
from fairseq_vgs.study.results import Point, StudyResults
from fairseq_vgs.study.settings import scenario_title

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "0.45"
_LOSSES = {"vgs_loss": ("VGS loss", _BLUE), "ssl_loss": ("SSL loss", _ORANGE)}
_DIRECTION_LINES = {
    "speech_to_image": ("speech → image", _BLUE),
    "image_to_speech": ("image → speech", _ORANGE),
}
_COLUMNS = ("panel", "series", "seed", "x", "value")
_WIDTH_INCHES, _PANEL_HEIGHT_INCHES = 10.0, 2.5


@dataclass(frozen=True)
class Lines:
    """One quantity in a panel.

    Attributes:
        label: for the legend.
        colour: matplotlib's.
        curves: by seed.
        marks: drawn as points instead of lines.
    """

    label: str
    colour: Any
    curves: SeedCurves
    marks: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line across a panel."""

    label: str
    value: float
    colour: str = _GREY
    style: str = ":"


@dataclass
class StudyPanel:
    """One scenario's axes.

    Attributes:
        title: of the scenario.
        lines: what is drawn.
        levels: chance and the untrained model.
        boundary: where a vertical line marks a second phase.
        split: whether lines are interrupted there, since what they show begins anew.
    """

    title: str
    lines: list[Lines]
    levels: list[Level] = field(default_factory=list)
    boundary: int | None = None
    split: bool = False


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


def study_figures(results: StudyResults) -> list[Figure]:
    """Make all figures for which there are data."""
    figures = [
        _losses(results),
        _retrieval(results),
        _abx(results),
        _abx_by_layer(results),
        *_probes(results),
    ]
    return [figure for figure in figures if figure.has_data]


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


def _losses(results: StudyResults) -> Figure:
    panels = []
    for scenario in results.settings.scenarios:
        lines = []
        for name, (label, colour) in _LOSSES.items():
            lines.append(Lines(f"{label}, training", colour, logged_curves(results, scenario, name)))
            valid = point_curves(results, scenario, loss(name))
            lines.append(Lines(f"{label}, validation", colour, valid, marks=True))
        panels.append(_panel(results, scenario, lines))
    return Figure(
        "losses",
        "Losses over updates",
        "Lines: training, speech masked. Dots: validation split.",
        "update",
        "nats per item",
        panels,
    )


def _retrieval(results: StudyResults) -> Figure:
    panels = []
    for scenario in results.settings.scenarios:
        lines, levels = [], []
        for way, (label, colour) in _DIRECTION_LINES.items():
            key = f"{way}_r10"
            curves = point_curves(results, scenario, retrieval(key))
            lines.append(Lines(label, colour, curves))
            if key in results.chance:
                levels.append(Level(f"chance, {label}", results.chance[key], colour))
        untrained = _mean(results.untrained.values(), f"{DIRECTIONS[0]}_r10")
        if untrained is not None:
            levels.append(Level("untrained, speech → image", untrained, style="--"))
        panels.append(_panel(results, scenario, lines, levels))
    return Figure(
        "retrieval", "R@10 over updates", "Test split.", "update", "R@10, %", panels, limits=(0.0, 100.0)
    )


def _abx(results: StudyResults) -> Figure:
    levels = _abx_levels(results)
    if results.untrained and any(point.abx for point in results.untrained.values()):
        best = float(np.mean([point.best_abx for point in results.untrained.values()]))
        levels.append(Level("untrained", best, style="--"))
    panels = [
        _panel(
            results,
            scenario,
            [Lines("best layer", _BLUE, point_curves(results, scenario, lambda point: point.best_abx))],
            levels,
        )
        for scenario in results.settings.scenarios
    ]
    return Figure(
        "abx",
        "Phone ABX error over updates",
        "The layer with the lowest error of each checkpoint.",
        "update",
        "ABX error, %",
        panels,
    )


def _abx_by_layer(results: StudyResults) -> Figure:
    finals = {scenario: results.finals(scenario) for scenario in results.settings.scenarios}
    points = [point for found in finals.values() for point in found.values()]
    layers = list(dict.fromkeys(layer for point in points for layer in point.abx))
    untrained = Lines("untrained", _GREY, _layer_curves(results.untrained, layers))
    panels = [
        StudyPanel(
            scenario_title(scenario),
            [untrained, Lines("end of training", _BLUE, _layer_curves(found, layers))],
            _abx_levels(results),
        )
        for scenario, found in finals.items()
    ]
    return Figure(
        "abx_by_layer",
        "Phone ABX error by layer at the end of training",
        "Only seeds that have finished.",
        "layer",
        "ABX error, %",
        panels if points else (),
        ticks=[layer.removeprefix("layer_") for layer in layers],
    )


def _probes(results: StudyResults) -> Iterator[Figure]:
    kinds = (
        (
            "gradient_cosine",
            "Cosine between the gradients of the two losses",
            "Above 0 both losses pull a layer the same way, below 0 against each other.",
            (-1.0, 1.0),
        ),
        (
            "cka",
            "Similarity of each layer to the start of its phase",
            "Linear CKA of frames, 1 at the start of a phase; the lower, the further a layer has moved.",
            (0.0, 1.0),
        ),
    )
    for name, title, note, limits in kinds:
        panels = []
        for scenario in results.settings.scenarios:
            found = probe_curves(results, scenario, name)
            if found:
                colours = _shades(list(found))
                lines = [
                    Lines(layer.replace("_", " "), colours[layer], curves) for layer, curves in found.items()
                ]
                panels.append(replace(_panel(results, scenario, lines), split=True))
        yield Figure(name, title, note, "update", name.replace("_", " "), panels, limits=limits)


def _panel(
    results: StudyResults, scenario: str, lines: list[Lines], levels: Sequence[Level] = ()
) -> StudyPanel:
    return StudyPanel(scenario_title(scenario), lines, list(levels), boundary(results, scenario))


def _abx_levels(results: StudyResults) -> list[Level]:
    levels = [Level(name.upper(), value, _ORANGE) for name, value in sorted(results.baselines.items())]
    return [*levels, *([Level("chance", results.chance["abx"])] if "abx" in results.chance else [])]


def _mean(points: Iterable[Point], key: str) -> float | None:
    values = [point.retrieval[key] for point in points if key in point.retrieval]
    return float(np.mean(values)) if values else None


def _layer_curves(points: Mapping[int, Point], layers: Sequence[str]) -> SeedCurves:
    found = {}
    for seed, point in points.items():
        positions = [index for index, layer in enumerate(layers) if layer in point.abx]
        if positions:
            values = np.array([point.abx[layers[index]] for index in positions])
            found[seed] = Curve(np.array(positions, dtype=np.int64), values)
    return SeedCurves(found)


def _shades(layers: Sequence[str]) -> dict[str, Any]:
    """Colour layers from dark to light in their order; what is no single layer is grey."""
    from matplotlib import colormaps

    single = [layer for layer in layers if layer.startswith("layer_")]
    scale = colormaps["viridis"](np.linspace(0.0, 0.9, max(len(single), 1)))
    colours: dict[str, Any] = dict.fromkeys(layers, _GREY)
    colours.update({layer: tuple(colour) for layer, colour in zip(single, scale, strict=False)})
    if "shared" in colours:
        colours["shared"] = _ORANGE
    if "extractor" in colours:
        colours["extractor"] = "#CC79A7"
    return colours


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
    columns = min(3, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    height = _PANEL_HEIGHT_INCHES * rows + 1.2
    drawn = figure_class(figsize=(_WIDTH_INCHES, height))
    canvas_class(drawn)
    # Margins by hand: matplotlib's automatic layouts draw everything twice.
    grid = drawn.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    drawn.subplots_adjust(
        left=0.075, right=0.985, bottom=0.55 / height, top=1 - 0.65 / height, wspace=0.05, hspace=0.2
    )
    handles: dict[str, Any] = {}
    for axes, panel in zip(grid.flat, figure.panels, strict=False):
        _draw_panel(axes, panel, handles)
        if figure.ticks is not None:
            axes.set_xticks(range(len(figure.ticks)), figure.ticks)
    for axes in list(grid.flat)[len(figure.panels) :]:
        axes.set_visible(False)
    if figure.limits is not None:
        low, high = figure.limits
        margin = 0.03 * (high - low)
        grid[0, 0].set_ylim(low - margin, high + margin)
    drawn.supxlabel(figure.x_label, fontsize=10, y=0.1 / height)
    drawn.supylabel(figure.y_label, fontsize=10, x=0.008)
    # in the order in which panels list their lines, although the first panel may lack some of them
    listed = dict.fromkeys(lines.label for panel in figure.panels for lines in panel.lines)
    labels = [label for label in dict.fromkeys((*listed, *handles)) if label in handles]
    drawn.legend(
        [handles[label] for label in labels],
        labels,
        loc="upper center",
        ncols=min(len(labels), 7),
        frameon=False,
        fontsize=9,
    )
    return drawn


def _draw_panel(axes: Any, panel: StudyPanel, handles: dict[str, Any]) -> None:
    """Draw one scenario; ``handles`` collects what the legend names."""
    for lines in panel.lines:
        style = {"linestyle": "", "marker": "o", "markersize": 3} if lines.marks else {"linestyle": "-"}
        style["color"] = lines.colour
        if len(lines.curves.seeds) > 1 and not lines.marks:
            for curve in lines.curves.seeds.values():
                _draw_curve(axes, panel, curve, style | {"linewidth": 0.7, "alpha": 0.45})
        mean = lines.curves.mean
        if mean is not None:
            handles[lines.label] = _draw_curve(axes, panel, mean, style | {"linewidth": 1.8})
    for level in panel.levels:
        handles[level.label] = axes.axhline(
            level.value, color=level.colour, linestyle=level.style, linewidth=1.1
        )
    if panel.boundary is not None:
        axes.axvline(panel.boundary, color="0.6", linewidth=1.0)
    axes.set_title(panel.title, fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(visible=True, alpha=0.25)


def _draw_curve(axes: Any, panel: StudyPanel, curve: Curve, style: Mapping[str, Any]) -> Any:
    """Draw a curve, in two pieces where the panel is split; return what a legend shows."""
    later = curve.updates > (panel.boundary or 0) if panel.split else np.zeros(len(curve.updates), dtype=bool)
    drawn = [
        axes.plot(curve.updates[piece], curve.values[piece], **style)[0]
        for piece in (~later, later)
        if piece.any()
    ]
    return drawn[0]
