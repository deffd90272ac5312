"""A study's figures: one small panel per scenario.

Thin lines are seeds, thick ones their mean; a vertical line marks the start of a second phase. Dotted lines
are chance, dashed grey ones the untrained model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from fairseq_vgs.metrics.retrieval import DIRECTIONS
from fairseq_vgs.report.figures import layer_shade
from fairseq_vgs.report.plots import BLUE, GREY, ORANGE, Figure, Panel, Series
from fairseq_vgs.report.run_logs import Curve
from fairseq_vgs.study.results import Point, StudyResults

# Tol's "muted" colours: nine that differ for any kind of colour vision.
SCENARIO_COLOURS = (
    "#332288", "#CC6677", "#117733", "#88CCEE", "#DDCC77", "#AA4499", "#44AA99", "#882255", "#999933",
)  # fmt: skip

_COLUMNS = {name: name for name in ("panel", "series", "seed", "x", "value")}
_LOSSES = {"vgs_loss": ("VGS loss", BLUE), "ssl_loss": ("SSL loss", ORANGE)}
_DIRECTION_COLOURS = {"speech_to_image": BLUE, "image_to_speech": ORANGE}
_PROBES = {
    "gradient_cosine": (
        "Cosine between the gradients of the two losses",
        "Above 0 both losses pull a layer the same way, below 0 against each other.",
        "cosine",
        (-1.0, 1.0),
    ),
    "cka": (
        "Similarity of each layer to the start of its phase",
        "Linear CKA of frames, 1 at the start of a phase; the lower, the further a layer has moved.",
        "linear CKA",
        (0.0, 1.0),
    ),
}
Value = Callable[[Point], float]


class _Layered(NamedTuple):
    """Something measured of every layer: title, unit of its axis, and the best layer's value."""

    title: str
    unit: str
    best: Value


_LAYERED = {
    "abx": _Layered("Phone ABX error within speaker", "ABX error, %", attrgetter("best_abx")),
    "lexical": _Layered("Recall of words", "recall of words, %", attrgetter("best_lexical")),
}
_N_LOGGED = 100  # points per scenario; denser logs are averaged


@dataclass(frozen=True)
class SeedCurves:
    """One quantity of one scenario, by seed; seeds without it are left out."""

    seeds: Mapping[int, Curve]

    @property
    def mean(self) -> Curve | None:
        """Mean over the seeds that have come furthest, at the updates they share; None without a seed.

        So a seed that is still training neither shortens the mean nor puts a jump in it.
        """
        if not self.seeds:
            return None
        furthest = max(curve.updates[-1] for curve in self.seeds.values())
        whole = [curve for curve in self.seeds.values() if curve.updates[-1] == furthest]
        shared = [update for update in whole[0].updates if all(update in curve.updates for curve in whole)]
        values = [curve.values[np.isin(curve.updates, shared)] for curve in whole]
        return Curve(np.array(shared, dtype=np.int64), np.mean(values, axis=0))


def point_curves(results: StudyResults, scenario: str, value: Value) -> SeedCurves:
    """Collect a value of a scenario's checkpoints over updates, from the untrained model at update 0."""
    found = {}
    for seed in results.settings.seeds:
        chosen = (point for point in results.points if (point.scenario, point.seed) == (scenario, seed))
        points = {point.update: point for point in chosen}
        if points and seed in results.untrained:
            points[0] = results.untrained[seed]
        found[seed] = _curve((update, value(points[update])) for update in sorted(points))
    return _by_seed(found)


