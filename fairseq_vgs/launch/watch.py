"""Run a training command as a child: one bar, a line per validation, signals handed on."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from tqdm import tqdm

from fairseq_vgs.launch.history import AppendedLines, RunHistory, warning_in
from fairseq_vgs.launch.process import start_process, stop_processes
from fairseq_vgs.launch.training import Training

logger = logging.getLogger(__name__)

LOG = "train.log"
POLL_SECONDS = 0.5
SECONDS_BETWEEN_LINES = 60.0  # where stderr is no terminal
_SHOWN_LINES = 15
_FINISHED = "the run is finished ("
_TERMINAL_CLOSED = getattr(signal, "SIGHUP", None)
_INFO = " | INFO | "  # what fairseq logs before Hydra sets up its log
# what Hydra adds to every error
_BOILERPLATE = ("Error executing job with overrides:", "Set the environment variable HYDRA_FULL_ERROR=1")


@dataclass(frozen=True)
class Outcome:
    """How a run ended: exit status, history, the last lines of its errors.

    ``was_finished``: there was nothing left to do.
    """

    status: int
    history: RunHistory
    errors: str
    was_finished: bool


class RunBar(AbstractContextManager["RunBar"]):
    """Shows the updates of a run on stderr: a bar on a terminal, otherwise a line a minute."""

    def __init__(self, total: int, *, initial: int) -> None:
        self._total, self._initial, self._start = total, initial, time.monotonic()
        self._next_line = self._start + SECONDS_BETWEEN_LINES
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total or None,
                initial=initial,
                desc="train",
                unit="update",
                dynamic_ncols=True,
                file=sys.stderr,
            )

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, text: str) -> None:
        """Print a permanent line."""
        if self._bar is not None:
            tqdm.write(text, file=sys.stderr)
        else:
            logger.info("%s", text)

    def show(self, history: RunHistory) -> None:
        """Show the last update, its losses, and the last R@10."""
        state = history.losses
        if history.last is not None and history.last.recalls is not None:
            state += f" R@10 {history.last.recalls[0]:.1f} %"
        if self._bar is not None:
            self._bar.n = min(history.update, self._total or history.update)
            self._bar.set_postfix_str(state, refresh=False)
            self._bar.refresh()
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            left = self._time_left(history.update)
            logger.info("update %d of %s: %s, %s", history.update, self._total or "?", state, left)

    def _time_left(self, update: int) -> str:
        made = update - self._initial
        if made <= 0 or not self._total:
            return "time left unknown"
        minutes = (time.monotonic() - self._start) / made * max(0, self._total - update) / 60
        return f"about {minutes:.0f} min left"


def run_training(training: Training) -> Outcome:
    """Run a command to its end and show how it gets on; it ends with this process."""
    log = training.run / LOG
    history = RunHistory(training.run / training.history if training.history else Path(os.devnull))
    history.read()
    lines = AppendedLines(log, from_end=True)
    was_finished = False
    with tempfile.TemporaryFile() as errors, RunBar(training.updates, initial=history.update) as bar:
        process = start_process(training.command, log=log, environment=training.environment, errors=errors)
        try:
            with _handed_on(process) as received:
                ended = False
                while not ended:
                    ended = _ended(process)
                    while received:
                        bar.say(_said(received.pop(0)))
                    for validation in history.read():
                        bar.say(f"update {validation.update}: {validation}")
                    for line in lines:
                        was_finished = was_finished or _FINISHED in line
                        if warning := warning_in(line):
                            bar.say(f"warning: {warning}")
                    bar.show(history)
        finally:
            stop_processes([process])
        text = _errors(errors, log)
    status = process.returncode
    return Outcome(status if status >= 0 else 128 - status, history, text, was_finished)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def _handed_on(process: subprocess.Popen[bytes]) -> Iterator[list[signal.Signals]]:
    """Send SIGINT and SIGTERM on to the process, and SIGTERM where the terminal is closed.

    Yields the signals that have come. They are said elsewhere: a handler that wrote to stderr could interrupt
    a write to it, which Python refuses as reentrant.
    """
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def hand_on(number: int, _frame: FrameType | None) -> None:
        chosen = signal.Signals(number)
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM if chosen is _TERMINAL_CLOSED else chosen)
        received.append(chosen)

    numbers = [one for one in (signal.SIGINT, signal.SIGTERM, _TERMINAL_CLOSED) if one is not None]
    before = {one: signal.getsignal(one) for one in numbers}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # nohup, or a job in the background of a script
                signal.signal(number, hand_on)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _said(received: signal.Signals) -> str:
    again = "press Ctrl-C" if received is signal.SIGINT else f"send {received.name}"
    return f"{received.name}: finishing this update, then saving a checkpoint; {again} again to stop at once"


def _errors(file: IO[bytes], log: Path) -> str:
    """Append what a process wrote to stderr to its log; return its last lines."""
    file.seek(0)
    written = file.read()
    with log.open("ab") as target:
        target.write(written)
    lines = [line.rstrip() for line in written.decode("utf-8", errors="replace").split("\n")]
    own = [line for line in lines if line and not line.startswith(_BOILERPLATE) and _INFO not in line]
    return "\n".join(own[-_SHOWN_LINES:])
