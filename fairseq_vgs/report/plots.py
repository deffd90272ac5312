"""Plots drawn from result files only: a PNG, and beside it a CSV of exactly what was drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from fairseq_vgs.evaluation.metrics.retrieval import RECALL_CUTOFFS, chance_hit_probability
from fairseq_vgs.evaluation.results import write_table
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.output import refuse_existing
from fairseq_vgs.report.training_log import TRAIN, Curve, TrainingLog, TrainingLogError

# Okabe and Ito's colours: told apart with any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_LOSSES = {
    "loss": "total",
    "vgs_loss": "VGS",
    "ssl_loss": "SSL",
}
_COMPARED_CUTOFFS = (1, 10)
_DIRECTIONS = {"speech_to_image": "speech → image", "image_to_speech": "image → speech"}


@dataclass(frozen=True)
class Series:
    """One line of a panel; a chance level is a dashed line across it."""

    label: str
    curve: Curve
    colour: str
    dashed: bool = False
    chance: float | None = None


@dataclass
class Panel:
    """One set of axes with its lines."""

    title: str
    unit: str
    series: list[Series] = field(default_factory=list)
    limits: tuple[float, float] | None = None
    logarithmic: bool = False


def plot_training(log: TrainingLog, output: Path, *, force: bool = False) -> Path:
    """Draw losses, recalls (with chance) and alpha over updates; write the PNG and ``<name>.csv``.

    Args:
        log: curves of a run.
        output: the PNG.
        force: replace existing files.

    Returns:
        Path of the CSV: columns panel, series, update, value, unit.

    Raises:
        TrainingLogError: the log has none of the curves.
        FileExistsError: a file exists and ``force`` is off.
    """
    panels = training_panels(log)
    if not panels:
        raise TrainingLogError(
            "log: must hold losses or recalls over updates, got none; train with common.log_format=json"
        )
    return write_plot(panels, output, force=force)


def plot_recall(logs: Mapping[str, TrainingLog], output: Path, *, force: bool = False) -> Path:
    """Draw R@1 and R@10 of several runs over updates, a line for each; files as `plot_training` writes them.

    Args:
        logs: curves of each run by its title.
        output: the PNG.
        force: replace existing files.

    Raises:
        TrainingLogError: a log has no recalls.
        FileExistsError: a file exists and ``force`` is off.
    """
    return write_plot(recall_panels(logs), output, force=force)


def write_plot(panels: Sequence[Panel], output: Path, *, force: bool = False) -> Path:
    """Draw panels; write the PNG and, beside it, ``<name>.csv``, as `plot_training` says.

    Raises:
        FileExistsError: a file exists and ``force`` is off.
    """
    table = output.with_suffix(".csv")
    refuse_existing(output, table, force=force)
    rows: list[tuple[str | int | float, ...]] = [
        (panel.title, series.label, int(update), float(value), panel.unit)
        for panel in panels
        for series in panel.series
        for update, value in zip(series.curve.updates, series.curve.values, strict=True)
    ]
    rows += [
        (panel.title, f"{series.label} (chance)", "", series.chance, panel.unit)
        for panel in panels
        for series in panel.series
        if series.chance is not None
    ]
    write_table(table, ("panel", "series", "update", "value", "unit"), rows, force=force)
    figure = _draw(panels)
    with atomic_write(output, force=force, mode="wb") as file:
        figure.savefig(file, format="png", dpi=120, metadata={"Software": "fairseq_vgs"})
    return table


def training_panels(log: TrainingLog) -> list[Panel]:
    """Choose what a training plot shows; panels without curves are left out."""
    panels = [
        _loss_panel(log),
        *(_recall_panel(log, direction) for direction in _DIRECTIONS),
        _alpha_panel(log),
    ]
    return [panel for panel in panels if panel.series]


def recall_panels(logs: Mapping[str, TrainingLog]) -> list[Panel]:
    """Choose what `plot_recall` shows: a panel for each direction and cutoff.

    Raises:
        TrainingLogError: a log has no recalls.
    """
    panels, drawn = [], set()
    for direction, name in _DIRECTIONS.items():
        for k in _COMPARED_CUTOFFS:
            panel = Panel(f"{name}, R@{k}", "recall, %", limits=(0.0, 100.0))
            for colour, (title, log) in zip(cycle(COLOURS), logs.items(), strict=False):
                series = _recall_series(log, direction, k, title=title, colour=colour)
                panel.series += series
                drawn.update([title] if series else [])
            panels.append(panel)
    for title in logs:
        if title not in drawn:
            raise TrainingLogError(
                f"{title}: log must hold recalls over updates, got none; validate in training, or give its "
                "history.jsonl"
            )
    return [panel for panel in panels if panel.series]


def recall_chance(log: TrainingLog, part: str, direction: str, k: int) -> float | None:
    """Return chance R@k in percent from the pool sizes in the log; None if they were not logged.

    The log knows means only, so every image is taken to have the same number of captions, and no copies.
    """
    images, captions = log.last(part, "retrieval_images"), log.last(part, "retrieval_captions")
    if not images or not captions:
        return None
    if direction == "speech_to_image":
        return 100.0 * chance_hit_probability(round(images), 1, k)
    return 100.0 * chance_hit_probability(round(captions), max(1, round(captions / images)), k)


def _loss_panel(log: TrainingLog) -> Panel:
    panel = Panel("Loss", "nats per item")
    for colour, (name, label) in zip(COLOURS, _LOSSES.items(), strict=False):
        for part in (TRAIN, *log.validation_parts):
            curve = log.curve(part, name)
            if curve is not None:
                panel.series.append(Series(f"{label}, {part}", curve, colour, dashed=part != TRAIN))
    return panel


def _recall_series(log: TrainingLog, direction: str, k: int, *, title: str, colour: str) -> list[Series]:
    """Return a run's curve on each validation subset; subsets are named where there are several."""
    found = {part: log.curve(part, f"{direction}_r{k}") for part in log.validation_parts}
    return [
        Series(
            title if len(found) == 1 else f"{title}, {part}",
            curve,
            colour,
            dashed=number > 0,
            chance=recall_chance(log, part, direction, k),
        )
        for number, (part, curve) in enumerate(found.items())
        if curve is not None
    ]


