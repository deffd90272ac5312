"""What a study has found so far: every evaluated checkpoint of every scenario and seed.

A point's items, from which intervals and paired differences are computed, are those of a checkpoint of
``fairseq-vgs evaluate run``: see `evaluation.results`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.results import ITEMS_NAME, Items, read_items
from fairseq_vgs.evaluation.version_1 import items_of, read_arrays
from fairseq_vgs.report.run_logs import ProbeRecord
from fairseq_vgs.study.settings import StudySettings

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Point:
    """One evaluated checkpoint.

    Attributes:
        scenario: name of the primary, such as "w2v2_then_vgs", or "untrained".
        seed: of weights, data order and masks.
        phase: "whole", "first", "second" or "untrained".
        update: updates since the scenario began, those of its first phase included.
        losses: "ssl_loss" and "vgs_loss" in nats on the validation split.
        retrieval: "speech_to_image_r1", ..., "image_to_speech_r10" in percent, "..._mrr" in 0..1,
            "..._median_rank"; on the test split.
        abx: layer -> phone ABX error within speaker in percent.
        abx_across: the same across speakers.
        items: folder of the checkpoint's evaluations or, of version 0.1.0, ``UPDATES.npz``.
    """

    scenario: str
    seed: int
    phase: str
    update: int
    losses: Mapping[str, float] = field(default_factory=dict)
    retrieval: Mapping[str, float] = field(default_factory=dict)
    abx: Mapping[str, float] = field(default_factory=dict)
    items: Path | None = None
    abx_across: Mapping[str, float] = field(default_factory=dict)

    @property
    def best_layer(self) -> str | None:
        """The layer with the lowest ABX error within speaker, the lower one of equals; None without ABX."""
        return self.best_layer_in("abx")

    def best_layer_in(self, kind: str) -> str | None:
        """Return the layer with the lowest error in "abx" or "abx_across"; None without."""
        errors: Mapping[str, float] = getattr(self, kind)
        return min(errors, key=errors.__getitem__) if errors else None

    @property
    def best_abx(self) -> float:
        """ABX error of the best layer in percent; NaN without ABX."""
        layer = self.best_layer
        return float("nan") if layer is None else self.abx[layer]


@dataclass(frozen=True)
class Training:
    """Losses of one scenario and seed over its updates, for curves.

    Attributes:
        losses: "ssl_loss" and "vgs_loss" -> (i64[n] updates since the scenario began, f64[n] nats).
        boundary: update at which the second phase began; None for scenarios of one phase.
        probes: the cooperation probes of all phases, by update since the scenario began.
    """

    losses: Mapping[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]
    boundary: int | None
    probes: tuple[ProbeRecord, ...] = ()


@dataclass(frozen=True)
class StudyResults:
    """Everything that tables, plots, verdicts and the page are made from.

    Attributes:
        settings: what was to be run.
        points: by scenario, seed and update; a shared first phase appears in each of its scenarios.
        untrained: seed -> the same model before training.
        training: (scenario, seed) -> losses over updates.
        chance: measure -> what a random order scores, percent ("abx": 50).
        baselines: features without a model ("mfcc") -> phone ABX error in percent.
        missing: what has not been run or evaluated, in words.
        facts: pool sizes, ABX protocol, machine, versions: what has to stand beside the numbers.
        recipe: settings of the model and its losses that matter (`study.recipe`); empty if unknown.
    """

    settings: StudySettings
    points: tuple[Point, ...]
    untrained: Mapping[int, Point]
    training: Mapping[tuple[str, int], Training]
    chance: Mapping[str, float]
    baselines: Mapping[str, float]
    missing: tuple[str, ...]
    facts: Mapping[str, object]
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def final(self, scenario: str, seed: int) -> Point | None:
        """Return the last point of a scenario, if it is the end of the scenario's training."""
        end = self.settings.updates_of(scenario)
        found = [
            point
            for point in self.points
            if (point.scenario, point.seed, point.update) == (scenario, seed, end)
        ]
        return found[0] if found else None

    def finals(self, scenario: str) -> dict[int, Point]:
        """Return the final points of a scenario by seed; seeds that have not finished are left out."""
        found = {seed: self.final(scenario, seed) for seed in self.settings.seeds}
        return {seed: point for seed, point in found.items() if point is not None}


def load_items(path: Path) -> dict[str, dict[str, Items]]:
    """Read a point's items: name of an evaluation -> set -> items; nothing in the files is run.

    Raises:
        ResultsError: Broken, or written before the phones of pairs were.
    """
    if path.suffix == ".npz":
        return items_of(read_arrays(path))
    return {
        found.parent.name: next(iter(read_items(found).values())) for found in path.glob(f"*/{ITEMS_NAME}")
    }
