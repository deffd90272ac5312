"""The figures of ``fairseq-vgs plot``, for ``plots.write_figure``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, product
from operator import attrgetter
from typing import Any

import numpy as np

from fairseq_vgs.evaluation.evaluator import EVALUATORS
from fairseq_vgs.evaluation.results import Metric, ResultsError
from fairseq_vgs.metrics.retrieval import RECALL_CUTOFFS, chance_hit_probability
from fairseq_vgs.report.plots import COLOURS, ORANGE, Figure, Panel, Series
from fairseq_vgs.report.run_logs import TRAIN, Curve, ProbeRecord, TrainingLog, empty_log

_RUN_COLUMNS = {name: name for name in ("panel", "series", "update", "value", "unit")} | {"update": "x"}
_LOSSES = {"loss": "total", "vgs_loss": "VGS", "ssl_loss": "SSL"}
_COMPARED_CUTOFFS = (1, 10)
_DIRECTIONS = {"speech_to_image": "speech → image", "image_to_speech": "image → speech"}
_PERCENT = (0.0, 100.0)
_SHADES = ((68, 1, 84), (49, 104, 142), (94, 201, 98))  # dark to light, distinct in grey
_ALL_LAYERS = "shared"


def training_figure(log: TrainingLog) -> Figure:
    """Show losses, recalls (with chance) and alpha over updates; empty panels are left out.

    Raises:
        TrainingLogError: ``log.empty``, the log has none of the curves.
    """
    panels = [_loss_panel(log), *(_recall_panel(log, name) for name in _DIRECTIONS), _alpha_panel(log)]
    return _run_figure(panels, "log", "losses or recalls over updates", "train with common.log_format=json")


def recall_figure(logs: Mapping[str, TrainingLog]) -> Figure:
    """Show R@1 and R@10 of runs (title -> log): a panel per direction and cutoff, a line per run.

    Raises:
        TrainingLogError: ``log.empty``, a log has no recalls.
    """
    expected, step = "recalls over updates", "validate in training, or give its history.jsonl"
    panels, drawn = [], set()
    for (direction, name), k in product(_DIRECTIONS.items(), _COMPARED_CUTOFFS):
        panel = Panel(f"{name}, R@{k}", "recall, %", limits=_PERCENT)
        for colour, (title, log) in zip(cycle(COLOURS), logs.items(), strict=False):
            series = _recall_series(log, direction, k, title=title, colour=colour)
            panel.series += series
            drawn.update([title] if series else [])
        panel.series.sort(key=attrgetter("is_level"))
        panels.append(panel)
    for title in logs:
        if title not in drawn:
            raise empty_log(title, expected, step)
    return _run_figure(panels, "log", expected, step)


def probe_figure(records: Sequence[ProbeRecord]) -> Figure:
    """Show gradient cosine, CKA and gradient lengths of every layer over updates.

    Raises:
        TrainingLogError: ``log.empty``, there are no probes.
    """
    cosine = Panel("Cosine of SSL and VGS gradients", "cosine")
    cka = Panel("Similarity to the start of the phase", "linear CKA")
    length = "nats per unit of parameters"
    panels = {
        "gradient_cosine": cosine,
        "cka": cka,
        "gradient_norm_ssl": Panel("Length of the SSL gradient", length, is_logarithmic=True),
        "gradient_norm_vgs": Panel("Length of the VGS gradient", length, is_logarithmic=True),
    }
    for column, panel in panels.items():
        panel.series += _layer_lines([(record.update, attrgetter(column)(record)) for record in records])
    largest = max((abs(value) for value in _finite(cosine)), default=0.0) or 1.0
    cosine.limits = (-largest, largest)  # zero in the middle: cosines are often small
    cka.limits = (min(0.9, math.floor(10 * min(_finite(cka), default=0.0)) / 10), 1.0)
    step = "train with task.probe_interval=N (updates)"
    return _run_figure(list(panels.values()), "probes", "layers", step)


def layer_figure(results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Show the value of every layer with its interval, and chance.

    ``results``: title -> content of a metrics.json of a layered evaluation, such as ABX. Models with one
    layer, such as MFCC, are horizontal lines.

    Raises:
        ResultsError: ``results.other_data``, a result has another kind, items or conditions than the first.
    """
    first_title, first = next(iter(results.items()))
    for title, content in results.items():
        if _subject(content) != _subject(first):
            expected = f"must have the kind, items and conditions of {first_title}"
            message = f"{expected}, got others; plot them separately"
            raise ResultsError.at(title, message, "results.other_data")
    models = [
        (title, name, {layer: Metric.from_json(data) for layer, data in model["metrics"].items()})
        for title, content in results.items()
        for name, model in content["models"].items()
    ]
    evaluator = EVALUATORS[first["kind"]]()
    measure = "recall" if evaluator.higher_is_better else "error"
    label = f"{evaluator.axis or evaluator.name}, % (95 % interval)"
    panel = Panel(evaluator.describe(first)[0], label, limits=(0.0, math.nan))
    layers: list[str] = []
    for colour, (title, name, metrics) in zip(cycle(COLOURS), models, strict=False):
        values = [metric.value for metric in metrics.values()]
        is_level = len(values) == 1
        layers = layers or ([] if is_level else list(metrics))
        series = Series(
            name,
            [value.value for value in values],
            None if is_level else range(len(values)),
            colour,
            style="--" if is_level else "-",
            band=([value.low for value in values], [value.high for value in values]),
            legend=f"{title}: {name}" if len(results) > 1 else name,
            names=list(metrics),
            cells={"results": title, "unit": next(iter(metrics.values())).unit},
        )
        panel.series.append(series)
    chance = next(iter(models[0][2].values())).chance
    if chance is not None:
        panel.series.append(Series("chance", [chance], style=":", cells={"unit": "%"}))
    columns = {"results": "results", "model": "series", "layer": "x", measure: "value"}
    columns |= {name: name for name in ("low", "high", "unit")}
    ticks = [layer.removeprefix("layer_") for layer in layers]
    label = "transformer layer (0: its input)"
    return Figure([panel], columns, x_label=label, ticks=ticks, panel_inches=(6.4, 4.8))


