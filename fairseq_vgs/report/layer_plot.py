"""The plot of ABX errors, or of the recall of words, by layer; from one or several results folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq_vgs.evaluation import abx_results, lexical_words
from fairseq_vgs.evaluation.results import Metric, ResultsError, write_table
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.output import refuse_existing
from fairseq_vgs.report.plots import COLOURS, matplotlib_classes

_MEASURES = {
    abx_results.KIND: ("error", "phone ABX error, % (95 % interval)"),
    lexical_words.KIND: ("recall", "recall of words, % (95 % interval)"),
}


def plot_layers(results: Mapping[str, Mapping[str, Any]], output: Path, *, force: bool = False) -> Path:
    """Draw the figure of every layer with its interval, and chance; write the PNG and ``<name>.csv``.

    Models with one layer, such as MFCC, are lines across.

    Args:
        results: title -> content of a metrics.json, of ``evaluate abx`` or ``evaluate lexical``.
        output: the PNG.
        force: replace existing files.

    Returns:
        Path of the CSV: columns results, model, layer, error (or recall), low, high, unit.

    Raises:
        ResultsError: results of another kind, on other items, words or under other conditions than the first.
        FileExistsError: a file exists and ``force`` is off.
    """
    first_title, first = next(iter(results.items()))
    for title, content in results.items():
        if _subject(content) != _subject(first):
            raise ResultsError(
                f"{title}: kind, items and conditions must be those of {first_title}, got others; plot them "
                "apart"
            )
    table = output.with_suffix(".csv")
    refuse_existing(output, table, force=force)
    lines = [
        (title, name, {layer: Metric.from_json(data) for layer, data in model["metrics"].items()})
        for title, content in results.items()
        for name, model in content["models"].items()
    ]
    rows = [
        (title, name, layer, metric.value.value, metric.value.low, metric.value.high, metric.unit)
        for title, name, metrics in lines
        for layer, metric in metrics.items()
    ]
    measure, label = _MEASURES[first["kind"]]
    chance = next(iter(lines[0][2].values())).chance
    columns = ("results", "model", "layer", measure, "low", "high", "unit")
    write_table(table, columns, [*rows, ("", "chance", "", chance, "", "", "%")], force=force)
    figure = _draw(lines, label, chance, several=len(results) > 1)
    figure.axes[0].set_title(_title(first), fontsize=10)
    with atomic_write(output, force=force, mode="wb") as file:
        figure.savefig(file, format="png", dpi=120, metadata={"Software": "fairseq_vgs"})
    return table


def _subject(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be equal for two results to share a plot."""
    if content["kind"] == abx_results.KIND:
        return {name: content[name] for name in ("kind", "items", "condition")}
    subject = {name: content.get(name) for name in ("kind", "split", "compared")}
    return {**subject, **content["provenance"]["manifest"]}


def _title(content: Mapping[str, Any]) -> str:
    if content["kind"] == abx_results.KIND:
        condition = content["condition"]
        return f"{content['items']['file']}: {condition['speaker']} speaker, {condition['context']} context"
    counts = content["counts"]
    return f"split {content['split']}: {counts['tokens']} recordings of {counts['words']} words"


def _draw(
    lines: list[tuple[str, str, dict[str, Metric]]], label: str, chance: float | None, *, several: bool
) -> Any:
    figure_class, canvas_class = matplotlib_classes()
    figure = figure_class(figsize=(6.4, 4.8), layout="constrained")
    canvas_class(figure)
    axes = figure.add_subplot()
    layers: list[str] = []
    for number, (title, name, metrics) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        legend = f"{title}: {name}" if several else name
        values = [metric.value for metric in metrics.values()]
        if len(values) == 1:
            axes.axhline(values[0].value, color=colour, linestyle="--", label=legend)
            axes.axhspan(values[0].low, values[0].high, color=colour, alpha=0.15, linewidth=0)
            continue
        layers = layers or list(metrics)
        places = range(len(values))
        axes.plot(places, [v.value for v in values], "o-", color=colour, markersize=4, label=legend)
        axes.fill_between(
            places, [v.low for v in values], [v.high for v in values], color=colour, alpha=0.15, linewidth=0
        )
    if chance is not None:
        axes.axhline(chance, color="0.4", linestyle=":", label="chance")
    axes.set_xticks(range(len(layers)), [layer.removeprefix("layer_") for layer in layers])
    axes.set_xlabel("transformer layer (0: its input)")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
    return figure
