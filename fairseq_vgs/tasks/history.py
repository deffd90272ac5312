"""JSON lines that a run writes, one per update and per validation.

fairseq's own logs are averages over log intervals, mixed with other output.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed

HIDDEN_PREFIX = "_"


class JsonLines:
    """Appends records to a JSON-lines file, and to that of an earlier process when a run is resumed.

    A line that a kill cut off is ended first, so it spoils no other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checked = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record.

        Raises:
            ValueError: a number is not finite, which JSON cannot write.
        """
        line = json.dumps(record, allow_nan=False) + "\n"
        if not self._checked:
            self._checked = True
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if _ends_within_a_line(self.path):
                line = "\n" + line
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)


class TrainingHistory:
    """Writes what a run logs. Updates repeated after a resume appear twice; the later one counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = JsonLines(path)

    def append(self, split: str, update: int, values: Mapping[str, Any]) -> None:
        """Write one record.

        Args:
            split: "train" or the name of a validation set.
            update: number of updates done.
            values: numbers by name; hidden names and non-numbers are left out, NaN and infinity become null.
        """
        record: dict[str, Any] = {"split": split, "update": update}
        for key, value in values.items():
            number = _number(value)
            if number is not None and not key.startswith(HIDDEN_PREFIX):
                record[key] = finite_or_none(number)
        self._lines.append(record)


def finite_or_none(number: float) -> float | None:
    """Return the number, or None (null in JSON) if it is not finite."""
    return number if math.isfinite(number) else None


def is_first_rank() -> bool:
    """Return whether this process writes the run's files."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _ends_within_a_line(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"