def recall_chance(log: TrainingLog, part: str, direction: str, k: int) -> float | None:
    """Return chance R@k in percent from the logged pool sizes; None if they were not logged.

    Only means are logged, so all images are assumed to have the same number of captions and no duplicates.
    """
    images, captions = log.last(part, "retrieval_images"), log.last(part, "retrieval_captions")
    if not images or not captions:
        return None
    is_spoken = direction == "speech_to_image"
    pool = (round(images), 1) if is_spoken else (round(captions), max(1, round(captions / images)))
    return 100.0 * chance_hit_probability(*pool, k)


def layer_shade(index: int, n_layers: int) -> str:
    """Return the colour of a layer: dark for the first, light for the last."""
    share = index / max(1, n_layers - 1)
    levels = (round(float(np.interp(share, (0.0, 0.5, 1.0), stops))) for stops in zip(*_SHADES, strict=True))
    return "#" + "".join(f"{level:02x}" for level in levels)


def _run_figure(panels: Sequence[Panel], place: str, expected: str, next_step: str) -> Figure:
    """Leave out empty panels."""
    kept = [panel for panel in panels if panel.series]
    if not kept:
        raise empty_log(place, expected, next_step)
    return Figure(kept, _RUN_COLUMNS)


def _line(label: str, curve: Curve, colour: str, *, is_dashed: bool = False) -> Series:
    return Series(label, curve.values, curve.updates, colour, style="--" if is_dashed else "-")


def _loss_panel(log: TrainingLog) -> Panel:
    panel = Panel("Loss", "nats per item")
    for colour, (name, label) in zip(COLOURS, _LOSSES.items(), strict=False):
        for part in (TRAIN, *log.validation_parts):
            curve = log.curve(part, name)
            if curve is not None:
                panel.series.append(_line(f"{label}, {part}", curve, colour, is_dashed=part != TRAIN))
    return panel


def _recall_panel(log: TrainingLog, direction: str) -> Panel:
    panel = Panel(f"Retrieval, {_DIRECTIONS[direction]}", "recall, %", limits=_PERCENT)
    for part in log.validation_parts:
        for colour, k in zip(COLOURS, RECALL_CUTOFFS, strict=False):
            curve = log.curve(part, f"{direction}_r{k}")
            if curve is not None:
                line = _line(f"R@{k}, {part}", curve, colour)
                panel.series += _with_chance(line, recall_chance(log, part, direction, k))
    panel.series.sort(key=attrgetter("is_level"))
    if panel.series and (images := log.last(log.validation_parts[0], "retrieval_images")):
        captions = log.last(log.validation_parts[0], "retrieval_captions")
        panel.title += f" ({images:g} images, {captions:g} captions)"
    return panel


def _recall_series(log: TrainingLog, direction: str, k: int, *, title: str, colour: str) -> list[Series]:
    """Draw a run's curve on each validation subset; labels name subsets if there are several."""
    found = {part: log.curve(part, f"{direction}_r{k}") for part in log.validation_parts}
    drawn: list[Series] = []
    for number, (part, curve) in enumerate(found.items()):
        if curve is not None:
            label = title if len(found) == 1 else f"{title}, {part}"
            line = _line(label, curve, colour, is_dashed=number > 0)
            drawn += _with_chance(line, recall_chance(log, part, direction, k))
    return drawn


def _with_chance(line: Series, chance: float | None) -> list[Series]:
    """Add the level of chance; a recall that any order reaches is only named in the legend."""
    if chance is None:
        return [line]
    if chance >= 100.0:
        return [
            Series(line.label, (), (), style=" ", width=0.5, legend=f"{line.label}: not drawn (k ≥ pool)")
        ]
    label, legend = f"{line.label} (chance)", "chance (same colour)"
    return [line, Series(label, [chance], None, line.colour, ":", width=1.2, legend=legend)]


def _alpha_panel(log: TrainingLog) -> Panel:
    panel, curve = Panel("Weight of the VGS loss", "alpha", limits=(0.0, 1.0)), log.curve(TRAIN, "alpha")
    if curve is not None and len(set(curve.values.tolist())) > 1:
        panel.series.append(_line("alpha", curve, COLOURS[0]))
    return panel


def _finite(panel: Panel) -> list[float]:
    return [float(value) for series in panel.series for value in series.y if math.isfinite(value)]


def _layer_lines(values: Sequence[tuple[int, Mapping[str, float]]]) -> list[Series]:
    """Draw a line per layer, from dark (first) to light (last)."""
    names = list(dict.fromkeys(name for _, probe in values for name in probe))
    layers = [name for name in names if name != _ALL_LAYERS]
    series = []
    for name in names:
        known = [(update, probe[name]) for update, probe in values if name in probe]
        curve = Curve(np.array([update for update, _ in known]), np.array([value for _, value in known]))
        is_all = name == _ALL_LAYERS
        colour = ORANGE if is_all else layer_shade(layers.index(name), len(layers))
        series.append(_line(name.replace("_", " "), curve, colour, is_dashed=is_all))
    return series


def _subject(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results must have in common to share a plot."""
    identity = EVALUATORS[content["kind"]]().identity(content)
    return {"kind": content["kind"], **identity, "items": content.get("items")}