def logged_curves(results: StudyResults, scenario: str, loss: str) -> SeedCurves:
    """Collect a training loss of a scenario; neighbouring updates of a dense log are averaged."""
    found = {}
    for seed in results.settings.seeds:
        training = results.training.get((scenario, seed))
        if training is None or loss not in training.losses:
            continue
        updates, values = training.losses[loss]
        kept = ~np.isnan(values)
        if kept.any():
            width = -(-results.settings.updates_of(scenario) // _N_LOGGED)
            _, part = np.unique((updates[kept] - 1) // width, return_inverse=True)
            means = np.bincount(part, weights=values[kept]) / np.bincount(part)
            ends = np.flatnonzero(np.diff(part, append=-1))
            found[seed] = Curve(updates[kept][ends], means)
    return SeedCurves(found)


def probe_curves(
    results: StudyResults, scenario: str, column: str, *, is_second: bool = False
) -> dict[str, SeedCurves]:
    """Collect a column of ``ProbeRecord`` of one phase of a scenario, by layer.

    Both phases have a record at the boundary; the later one belongs to the second phase.
    """
    by_layer: dict[str, dict[int, Curve | None]] = {}
    start = boundary(results, scenario)
    for seed in results.settings.seeds:
        training = results.training.get((scenario, seed))
        records: dict[int, Mapping[str, float]] = {}
        latest = -1
        for probe in training.probes if training else ():
            is_later = start is not None and (probe.update > start or latest == probe.update == start)
            latest = probe.update
            if is_later == is_second:
                records[probe.update] = getattr(probe, column)
        for layer in dict.fromkeys(name for values in records.values() for name in values):
            curve = _curve((update, values.get(layer, math.nan)) for update, values in records.items())
            by_layer.setdefault(layer, {})[seed] = curve
    curves = {layer: _by_seed(seeds) for layer, seeds in by_layer.items()}
    return {layer: found for layer, found in curves.items() if found.seeds}


def measured(kind: str, name: str) -> Value:
    """Return a reader of a value in a mapping of ``Point``, such as "losses"; NaN if it was not measured."""
    return lambda point: getattr(point, kind).get(name, math.nan)


def recall_at(k: int) -> Value:
    """Return a reader of R@k averaged over both directions, percent; NaN if it was not measured."""
    names = [f"{way}_r{k}" for way in DIRECTIONS]
    return lambda point: sum(point.retrieval.get(name, math.nan) for name in names) / len(names)


def untrained_mean(results: StudyResults, value: Value) -> float | None:
    """Average a value of the untrained models over seeds; None if it was not measured."""
    values = [value(point) for point in results.untrained.values()]
    kept = [number for number in values if not math.isnan(number)]
    return sum(kept) / len(kept) if kept else None


def boundary(results: StudyResults, scenario: str) -> int | None:
    """Return the update at which the second phase starts; None for a base."""
    return results.settings.arm(scenario).boundary


def _curve(pairs: Iterable[tuple[int, float]]) -> Curve | None:
    kept = [(update, value) for update, value in pairs if not math.isnan(value)]
    if not kept:
        return None
    updates, values = zip(*kept, strict=True)
    return Curve(np.array(updates, dtype=np.int64), np.array(values, dtype=np.float64))


def _by_seed(curves: Mapping[int, Curve | None]) -> SeedCurves:
    return SeedCurves({seed: curve for seed, curve in curves.items() if curve is not None})


def study_figures(results: StudyResults) -> list[Figure]:
    """Make all figures that have values."""
    figures = [
        _losses(results),
        _retrieval(results),
        _layers(results, "abx"),
        _layers(results, "lexical"),
        _abx_by_layer(results),
        *(_probes(results, column) for column in _PROBES),
    ]
    return [f for f in figures if any(line.x is not None for panel in f.panels for line in panel.series)]


def scenario_charts(results: StudyResults) -> Iterator[Figure]:
    """Make the page's charts that have values: the mean of every scenario in one panel.

    A scheduled scenario starts where it leaves its base run.
    """
    k = results.recall_cutoffs[-1]
    chance = results.chance_of([f"{way}_r{k}" for way in DIRECTIONS])
    at_chance = [] if chance is None else [_level("chance", chance)]
    kinds: tuple[tuple[str, str, Value, list[Series], tuple[float, float] | None, int], ...] = (
        ("recall", f"R@{k}, mean of both directions, %", recall_at(k), at_chance, (0.0, 100.0), 1),
        *(
            (kind, f"{one.title}, best layer, %", one.best, levels_of(results, kind), None, 1)
            for kind, one in _LAYERED.items()
        ),
        *(
            (name, f"{title} on the validation split, nats per item", measured("losses", name), [], None, 2)
            for name, (title, _) in _LOSSES.items()
        ),
    )
    for name, title, value, levels, limits, decimals in kinds:
        lines = []
        for scenario, colour in zip(results.settings.names, cycle(SCENARIO_COLOURS), strict=False):
            mean = point_curves(results, scenario, value).mean
            kept = None if mean is None else mean.updates >= (boundary(results, scenario) or 0)
            if mean is not None and kept is not None and kept.any():
                lines.append(_chart_line(results, scenario, mean, kept, colour, decimals))
        if lines:
            panel = Panel("", "", [*lines, *levels], limits)
            inches = (5.6, 3.3)
            yield Figure(
                [panel], _COLUMNS, legend="direct", panel_inches=inches, name=f"curve_{name}", title=title
            )


def css_name(name: str) -> str:
    """Return the name of a scenario or arm as a class of the page's style sheet."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _chart_line(
    results: StudyResults, scenario: str, mean: Curve, kept: Any, colour: str, decimals: int
) -> Series:
    title, updates, values = results.settings.title(scenario), mean.updates[kept], mean.values[kept]
    pairs = zip(updates.tolist(), values.tolist(), strict=True)
    tips = [f"{title}, update {update}: {value:.{decimals}f}" for update, value in pairs]
    return Series(title, values, updates, colour, width=2.0, css_class=f"s-{css_name(scenario)}", tips=tips)


def _losses(results: StudyResults) -> Figure:
    def lines(scenario: str) -> Iterator[Series]:
        for name, (label, colour) in _LOSSES.items():
            yield from _lines(f"{label}, training", colour, logged_curves(results, scenario, name))
            valid = point_curves(results, scenario, measured("losses", name))
            yield from _lines(f"{label}, validation", colour, valid, are_marks=True)

    note = "Lines: training, speech masked. Dots: validation split."
    panels = _panels(results, "nats per item", lines)
    return _figure("losses", "Losses over updates", note, panels)


def _retrieval(results: StudyResults) -> Figure:
    k = results.recall_cutoffs[-1]
    untrained = _untrained_level(results, recall_at(k))

    def lines(scenario: str) -> Iterator[Series]:
        levels = []
        for way, colour in _DIRECTION_COLOURS.items():
            key, label = f"{way}_r{k}", way.replace("_to_", " → ")
            yield from _lines(label, colour, point_curves(results, scenario, measured("retrieval", key)))
            if key in results.chance:
                levels.append(_level(f"chance, {label}", results.chance[key], colour))
        yield from (*levels, *untrained)

    panels = _panels(results, f"R@{k}, %", lines, (0.0, 100.0))
    return _figure("retrieval", f"R@{k} over updates", "Test split.", panels)


def _layers(results: StudyResults, kind: str) -> Figure:
    """Draw the best layer over updates, and single layers, of "abx" or "lexical"."""
    one = _LAYERED[kind]
    layers = list(dict.fromkeys(layer for point in results.points for layer in getattr(point, kind)))
    colours = _layer_colours(layers)

    def lines(scenario: str) -> Iterator[Series]:
        yield from _lines("best layer", BLUE, point_curves(results, scenario, one.best))
        for layer in layers:
            curves = point_curves(results, scenario, measured(kind, layer))
            yield from _lines(layer.replace("_", " "), colours[layer], curves, are_thin=True)
        yield from levels_of(results, kind)

    note = "The best layer is chosen for each checkpoint and seed; single layers show their means."
    return _figure(kind, f"{one.title} over updates", note, _panels(results, one.unit, lines))


def _abx_by_layer(results: StudyResults) -> Figure:
    finals = {scenario: results.finals(scenario) for scenario in results.settings.names}
    points = [point for found in finals.values() for point in found.values()]
    layers = list(dict.fromkeys(layer for point in points for layer in point.abx))
    ticks = [layer.removeprefix("layer_") for layer in layers]
    levels = [level for level in levels_of(results, "abx") if level.label != "untrained"]
    panels = []
    for scenario, found in finals.items():
        lines = _lines("untrained", GREY, _by_layer(results.untrained, layers))
        lines += _lines("end of training", BLUE, _by_layer(found, layers))
        named = [replace(line, names=[ticks[int(x)] for x in line.x]) for line in lines]
        panels.append(Panel(results.settings.title(scenario), "ABX error, %", [*named, *levels]))
    title = "Phone ABX error by layer at the end of training"
    note = "Within speaker; only seeds that have finished."
    figure = _figure("abx_by_layer", title, note, panels if points else [])
    return replace(figure, x_label="layer", ticks=ticks)


def _probes(results: StudyResults, column: str) -> Figure:
    def lines(scenario: str) -> Iterator[Series]:
        # two lines per layer, since each phase measures drift from its own start
        phases = [probe_curves(results, scenario, column, is_second=second) for second in (False, True)]
        colours = _layer_colours(list({**phases[0], **phases[1]}))
        for layer, curves in chain.from_iterable(found.items() for found in phases):
            yield from _lines(layer.replace("_", " "), colours[layer], curves)

    title, note, unit, limits = _PROBES[column]
    panels = [panel for panel in _panels(results, unit, lines, limits) if panel.series]
    return _figure(column, title, note, panels)


def _figure(name: str, title: str, note: str, panels: list[Panel]) -> Figure:
    width = 10.0 / max(1, min(3, len(panels)))
    return Figure(
        panels, _COLUMNS, legend="figure", panel_inches=(width, 2.7), name=name, title=title, note=note
    )


def _panels(
    results: StudyResults,
    unit: str,
    lines_of: Callable[[str], Iterable[Series]],
    limits: tuple[float, float] | None = None,
) -> list[Panel]:
    """Make a panel per scenario, with a mark where its second phase starts."""
    return [
        Panel(results.settings.title(name), unit, [*lines_of(name)], limits, boundary=boundary(results, name))
        for name in results.settings.names
    ]


def _lines(
    label: str, colour: str, curves: SeedCurves, *, are_marks: bool = False, are_thin: bool = False
) -> list[Series]:
    """Draw a line per seed and the mean; marks and thin lines show the mean only."""
    mean = curves.mean
    if mean is None:
        return []
    has_seeds = len(curves.seeds) > 1 and not (are_marks or are_thin)
    seeds = [
        Series(label, curve.values, curve.updates, colour, "-" if has_seeds else "", width=0.7, alpha=0.45,
               legend="", cells={"seed": seed})
        for seed, curve in curves.seeds.items()
    ]  # fmt: skip
    style, width = "o" if are_marks else "-", 0.9 if are_thin else 1.8
    return [*seeds, Series(label, mean.values, mean.updates, colour, style, width, cells={"seed": "mean"})]


def _level(label: str, value: float, colour: str = GREY, style: str = ":") -> Series:
    return Series(label, [value], None, colour, style, width=1.1)


def levels_of(results: StudyResults, kind: str) -> list[Series]:
    """Draw the levels to compare "abx" or "lexical" with: baselines, chance and the untrained model."""
    baselines = results.baselines if kind == "abx" else results.lexical_baselines
    levels = [_level(name.upper(), value, ORANGE) for name, value in sorted(baselines.items())]
    if kind in results.chance:
        levels.append(_level("chance", results.chance[kind]))
    return [*levels, *_untrained_level(results, _LAYERED[kind].best)]


def _untrained_level(results: StudyResults, value: Value) -> list[Series]:
    mean = untrained_mean(results, value)
    return [] if mean is None else [_level("untrained", mean, style="--")]


def _by_layer(points: Mapping[int, Point], layers: Sequence[str]) -> SeedCurves:
    def curve(point: Point) -> Curve | None:
        return _curve((index, point.abx.get(layer, math.nan)) for index, layer in enumerate(layers))

    return _by_seed({seed: curve(point) for seed, point in points.items()})


def _layer_colours(layers: Sequence[str]) -> dict[str, str]:
    """Colour layers from dark to light; groups of layers have colours of their own."""
    single = [layer for layer in layers if layer.startswith("layer_")]
    shades = {layer: layer_shade(index, len(single)) for index, layer in enumerate(single)}
    groups = {"shared": ORANGE, "extractor": "#CC79A7"}
    return {layer: shades.get(layer, groups.get(layer, GREY)) for layer in layers}
