"""JSON lines that a run writes, one per update and per validation.

fairseq's own logs are averages over log intervals, mixed with other output.
"""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed

STILL_RISING = 5.0
"""Points of R@10 between the last two validations above which a run was not done."""


class JsonLines:
    """Appends records to a JSON-lines file, after ending a line that a kill of an earlier process cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checked = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; a ValueError says that a number is not finite, which JSON cannot write."""
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
        self._lines = JsonLines(path)

    def append(self, split: str, update: int, values: Mapping[str, Any]) -> None:
        """Write the values of "train" or a validation set after some updates.

        Names with a leading underscore and values that are no numbers are left out; NaN and infinity: null.
        """
        record: dict[str, Any] = {"split": split, "update": update}
        for key, value in values.items():
            if not key.startswith("_"):
                with contextlib.suppress(TypeError, ValueError):
                    record[key] = finite_or_none(float(value))
        self._lines.append(record)


def unfinished(recalls: Sequence[tuple[int, float]], *, chance: float) -> str:
    """Say in one line that a run has not learned to retrieve yet, or is still learning; "" if it is done.

    ``recalls`` are updates and speech-to-image R@10 in percent of one validation set, in their order.
    """
    update, last = recalls[-1]
    remedy = "try more updates (optimization.max_update) or another value of common.seed"
    if last < min(2 * chance, (100 + chance) / 2):
        return (
            f"R@10 of validation is {last:.1f} % at update {update}, near chance ({chance:.1f} %): the run "
            f"has not left its plateau; {remedy}"
        )
    if len(recalls) > 1 and last - recalls[-2][1] > STILL_RISING:
        return (
            f"R@10 of validation rose from {recalls[-2][1]:.1f} to {last:.1f} % up to the last update, "
            f"{update}: the run left its plateau late and is still learning; {remedy}"
        )
    return ""


def finite_or_none(number: float) -> float | None:
    """Return the number, or None (null in JSON) if it is not finite."""
    return number if math.isfinite(number) else None


def is_first_rank() -> bool:
    """Return whether this process writes the run's files."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _ends_within_a_line(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"
