"""A folder of ABX results: figures of all models and layers, and one CSV row per cell.

```
metrics.json      errors with n, chance and intervals; what was compared and what was not; provenance
cells_MODEL.csv   phone_a, phone_b, previous_phone, next_phone, speaker, x_speaker, triples, and the error
                  (0..1) of every layer
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.metrics import phone_bootstrap
from fairseq_vgs.evaluation.metrics.abx import AbxCells, AbxResult, pair_errors
from fairseq_vgs.evaluation.metrics.abx.plan import numbered
from fairseq_vgs.evaluation.results import (
    METRICS_NAME,
    Metric,
    ResultsError,
    read_metrics,
    read_table,
    write_metrics,
    write_table,
)
from fairseq_vgs.evaluation.retrieval_figures import aligned

FloatArray = npt.NDArray[np.float64]

KIND = "abx"
CHANCE = 50.0
"""Error in percent of features that know nothing, and of features that are all equal."""

_CELL_COLUMNS = ("phone_a", "phone_b", "previous_phone", "next_phone", "speaker", "x_speaker", "triples")


@dataclass(frozen=True)
class AbxModel:
    """What was measured of one model, or of a baseline.

    Attributes:
        layers: name of a layer -> its result; all on the same cells.
        frame_rate: frames per second.
        title: for tables and plots.
        n_updates: updates it was trained for.
        seconds: wall time.
    """

    layers: Mapping[str, AbxResult]
    frame_rate: float
    title: str
    n_updates: int
    seconds: float

    @property
    def any_layer(self) -> AbxResult:
        """One of the results, for what all have in common."""
        return next(iter(self.layers.values()))

    @property
    def is_collapsed(self) -> bool:
        """Every cell of every layer is exactly at chance: all frames are equal."""
        return all(bool(np.all(result.cell_errors == 0.5)) for result in self.layers.values())


def layer_metrics(model: AbxModel, *, seed: int) -> dict[str, Metric]:
    """Return the error of each layer in percent, with 95 % intervals over resampled phones."""
    metrics = {}
    for name, result in model.layers.items():
        errors = 100.0 * pair_errors(result.cells, result.cell_errors)
        interval = phone_bootstrap.mean_interval(errors, result.cells.pairs, seed=seed)
        metrics[name] = Metric(interval, len(result.cells), CHANCE, "%")
    return metrics


def layer_differences(first: AbxModel, second: AbxModel, *, seed: int) -> dict[str, Metric] | None:
    """Return first minus second (percentage points) per layer, on the same resampled phones.

    A second model with one layer (MFCC) is compared with every layer of the first. None where the models were
    not measured on the same cells and triples, as can happen at another frame rate (`cell_notes`).
    """
    if not same_cells(first.any_layer.cells, second.any_layer.cells):
        return None
    differences = {}
    for name, result in first.layers.items():
        other = second.any_layer if len(second.layers) == 1 else second.layers[name]
        differences[name] = paired_difference(
            result.cells, result.cell_errors, other.cells, other.cell_errors, seed=seed
        )
    return differences


def same_cells(cells: AbxCells, others: AbxCells) -> bool:
    """Whether both are the same cells in the same order, with as many triples in each."""
    names = ("pair", "context", "speaker", "x_speaker", "n_triples")
    return (cells.pairs, cells.speakers, cells.contexts) == (
        others.pairs,
        others.speakers,
        others.contexts,
    ) and all(np.array_equal(getattr(cells, name), getattr(others, name)) for name in names)


def cell_notes(models: Mapping[str, AbxModel]) -> list[str]:
    """Say which models were not measured on the first's cells, and that there is no difference from them."""
    first, *others = models.values()
    return [
        f"{model.title} was not measured on the same items as {first.title} "
        f"({model.any_layer.counts.no_frame} and {first.any_layer.counts.no_frame} of them without a frame, "
        f"at {model.frame_rate:g} and {first.frame_rate:g} Hz): no paired difference"
        for model in others
        if not same_cells(first.any_layer.cells, model.any_layer.cells)
    ]


def paired_difference(
    cells: AbxCells, errors: FloatArray, other_cells: AbxCells, other_errors: FloatArray, *, seed: int
) -> Metric:
    """Return the first's error minus the second's in percentage points, on the same resampled phones.

    Args:
        cells: of the first.
        errors: f64[C] 0..1.
        other_cells: of the second: the same cells (`same_cells`).
        other_errors: f64[C] 0..1.
        seed: of the draws.
    """
    gain = 100.0 * (pair_errors(cells, errors) - pair_errors(other_cells, other_errors))
    interval = phone_bootstrap.mean_interval(gain, cells.pairs, seed=seed)
    return Metric(interval, len(cells), None, "percentage points")


