"""Figures that ``fairseq-vgs evaluate run`` wrote, read back: what one checkpoint scores, beside baselines.

Shapes: ``Q`` queries, ``L`` layers, ``O`` ordered phone pairs. Files and arrays: `run_evaluation`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation import abx_results
from fairseq_vgs.evaluation import retrieval_figures as report
from fairseq_vgs.evaluation.metrics import phone_bootstrap, retrieval
from fairseq_vgs.evaluation.metrics.bootstrap import Interval
from fairseq_vgs.evaluation.results import Metric, ResultsError

SCHEMA_VERSION = 1
KIND = "run"
# Names in figures; arrays begin with them.
ABX_KEYS: Mapping[str, str] = {"within": "abx", "across": "abx_across"}
SIDES: Mapping[str, str] = {"speech_to_image": "speech", "image_to_speech": "image"}

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class CheckpointFigures:
    """What `run_evaluation` wrote about one checkpoint.

    Attributes:
        updates: that it was trained for; 0: fresh weights.
        figures: content of the JSON file.
        arrays: per-item results behind them.
    """

    updates: int
    figures: Mapping[str, Any]
    arrays: Arrays

    def metrics(self, *, seed: int) -> dict[str, Metric]:
        """Return all figures with chance and 95 % intervals; ABX layers as ``abx_layer_1`` and so on."""
        found: dict[str, Metric] = {}
        own = self.figures["retrieval"]
        for direction, side in SIDES.items():
            ranks, groups = self.arrays[f"{direction}_ranks"], self.arrays[f"{side}_groups"]
            found |= report.query_metrics(
                ranks, groups, direction=direction, chance=own.get("chance", {}), seed=seed
            )
        for key in (key for key in ABX_KEYS.values() if key in self.figures):
            errors, pairs = 100.0 * self.arrays[f"{key}_errors"], self.phone_pairs(key)
            n_cells = int(self.figures[key]["counts"]["cells"])
            for layer, values in zip(self.arrays[f"{key}_layers"].tolist(), errors, strict=True):
                interval = phone_bootstrap.mean_interval(values, pairs, seed=seed)
                found[f"{key}_{layer}"] = Metric(interval, n_cells, abx_results.CHANCE, "%")
        return found

    def baseline_metrics(self) -> dict[str, dict[str, Metric]]:
        """Return features that are no model: name -> ``abx_<name>`` -> error (no interval is kept)."""
        found = {}
        for name, error in self.figures.get("baselines", {}).items():
            key = ABX_KEYS["within"]
            counts = self.figures.get("baseline_counts", {}).get(name, self.figures[key]["counts"])
            n_cells = int(counts["cells"])
            interval = Interval(float(error), float("nan"), float("nan"), "none")
            found[name] = {f"{key}_{name}": Metric(interval, n_cells, abx_results.CHANCE, "%")}
        return found

    def phone_pairs(self, key: str) -> list[tuple[str, str]]:
        """Return the O ordered phone pairs of ``abx`` or ``abx_across``."""
        names = self.arrays[f"{key}_phone_names"].tolist()
        return [(names[first], names[second]) for first, second in self.arrays[f"{key}_phones"].tolist()]


def differences(own: CheckpointFigures, first: CheckpointFigures, *, seed: int) -> dict[str, Metric] | None:
    """Return own minus first of every figure, on the same resampled images and phones.

    None where they were measured on other queries or phone pairs.
    """
    found = {}
    for direction, side in SIDES.items():
        groups = own.arrays[f"{side}_groups"]
        if not np.array_equal(groups, first.arrays[f"{side}_groups"]):
            return None
        ranks, others = (which.arrays[f"{direction}_ranks"] for which in (own, first))
        for name, metric in report.query_differences(ranks, others, groups, seed=seed).items():
            found[f"{direction}_{name}"] = metric
    for key in (key for key in ABX_KEYS.values() if key in own.figures and key in first.figures):
        pairs = own.phone_pairs(key)
        if pairs != first.phone_pairs(key):
            return None
        n_cells = int(own.figures[key]["counts"]["cells"])
        errors, first_errors = (
            dict(zip(which.arrays[f"{key}_layers"].tolist(), which.arrays[f"{key}_errors"], strict=True))
            for which in (own, first)
        )
        for layer in (layer for layer in errors if layer in first_errors):
            gain = 100.0 * (errors[layer] - first_errors[layer])
            interval = phone_bootstrap.mean_interval(gain, pairs, seed=seed)
            found[f"{key}_{layer}"] = Metric(interval, n_cells, None, "percentage points")
    return found


def read_figures(path: Path) -> dict[str, Any] | None:
    """Read the figures of one checkpoint; None if it has not been measured.

    Raises:
        ResultsError: not JSON, or of another schema version.
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: must be JSON, got {error}; remove it, and evaluate again") from error
    version = figures.get("schema_version") if isinstance(figures, dict) else None
    if version != SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: schema_version must be {SCHEMA_VERSION}, got {version!r}; remove it, and evaluate again"
        )
    return dict(figures)


