"""Reading the curves out of a run's log.

Three kinds of lines are read: the task's own history (``tasks.history``: one JSON line per update, the best
source), fairseq's JSON (``common.log_format=json``; also with a logger's prefix in front, as in
``hydra_train.log``), and fairseq's plain text (what a run without a terminal writes by default; mostly one
point per epoch).

fairseq adds a file handler with every epoch, so a log holds each line several times; and a resumed run
continues the same file from an earlier update. Both are undone here: when the updates go back, what was
logged beyond that point is dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TRAIN = "train"
_EPOCH_SUMMARY = "train_epoch"
_NOT_VALUES = ("num_updates", "epoch", "update", "split")

_TEXT_EPOCH = re.compile(
    r"epoch \d+ \| (?:valid on '(?P<subset>[^']+)' subset \| )?(?P<stats>.*\bnum_updates \d+.*)"
)
_TEXT_INNER = re.compile(r"epoch \d+:\s+\d+ / \d+ (?P<stats>\S+=.*)")
_ASSIGNMENT = re.compile(r"(\w+)=([^,\s]+)")


class TrainingLogError(ValueError):
    """A log cannot be read or holds nothing to draw."""


@dataclass(frozen=True)
class Curve:
    """Values over updates: int64[n] ascending, f64[n]."""

    updates: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingLog:
    """Curves by part of the run and name.

    Attributes:
        curves: part ("train", or a validation subset such as "valid") -> name ("vgs_loss", "alpha", ...) ->
            curve.
        n_rewinds: how often the updates went back: a resumed or restarted run.
    """

    curves: Mapping[str, Mapping[str, Curve]]
    n_rewinds: int = 0

    def curve(self, part: str, name: str) -> Curve | None:
        """Return one curve, None if the log has none."""
        return self.curves.get(part, {}).get(name)

    def last(self, part: str, name: str) -> float | None:
        """Return the last value of a curve."""
        curve = self.curve(part, name)
        return float(curve.values[-1]) if curve is not None and curve.values.size else None

    @property
    def validation_parts(self) -> list[str]:
        """Names of the validation subsets in the log."""
        return [part for part in self.curves if part != TRAIN]


@dataclass
class _Points:
    """Points while a log is read: part -> name -> update -> value."""

    parts: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    latest: int = 0
    n_rewinds: int = 0

    def add(self, part: str, update: int, values: Mapping[str, float]) -> None:
        if update < self.latest:
            self._rewind(update)
        self.latest = update
        curves = self.parts.setdefault(part, {})
        for name, value in values.items():
            curves.setdefault(name, {})[update] = value

    def _rewind(self, update: int) -> None:
        self.n_rewinds += 1
        for curves in self.parts.values():
            for points in curves.values():
                for late in [point for point in points if point >= update]:
                    del points[late]


def read_training_log(path: Path) -> TrainingLog:
    """Read a run's log.

    Raises:
        TrainingLogError: the file is missing or holds no logged update.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            log = parse_training_log(file)
    except OSError as error:
        raise TrainingLogError(
            f"{path}: log must be readable, got {error.strerror}; check the path"
        ) from error
    if not any(log.curves.values()):
        raise TrainingLogError(
            f"{path}: log must hold at least one logged update, got none; "
            "give the history file of the run, or train with common.log_format=json "
            "common.log_file=train.jsonl"
        )
    return log


def parse_training_log(lines: Iterable[str]) -> TrainingLog:
    """Read a log's lines; what is not a log record is passed over."""
    points = _Points()
    for part, update, values in _without_repeats(lines):
        points.add(part, update, values)
    parts = dict(points.parts)
    summary = parts.pop(_EPOCH_SUMMARY, {})
    # Means over an epoch stand in for names that were not logged in between.
    train = parts.setdefault(TRAIN, {})
    for name, means in summary.items():
        train.setdefault(name, means)
    curves = {
        part: {name: _curve(found) for name, found in named.items() if found} for part, named in parts.items()
    }
    return TrainingLog({part: named for part, named in curves.items() if named}, points.n_rewinds)


def _without_repeats(lines: Iterable[str]) -> Iterator[tuple[str, int, dict[str, float]]]:
    previous = ""
    for line in lines:
        if line == previous:
            continue
        previous = line
        record = _json_record(line) or _text_record(line)
        if record is not None:
            yield record


def _json_record(line: str) -> tuple[str, int, dict[str, float]] | None:
    start = line.find("{")
    if start < 0:
        return None
    try:
        stats = json.loads(line[start:])
    except ValueError:
        return None
    if not isinstance(stats, dict):
        return None
    if (
        "split" in stats and "update" in stats
    ):  # the task's history; a number that was not finite is null there
        numbers = {name: float("nan") if value is None else value for name, value in stats.items()}
        return _record(str(stats["split"]), {**numbers, "num_updates": stats["update"]})
    if "num_updates" in stats:
        return _record(TRAIN, stats)
    for key in stats:
        if key.endswith("_num_updates"):
            prefix = key.removesuffix("num_updates")
            part = prefix.removesuffix("_")
            own = {
                name.removeprefix(prefix): value for name, value in stats.items() if name.startswith(prefix)
            }
            return _record(_EPOCH_SUMMARY if part == TRAIN else part, own)
    return None


def _text_record(line: str) -> tuple[str, int, dict[str, float]] | None:
    if match := _TEXT_EPOCH.search(line):
        fields = (entry.strip().rpartition(" ") for entry in match["stats"].split(" | "))
        return _record(match["subset"] or _EPOCH_SUMMARY, {name.strip(): value for name, _, value in fields})
    if match := _TEXT_INNER.search(line):
        return _record(TRAIN, dict(_ASSIGNMENT.findall(match["stats"])))
    return None


def _record(part: str, stats: Mapping[str, Any]) -> tuple[str, int, dict[str, float]] | None:
    update = _number(stats.get("num_updates"))
    if update is None or not update.is_integer():
        return None
    numbers = {
        name: _number(value)
        for name, value in stats.items()
        if name not in ("num_updates", "epoch", "update")
    }
    return part, int(update), {name: value for name, value in numbers.items() if value is not None}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)  # NaN stays: a diverged loss shows as a gap
    except ValueError:
        return None


def _curve(points: Mapping[int, float]) -> Curve:
    updates = sorted(points)
    return Curve(
        np.array(updates, dtype=np.int64), np.array([points[update] for update in updates], dtype=np.float64)
    )