def model_json(model: AbxModel, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Return a model's part of metrics.json."""
    return {
        "title": model.title,
        "n_updates": model.n_updates,
        "frame_rate": model.frame_rate,
        "counts": asdict(model.any_layer.counts),
        "metrics": {name: metric.as_json() for name, metric in metrics.items()},
        "seconds": round(model.seconds, 3),
    }


def write_abx(
    folder: Path, *, metrics: Mapping[str, Any], models: Mapping[str, AbxModel], force: bool = False
) -> str:
    """Write a results folder; metrics.json last, so that its presence says that the rest is there.

    Returns:
        The text of metrics.json, as `results.as_written` gives it.
    """
    for name, model in models.items():
        cells = model.any_layer.cells
        columns = [*_cell_columns(cells), *(result.cell_errors for result in model.layers.values())]
        rows = zip(*columns, strict=True)
        write_table(folder / cell_table_name(name), (*_CELL_COLUMNS, *model.layers), rows, force=force)
    return write_metrics(folder / METRICS_NAME, {"kind": KIND, **metrics}, force=force)


def read_abx(folder: Path) -> dict[str, Any]:
    """Read a results folder's metrics.json.

    Raises:
        ResultsError: missing, or not that of an ABX evaluation.
    """
    return read_metrics(folder / METRICS_NAME, kind=KIND)


def cell_table_name(model: str) -> str:
    """Return the name of a model's table of cells."""
    return f"cells_{model}.csv"


def read_cells(path: Path) -> tuple[AbxCells, dict[str, FloatArray]]:
    """Read a table of cells: what the cells are, and f64[C] errors (0..1) of every layer.

    Raises:
        ResultsError: missing, or not such a table.
    """
    rows = read_table(path)
    try:
        pairs, pair = numbered([(row["phone_a"], row["phone_b"]) for row in rows])
        contexts, context = numbered([(row["previous_phone"], row["next_phone"]) for row in rows])
        speakers, both = numbered([row[column] for column in ("speaker", "x_speaker") for row in rows])
        triples = np.array([int(row["triples"]) for row in rows], dtype=np.int64)
        layers = [name for name in rows[0] if name not in _CELL_COLUMNS]
        errors = {name: np.array([float(row[name]) for row in rows], dtype=np.float64) for name in layers}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path}: must be a table that fairseq-vgs evaluate abx wrote, got {error!r}; run it again"
        ) from error
    speaker, x_speaker = both.reshape(2, -1)
    return AbxCells(pairs, speakers, contexts, pair, context, speaker, x_speaker, triples), errors


def format_table(models: Mapping[str, AbxModel], metrics: Mapping[str, Mapping[str, Metric]]) -> str:
    """Lay out errors in percent: a row per layer, a column per model with layers, then MFCC and chance.

    Args:
        models: by name; the first has layers.
        metrics: name of a model -> what `layer_metrics` gave.
    """
    layers = list(next(iter(metrics.values())))
    layered = [name for name in models if list(metrics[name]) == layers]
    rows = [["", *(models[name].title for name in layered)]]
    rows += [[layer, *(_cell(metrics[name][layer]) for name in layered)] for layer in layers]
    rows += [
        [layer, _cell(metric)]
        for name in models
        if name not in layered
        for layer, metric in metrics[name].items()
    ]
    rows.append(["chance", f"{CHANCE:.1f}"])
    return aligned(rows)


def describe_models(models: Mapping[str, AbxModel]) -> list[str]:
    """Say what was compared, and what was not: one line or, where models differ in it, one for each."""
    counted = {model.title: describe_counts(model) for model in models.values()}
    if not cell_notes(models):
        return [next(iter(counted.values()))]
    return [f"{title}: {counts}" for title, counts in counted.items()]


def describe_counts(model: AbxModel) -> str:
    """Say in one line what was compared, and what was not."""
    counts = model.any_layer.counts
    left_out = {
        "without a frame": counts.no_frame,
        "drawn out of large groups": counts.subsampled,
        "without a partner": counts.no_partner,
    }
    parts = [f"{counts.items} items, {counts.cells} cells, {counts.phone_pairs} ordered phone pairs"]
    if any(left_out.values()):
        parts.append("left out: " + ", ".join(f"{n} {reason}" for reason, n in left_out.items() if n))
    if counts.clamped:
        parts.append(f"{counts.clamped} cut by a frame at the end of their recording")
    if counts.overlapping:
        parts.append(f"{counts.overlapping} pairs of tokens share frames and are compared all the same")
    return "; ".join(parts)


def _cell_columns(cells: AbxCells) -> list[Sequence[Any]]:
    pairs = [cells.pairs[number] for number in cells.pair.tolist()]
    contexts = [cells.contexts[number] for number in cells.context.tolist()]
    return [
        *([pair[side] for pair in pairs] for side in (0, 1)),
        *([context[side] for context in contexts] for side in (0, 1)),
        *(
            [cells.speakers[number] for number in column.tolist()]
            for column in (cells.speaker, cells.x_speaker)
        ),
        cells.n_triples.tolist(),
    ]


def _cell(metric: Metric) -> str:
    return f"{metric.value.value:.1f} [{metric.value.low:.1f}, {metric.value.high:.1f}]"
