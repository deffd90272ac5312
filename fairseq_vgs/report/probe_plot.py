"""The plot of a run's cooperation probes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np

from fairseq_vgs.report.plots import Panel, Series, write_plot
from fairseq_vgs.report.probe_log import ProbeRecord
from fairseq_vgs.report.training_log import Curve, TrainingLogError

_STOPS = ((68, 1, 84), (49, 104, 142), (94, 201, 98))  # dark to light: told apart by lightness alone
_ALL_TOGETHER, _COLOUR_OF_ALL = "shared", "#D55E00"


def plot_probes(records: Sequence[ProbeRecord], output: Path, *, force: bool = False) -> Path:
    """Draw gradient cosine, CKA and gradient lengths over updates; write the PNG and ``<name>.csv``.

    Args:
        records: probes of a run, in the order of updates.
        output: the PNG.
        force: replace existing files.

    Returns:
        Path of the CSV: columns panel, series, update, value, unit.

    Raises:
        TrainingLogError: there are no probes.
        FileExistsError: a file exists and ``force`` is off.
    """
    panels = probe_panels(records)
    if not panels:
        raise TrainingLogError(
            "probes: must hold layers, got none; train with task.probe_interval=N (updates)"
        )
    return write_plot(panels, output, force=force)


def probe_panels(records: Sequence[ProbeRecord]) -> list[Panel]:
    """Choose what a plot of probes shows; panels without curves are left out."""
    cosine = Panel("Cosine of SSL and VGS gradients", "cosine")
    cka = Panel("Similarity to the start of the phase", "linear CKA")
    ssl = Panel("Length of the SSL gradient", "nats per unit of parameters", logarithmic=True)
    vgs = Panel("Length of the VGS gradient", "nats per unit of parameters", logarithmic=True)
    columns = {"gradient_cosine": cosine, "cka": cka, "gradient_norm_ssl": ssl, "gradient_norm_vgs": vgs}
    for column, panel in columns.items():
        values: list[Mapping[str, float]] = [attrgetter(column)(record) for record in records]
        panel.series += _series([record.update for record in records], values)
    largest = max((abs(value) for value in _finite(cosine)), default=1.0)
    cosine.limits = (-largest, largest)  # zero in the middle: cosines are often small
    cka.limits = (math.floor(10 * min(_finite(cka), default=0.0)) / 10, 1.0)
    return [panel for panel in columns.values() if panel.series]


def _finite(panel: Panel) -> list[float]:
    values = [value for series in panel.series for value in series.curve.values.tolist()]
    return [value for value in values if math.isfinite(value)]


def _series(updates: Sequence[int], values: Sequence[Mapping[str, float]]) -> list[Series]:
    """Make a line per layer, from dark (extractor) to light (last layer)."""
    names = list(dict.fromkeys(name for probe in values for name in probe))
    layers = [name for name in names if name != _ALL_TOGETHER]
    series = []
    for name in names:
        known = [
            (update, probe[name]) for update, probe in zip(updates, values, strict=True) if name in probe
        ]
        curve = Curve(np.array([update for update, _ in known]), np.array([value for _, value in known]))
        together = name == _ALL_TOGETHER
        colour = _COLOUR_OF_ALL if together else _shade(layers.index(name), len(layers))
        series.append(Series(name.replace("_", " "), curve, colour, dashed=together))
    return series


def _shade(index: int, n_shades: int) -> str:
    share = index / max(1, n_shades - 1)
    mixed = (round(float(np.interp(share, (0.0, 0.5, 1.0), levels))) for levels in zip(*_STOPS, strict=True))
    return "#" + "".join(f"{level:02x}" for level in mixed)
