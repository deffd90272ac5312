"""A study's figures: which lines of a study are drawn where, one small panel per scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fairseq_vgs.report.run_logs import Curve
from fairseq_vgs.study.curves import (
    SeedCurves,
    abx,
    abx_levels,
    boundary,
    logged_curves,
    loss,
    point_curves,
    probe_curves,
    recall_at_10,
    retrieval,
    untrained_mean,
)
from fairseq_vgs.study.figure_drawing import GREY, Figure, Level, Lines, StudyPanel
from fairseq_vgs.study.results import Point, StudyResults
from fairseq_vgs.study.settings import scenario_title

_BLUE, _ORANGE = "#0072B2", "#D55E00"
_LOSSES = {"vgs_loss": ("VGS loss", _BLUE), "ssl_loss": ("SSL loss", _ORANGE)}
_DIRECTION_LINES = {
    "speech_to_image": ("speech → image", _BLUE),
    "image_to_speech": ("image → speech", _ORANGE),
}


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
        levels += _untrained_level(results, recall_at_10)
        panels.append(_panel(results, scenario, lines, levels))
    return Figure(
        "retrieval", "R@10 over updates", "Test split.", "update", "R@10, %", panels, limits=(0.0, 100.0)
    )


def _abx(results: StudyResults) -> Figure:
    levels = [*_abx_levels(results), *_untrained_level(results, lambda point: point.best_abx)]
    layers = list(dict.fromkeys(layer for point in results.points for layer in point.abx))
    colours = _shades(layers)
    panels = []
    for scenario in results.settings.scenarios:
        lines = [
            Lines(
                layer.replace("_", " "),
                colours[layer],
                point_curves(results, scenario, abx(layer)),
                thin=True,
            )
            for layer in layers
        ]
        best = point_curves(results, scenario, lambda point: point.best_abx)
        panels.append(_panel(results, scenario, [Lines("best layer", _BLUE, best), *lines], levels))
    return Figure(
        "abx",
        "Phone ABX error over updates",
        "Within speaker. The best layer is that of each checkpoint and seed; of single layers the means are "
        "drawn.",
        "update",
        "ABX error, %",
        panels,
    )


def _abx_by_layer(results: StudyResults) -> Figure:
    finals = {scenario: results.finals(scenario) for scenario in results.settings.scenarios}
    points = [point for found in finals.values() for point in found.values()]
    layers = list(dict.fromkeys(layer for point in points for layer in point.abx))
    untrained = Lines("untrained", GREY, _layer_curves(results.untrained, layers))
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
        "Within speaker; only seeds that have finished.",
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
            phases = [probe_curves(results, scenario, name, second=second) for second in (False, True)]
            colours = _shades(list({**phases[0], **phases[1]}))
            # two lines per layer, since drift begins anew with a phase
            lines = [
                Lines(layer.replace("_", " "), colours[layer], curves)
                for found in phases
                for layer, curves in found.items()
            ]
            if lines:
                panels.append(_panel(results, scenario, lines))
        yield Figure(
            name,
            title,
            note,
            "update",
            {"cka": "linear CKA", "gradient_cosine": "cosine"}[name],
            panels,
            limits=limits,
        )


def _panel(
    results: StudyResults, scenario: str, lines: list[Lines], levels: Sequence[Level] = ()
) -> StudyPanel:
    return StudyPanel(scenario_title(scenario), lines, list(levels), boundary(results, scenario))


def _abx_levels(results: StudyResults) -> list[Level]:
    return [Level(name, value, GREY if name == "chance" else _ORANGE) for name, value in abx_levels(results)]


def _untrained_level(results: StudyResults, value: Callable[[Point], float]) -> list[Level]:
    mean = untrained_mean(results, value)
    return [] if mean is None else [Level("untrained", mean, style="--")]


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
    colours: dict[str, Any] = dict.fromkeys(layers, GREY)
    colours.update({layer: tuple(colour) for layer, colour in zip(single, scale, strict=False)})
    if "shared" in colours:
        colours["shared"] = _ORANGE
    if "extractor" in colours:
        colours["extractor"] = "#CC79A7"
    return colours