def _recall_panel(log: TrainingLog, direction: str) -> Panel:
    panel = Panel(f"Retrieval, {_DIRECTIONS[direction]}", "recall, %", limits=(0.0, 100.0))
    for part in log.validation_parts:
        for colour, k in zip(COLOURS, RECALL_CUTOFFS, strict=False):
            curve = log.curve(part, f"{direction}_r{k}")
            if curve is not None:
                chance = recall_chance(log, part, direction, k)
                panel.series.append(Series(f"R@{k}, {part}", curve, colour, chance=chance))
    if panel.series and (images := log.last(log.validation_parts[0], "retrieval_images")):
        captions = log.last(log.validation_parts[0], "retrieval_captions")
        panel.title += f" ({images:g} images, {captions:g} captions)"
    return panel


def _alpha_panel(log: TrainingLog) -> Panel:
    curve = log.curve(TRAIN, "alpha")
    series = (
        [Series("alpha", curve, COLOURS[0])]
        if curve is not None and len(set(curve.values.tolist())) > 1
        else []
    )
    return Panel("Weight of the VGS loss", "alpha", series, limits=(0.0, 1.0))


def _draw(panels: Sequence[Panel]) -> Any:
    figure_class, canvas_class = matplotlib_classes()
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = figure_class(figsize=(5.2 * columns, 4.2 * rows), layout="constrained")
    canvas_class(figure)
    for index, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(rows, columns, index + 1), panel)
    return figure


def _draw_panel(axes: Any, panel: Panel) -> None:
    for series in panel.series:
        marker = "o" if len(series.curve.updates) <= 40 else None
        axes.plot(
            series.curve.updates,
            series.curve.values,
            "--" if series.dashed else "-",
            color=series.colour,
            marker=marker,
            markersize=3,
            label=series.label,
        )
        if series.chance is not None:
            axes.axhline(series.chance, color=series.colour, linestyle=":", linewidth=1.2)
    if any(series.chance is not None for series in panel.series):
        axes.plot([], [], ":", color="0.4", label="chance (same colour)")
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("update")
    axes.set_ylabel(panel.unit)
    if panel.limits:
        low, high = panel.limits
        margin = 0.03 * (high - low)
        axes.set_ylim(low - margin, high + margin)
    if panel.logarithmic:
        axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False)


def matplotlib_classes() -> tuple[Any, Any]:
    """Import matplotlib without pyplot: no display, and no state shared with a caller's figures."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(f"plots need matplotlib ({error}); pip install matplotlib") from error
    return Figure, FigureCanvasAgg
