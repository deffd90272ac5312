"""What a running study shows: a bar over all updates, and a line per process with its run and losses."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 60.0  # where stderr is no terminal
_TAIL_BYTES = 8192
_LOSSES = {"ssl_loss": "SSL", "vgs_loss": "VGS"}


@dataclass(frozen=True)
class RunState:
    """Where one active run is.

    Attributes:
        name: of the run.
        stage: "train" or "evaluate".
        done: updates made, or checkpoints evaluated.
        total: of them.
        losses: shown beside, such as "SSL 2.91 VGS 1.10".
    """

    name: str
    stage: str
    done: int
    total: int
    losses: str = ""

    def __str__(self) -> str:
        """Return one line."""
        unit = "update" if self.stage == "train" else "checkpoint"
        return f"{self.name}: {self.stage}, {unit} {self.done}/{self.total} {self.losses}".rstrip()


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
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut at the start of what was read, or being written
        if isinstance(record, dict) and record.get("split") == "train":
            losses = [f"{title} {record[name]:.3f}" for name, title in _LOSSES.items() if record.get(name)]
            return int(record["update"]), " ".join(losses)
    return 0, ""


class Progress:
    """Shows the state of a study on stderr: bars on a terminal, else a line per process now and then.

    Args:
        total_updates: of all runs.
        done_updates: of them, those that were made before; they say nothing about the time left.
        n_slots: processes at a time.
    """

    def __init__(self, *, total_updates: int, done_updates: int, n_slots: int) -> None:
        self._terminal = sys.stderr.isatty()
        self._bars: list[Any] = []
        self._total, self._start, self._initial = total_updates, time.monotonic(), done_updates
        self._next_line = 0.0
        if self._terminal:
            overall = tqdm(
                total=total_updates,
                initial=done_updates,
                desc="study",
                unit="update",
                dynamic_ncols=True,
                file=sys.stderr,
                position=0,
            )
            lines = [
                tqdm(total=0, bar_format="{desc}", file=sys.stderr, position=1 + n) for n in range(n_slots)
            ]
            self._bars = [overall, *lines]

    def __enter__(self) -> Progress:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal clean."""
        for bar in reversed(self._bars):
            bar.close()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        if self._terminal:
            tqdm.write(text, file=sys.stderr)
        else:
            logger.info("%s", text)

    def show(self, finished_updates: int, states: Sequence[RunState | None]) -> None:
        """Show the present state; updates of runs in training are added to the finished ones."""
        training = sum(state.done for state in states if state is not None and state.stage == "train")
        updates = min(self._total, finished_updates + training)
        if self._terminal:
            self._bars[0].n = updates
            self._bars[0].refresh()
            # a line that wraps would be left standing when the next one is drawn
            width = shutil.get_terminal_size().columns - 1
            for bar, state in zip(self._bars[1:], states, strict=True):
                bar.set_description_str(("  idle" if state is None else f"  {state}")[:width])
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            logger.info("%d of %d updates, %s", updates, self._total, self._time_left(updates))
            for state in states:
                if state is not None:
                    logger.info("  %s", state)

    def _time_left(self, updates: int) -> str:
        made = updates - self._initial
        if made <= 0:
            return "time left unknown"
        seconds = (time.monotonic() - self._start) / made * (self._total - updates)
        return f"about {seconds / 60:.0f} min left"
