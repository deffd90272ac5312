"""Follow a run by the lines that it appends to its history and its log."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TAIL_BYTES = 8192
_LOSSES = {"ssl_loss": "SSL", "vgs_loss": "VGS"}
_TRAIN = '{"split": "train"'
_WARNING = re.compile(r"\[fairseq_vgs\.[\w.]+\]\[WARNING\] - (.*)")
RECALLS = ("speech_to_image_r10", "image_to_speech_r10")


def read_position(history: Path) -> tuple[int, str]:
    """Return the last update in a run's history and its losses in words; (0, "") before the first."""
    try:
        with history.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return 0, ""
    for line in reversed(lines):
        record = _record(line)
        if record.get("split") == "train":
            return record["update"], losses(record)
    return 0, ""


def losses(record: Mapping[str, Any]) -> str:
    """Return the losses of a line of the history, such as "SSL 2.910 VGS 1.100"."""
    found = {title: record.get(name) for name, title in _LOSSES.items()}
    return " ".join(f"{title} {value:.3f}" for title, value in found.items() if isinstance(value, float))


class AppendedLines:
    """Returns the lines that were appended to a file since it was last asked; the file need not exist yet."""

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self._path = path
        self._read = path.stat().st_size if from_end and path.exists() else 0

    def __iter__(self) -> Iterator[str]:
        """Yield whole lines; one that is still being written waits for the next time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._read += len(line)
                    yield line.decode("utf-8", errors="replace").rstrip("\n")
        except OSError:
            return


@dataclass(frozen=True)
class Validation:
    """What one validation measured; recalls in percent, None where there is no retrieval."""

    split: str
    update: int
    losses: str
    recalls: tuple[float, float] | None

    def __str__(self) -> str:
        recalls = ""
        if self.recalls is not None:
            recalls = (
                f" R@10 {self.recalls[0]:.1f} % speech to image, {self.recalls[1]:.1f} % image to speech"
            )
        return f"{self.split} {self.losses}{recalls}"


class RunHistory:
    """The state of a run in training: last update, its losses, best R@10.

    Attributes:
        update: last update; 0 before the first.
        losses: of that update, in words.
        last: the newest validation.
        best: the validation of the first validation split with the best speech-to-image R@10.
    """

    def __init__(self, path: Path) -> None:
        self._lines = AppendedLines(path)
        self.update, self.losses = 0, ""
        self.last: Validation | None = None
        self.best: Validation | None = None

    def read(self) -> list[Validation]:
        """Read what was appended; return the new validations."""
        newest, found = "", []
        for line in self._lines:
            if line.startswith(_TRAIN):
                newest = line  # parsed once: a long history holds hundreds of thousands
            elif (record := _record(line)) and "split" in record:
                found.append(_validation(record))
        if record := _record(newest):
            self.update, self.losses = record["update"], losses(record)
        for one in found:
            self._count(one)
        return found

    def _count(self, one: Validation) -> None:
        self.last = one
        if one.recalls is None or (self.best is not None and self.best.split != one.split):
            return
        if self.best is None or self.best.recalls is None or one.recalls[0] >= self.best.recalls[0]:
            self.best = one


def warning_in(line: str) -> str:
    """Return the text of a warning of this package in a line of a run's log, or ""."""
    found = _WARNING.search(line)
    return found[1] if found else ""


def _validation(record: Mapping[str, Any]) -> Validation:
    recalls = [record.get(name) for name in RECALLS]
    is_telling = record.get("retrieval_images", math.inf) > 10  # of fewer, every order has all among ten
    known = is_telling and all(isinstance(value, float) for value in recalls)
    return Validation(
        split=str(record["split"]),
        update=record["update"],
        losses=losses(record),
        recalls=(recalls[0], recalls[1]) if known else None,  # type: ignore[arg-type]
    )


def _record(line: str) -> dict[str, Any]:
    """Return a line of the history; empty for one that was cut off."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    is_whole = isinstance(record, dict) and type(record.get("update")) is int
    return record if is_whole else {}
