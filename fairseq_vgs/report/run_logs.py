"""Read the curves and the cooperation probes (``probes.jsonl``, one JSON line each) from the logs of a run.

Curves come from the task's own history (``history.jsonl``, one JSON line per update, the best source),
fairseq's JSON (``common.log_format=json``, also with a prefix as in ``hydra_train.log``) or fairseq's plain
text (the default without a terminal, mostly one point per epoch).

fairseq adds a file handler with every epoch, so a log may repeat lines, and a resumed run appends to the same
file from an earlier update. Both are undone: when updates go back, later values are dropped.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_vgs.arrays import F64, I64
from fairseq_vgs.files.faults import FaultError

logger = logging.getLogger(__name__)

TRAIN = "train"
_EPOCH_SUMMARY = "train_epoch"
_HISTORY = '{"split"'  # how the task's own lines begin
_SHOWN = 5  # numbers of damaged lines
_NOT_VALUES = ("num_updates", "epoch", "update")
_PROBE_COLUMNS = ("gradient_cosine", "gradient_norm_ssl", "gradient_norm_vgs", "cka")

_TEXT_EPOCH = re.compile(
    r"epoch \d+ \| (?:valid on '(?P<subset>[^']+)' subset \| )?(?P<stats>.*\bnum_updates \d+.*)"
)
_TEXT_INNER = re.compile(r"epoch \d+:\s+\d+ / \d+ (?P<stats>\S+=.*)")
_ASSIGNMENT = re.compile(r"(\w+)=([^,\s]+)")

_Record = tuple[str, int, dict[str, float]]  # part, update, values


class TrainingLogError(FaultError):
    """A log cannot be read or has nothing to draw."""


@dataclass(frozen=True)
class Curve:
    """Values over ascending updates."""

    updates: I64
    values: F64


@dataclass(frozen=True)
class TrainingLog:
    """Curves: part ("train", or a validation subset such as "valid") -> name ("vgs_loss", ...) -> curve.

    ``n_rewinds``: how often the updates went back because the run was resumed.
    """

    curves: Mapping[str, Mapping[str, Curve]]
    n_rewinds: int = 0

    def curve(self, part: str, name: str) -> Curve | None:
        """Return a curve, if it was logged."""
        return self.curves.get(part, {}).get(name)

    def last(self, part: str, name: str) -> float | None:
        """Return the last value of a curve, if it was logged."""
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
            self.n_rewinds += 1
            for points in (points for curves in self.parts.values() for points in curves.values()):
                for late in [point for point in points if point >= update]:
                    del points[late]
        self.latest = update
        for name, value in values.items():
            self.parts.setdefault(part, {}).setdefault(name, {})[update] = value


@dataclass(frozen=True)
class ProbeRecord:
    """One cooperation probe; values by layer, NaN if undefined.

    Cosine and lengths (nats per unit of the parameters) of the gradients of the SSL and the VGS loss are by
    group of shared parameters: ``extractor``, ``input``, ``layer_1``.., and ``shared``, all of them together.
    ``cka`` is the linear CKA between the frames at the start of the phase and now, by ``extractor``,
    ``layer_1``..; empty if the run started without probes.
    """

    update: int
    gradient_cosine: Mapping[str, float]
    gradient_norm_ssl: Mapping[str, float]
    gradient_norm_vgs: Mapping[str, float]
    cka: Mapping[str, float]


def read_training_log(path: Path) -> TrainingLog:
    """Read a run's log.

    Raises:
        TrainingLogError: ``log.unreadable``, or ``log.empty`` without a logged update.
    """
    damaged: list[int] = []
    log = parse_training_log(_lines(path), damaged)
    _name_damaged(path, damaged)
    if not any(log.curves.values()):
        step = (
            "give the run's history.jsonl, or train with common.log_format=json common.log_file=train.jsonl"
        )
        raise empty_log(path, "at least one logged update", step)
    return log


def read_probes(path: Path) -> list[ProbeRecord]:
    """Read a run's probes by update; damaged lines are named and left out.

    Raises:
        TrainingLogError: ``log.unreadable``, or ``log.empty`` without a probe.
    """
    records: list[ProbeRecord] = []
    damaged = []
    for number, line in enumerate(_lines(path), start=1):
        if record := _probe(line):
            records = [*(old for old in records if old.update < record.update), record]
        elif line.strip():
            damaged.append(number)
    _name_damaged(path, damaged)
    if not records:
        raise empty_log(path, "at least one probe", "train with task.probe_interval=N")
    return records


def _name_damaged(path: Path, numbers: Sequence[int]) -> None:
    """Warn of damaged lines; a kill leaves one, whose update is repeated when the run is resumed."""
    if numbers:
        shown = ", ".join(map(str, numbers[:_SHOWN])) + (", ..." if len(numbers) > _SHOWN else "")
        logger.warning(
            "%s: damaged lines are left out: %s; values are missing unless a resumed run repeated them",
            path,
            shown,
        )


def empty_log(place: object, expected: str, next_step: str) -> TrainingLogError:
    """Build the error of a log that lacks what is needed."""
    return TrainingLogError.at(place, f"log must hold {expected}, got none; {next_step}", "log.empty")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from file
    except OSError as error:
        message = f"log must be readable, got {error.strerror!r}; check the path"
        raise TrainingLogError.at(path, message, "log.unreadable") from error


def parse_training_log(lines: Iterable[str], damaged: list[int] | None = None) -> TrainingLog:
    """Read the lines of a log, skipping those without values.

    ``damaged`` gets the numbers of lines that are no JSON although they begin so or, in a run's history,
    whatever they are.
    """
    points, unread, number, is_history = _Points(), [], 0, False
    for line, repeated in groupby(lines):
        if record := _json_record(line) or _text_record(line):
            points.add(*record)
            is_history = is_history or line.startswith(_HISTORY)
        elif line.strip():
            unread.append((number + 1, line))
        number += sum(1 for _ in repeated)
    if damaged is not None:
        damaged += [at for at, line in unread if is_history or _is_cut(line)]
    parts = dict(points.parts)
    summary = parts.pop(_EPOCH_SUMMARY, {})
    # Means over an epoch replace values that were not logged in between.
    parts[TRAIN] = summary | parts.get(TRAIN, {})
    curves = {
        part: {name: _curve(found) for name, found in named.items() if found} for part, named in parts.items()
    }
    return TrainingLog({part: named for part, named in curves.items() if named}, points.n_rewinds)


def _is_cut(line: str) -> bool:
    try:
        return line.startswith("{") and json.loads(line) is None
    except (ValueError, RecursionError):
        return True


def _json_record(line: str) -> _Record | None:
    start = line.find("{")
    if start < 0:
        return None
    try:
        stats = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(stats, dict):
        return None
    if "split" in stats and "update" in stats:  # the task's history, in which null is NaN
        numbers = {name: math.nan if value is None else value for name, value in stats.items()}
        return _record(str(stats["split"]), {**numbers, "num_updates": stats["update"]})
    if "num_updates" in stats:
        return _record(TRAIN, stats)
    part = next((key.removesuffix("_num_updates") for key in stats if key.endswith("_num_updates")), None)
    if part is None:
        return None
    prefix = f"{part}_"
    own = {name.removeprefix(prefix): value for name, value in stats.items() if name.startswith(prefix)}
    return _record(_EPOCH_SUMMARY if part == TRAIN else part, own)


def _text_record(line: str) -> _Record | None:
    if match := _TEXT_EPOCH.search(line):
        fields = (entry.strip().rpartition(" ") for entry in match["stats"].split(" | "))
        return _record(match["subset"] or _EPOCH_SUMMARY, {name.strip(): value for name, _, value in fields})
    if match := _TEXT_INNER.search(line):
        return _record(TRAIN, dict(_ASSIGNMENT.findall(match["stats"])))
    return None


def _record(part: str, stats: Mapping[str, Any]) -> _Record | None:
    update = _number(stats.get("num_updates"))
    if update is None or not update.is_integer():
        return None
    numbers = {name: _number(value) for name, value in stats.items() if name not in _NOT_VALUES}
    return part, int(update), {name: value for name, value in numbers.items() if value is not None}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)  # NaN stays: a diverged loss shows as a gap
    except ValueError:
        return None


def _curve(points: Mapping[int, float]) -> Curve:
    ordered = sorted(points.items())
    return Curve(np.array([u for u, _ in ordered], np.int64), np.array([v for _, v in ordered], np.float64))


def _probe(line: str) -> ProbeRecord | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("update"), int):
        return None
    return ProbeRecord(values["update"], *(_by_layer(values.get(column)) for column in _PROBE_COLUMNS))


def _by_layer(values: Any) -> dict[str, float]:
    if not isinstance(values, dict):
        return {}
    numbers = {name: math.nan if value is None else value for name, value in values.items()}
    return {name: float(value) for name, value in numbers.items() if isinstance(value, int | float)}