def read_checkpoint(path: Path) -> CheckpointFigures:
    """Read ``<updates>.json`` and the ``.npz`` beside it.

    Raises:
        ResultsError: one is missing or broken.
    """
    figures = read_figures(path)
    if figures is None or not path.stem.isdecimal():
        raise ResultsError(
            f"{path}: must be figures of one checkpoint, <updates>.json; run fairseq-vgs evaluate run first"
        )
    arrays = path.with_suffix(".npz")
    try:
        with np.load(arrays, allow_pickle=False) as file:
            return CheckpointFigures(int(path.stem), figures, dict(file))
    except (OSError, ValueError, BadZipFile) as error:
        raise ResultsError(
            f"{arrays}: must be arrays beside {path.name}, got {error}; remove {path.name}, and run "
            "fairseq-vgs evaluate run again"
        ) from error


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """Find the figures in a folder: updates -> file, in order; update 0 is the model with fresh weights."""
    found = {int(path.stem): path for path in folder.glob("*.json") if path.stem.isdecimal()}
    return dict(sorted(found.items()))


def score_rows(measured: Mapping[int, Mapping[str, Any]], *, seed: int) -> list[list[str]]:
    """Lay out recalls and the best layer's ABX error, in percent: a row per checkpoint, then MFCC and chance.

    Args:
        measured: updates -> figures, as `run_evaluation.evaluate_run` yields them.
        seed: of the fresh weights of update 0.
    """
    first = next(iter(measured.values()))
    recalls = [f"{way}_r{k}" for way in retrieval.DIRECTIONS for k in retrieval.RECALL_CUTOFFS]
    modes = {mode: key for mode, key in ABX_KEYS.items() if key in first}
    heads = [f"R@{k}" for k in retrieval.RECALL_CUTOFFS]
    rows = [["update", f"s->i {heads[0]}", *heads[1:], f"i->s {heads[0]}", *heads[1:]]]
    rows[0] += [head for mode in modes for head in (f"ABX {mode}", "best layer")]
    for updates, figures in measured.items():
        row = [str(updates) if updates else f"untrained (seed {seed})"]
        row += [f"{figures['retrieval'][name]:.1f}" for name in recalls]
        for key in modes.values():
            errors = figures[key]["error"]
            best = min(errors, key=errors.__getitem__)
            row += [f"{errors[best]:.2f}", best]
        rows.append(row)
    for name, error in first.get("baselines", {}).items():
        rows.append([name.upper(), *["-"] * len(recalls), f"{error:.2f}", ""])
    chance = first["retrieval"]["chance"]
    rows.append(["chance", *(f"{chance[name]:.1f}" for name in recalls)])
    rows[-1] += [f"{abx_results.CHANCE:.2f}", ""] * len(modes)
    return rows


def other_cells(figures: Mapping[str, Any]) -> list[str]:
    """Say which baselines were compared on other ABX cells than the model, one line each.

    Args:
        figures: of update 0, which has the baselines.
    """
    return [
        f"{name.upper()} has {theirs['cells']} ABX cells, the model {own['cells']} "
        f"({own['no_frame']} and {theirs['no_frame']} items without a frame): not the same items"
        for name, theirs in figures.get("baseline_counts", {}).items()
        if (theirs["cells"], theirs["triples"])
        != ((own := figures[ABX_KEYS["within"]]["counts"])["cells"], own["triples"])
    ]


def certain_cutoffs(figures: Mapping[str, Any]) -> list[str]:
    """Name the recalls that any order reaches, such as "image -> speech R@10"."""
    chance = figures["retrieval"]["chance"]
    return [
        f"{title} R@{k}"
        for way, title in report.DIRECTION_TITLES.items()
        for k in retrieval.RECALL_CUTOFFS
        if chance[f"{way}_r{k}"] >= 100.0
    ]
