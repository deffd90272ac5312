"""Run the unfinished part of a study, several runs at a time; it can be killed at any moment.

One slot (a CPU process or a GPU) trains a run, then evaluates its checkpoints. A file marks each finished
stage; interrupted training resumes from its last checkpoint, evaluation at the next one.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fairseq_vgs.checkpoints.runs import checkpoint_after, has_ended, keep_epoch_checkpoints
from fairseq_vgs.compat.checkpoint_files import mend_checkpoints
from fairseq_vgs.evaluation.over_training import checkpoints_in
from fairseq_vgs.files.atomic import lock, write_text
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.parallel import n_cores
from fairseq_vgs.launch.history import read_position
from fairseq_vgs.launch.process import start_process, stop_processes
from fairseq_vgs.study import launch
from fairseq_vgs.study.declared import declare
from fairseq_vgs.study.markers import (
    StudyError,
    is_marked,
    mark,
    measured_on,
    refuse_other_settings,
    run_identity,
    training_data,
)
from fairseq_vgs.study.plan import PhaseRun, RunFolder, Stop, StudyFolder, plan_runs, points_of, stops_of
from fairseq_vgs.study.settings import Prepared, StudySettings

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_LOG_LINES = 15
SECONDS_BETWEEN_LINES = 60.0  # where stderr is no terminal
# What looking at the checkpoints of one run may raise; the other runs go on.
_UNREADABLE = (FaultError, OSError, MemoryError)


@dataclass
class Slot:
    """Resources for one run at a time: a GPU (None: CPU) and CPU threads (None: as the libraries choose)."""

    gpu: str | None = None
    threads: int | None = None
    run: PhaseRun | None = None
    stage: str = ""
    stop: Stop | None = None
    process: subprocess.Popen[bytes] | None = None


@dataclass(frozen=True)
class RunState:
    """How far an active run has come in its stage, ``train`` (updates) or ``evaluate`` (checkpoints).

    ``losses`` are for display, such as "SSL 2.91 VGS 1.10".
    """

    name: str
    stage: str
    done: int
    total: int
    losses: str = ""

    def __str__(self) -> str:
        unit = "update" if self.stage == "train" else "checkpoint"
        return f"{self.name}: {self.stage}, {unit} {self.done}/{self.total} {self.losses}".rstrip()


class Progress(AbstractContextManager["Progress"]):
    """Show the state of a study on stderr: bars on a terminal, otherwise occasional lines.

    Of all runs' ``total_updates``, those done earlier do not count for the time left.
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
                position=0,
                dynamic_ncols=True,
                file=sys.stderr,
            )
            lines = (
                tqdm(total=0, bar_format="{desc}", file=sys.stderr, position=1 + n) for n in range(n_slots)
            )
            self._bars = [overall, *lines]

    def __exit__(self, *_: object) -> None:
        for bar in reversed(self._bars):
            bar.close()

    def say(self, text: str) -> None:
        """Print a permanent line."""
        if self._terminal:
            tqdm.write(text, file=sys.stderr)
        else:
            logger.info("%s", text)

    def show(self, finished_updates: int, states: Sequence[RunState | None]) -> None:
        """Show the state; updates of runs in training are added to the finished ones."""
        training = sum(state.done for state in states if state is not None and state.stage == "train")
        updates = min(self._total, finished_updates + training)
        if self._terminal:
            self._bars[0].n = updates
            self._bars[0].refresh()
            width = shutil.get_terminal_size().columns - 1  # a wrapped line would not be erased
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


@dataclass
class StudyRunner:
    """Runs the ``settings`` in ``folder``, one run at a time on each slot.

    ``failures`` maps the name of a failed run to the reason.
    """

    settings: StudySettings
    folder: StudyFolder
    slots: Sequence[Slot]
    failures: dict[str, str] = field(default_factory=dict)
    _data: dict[str, str] = field(default_factory=dict, init=False)
    _measured_on: dict[str, str] = field(default_factory=dict, init=False)
    _progress: Progress = field(init=False, repr=False)
    _lock: int = field(init=False, repr=False)

    def run(self) -> dict[str, str]:
        """Run everything that is missing; return ``failures``, with the runs that start from a failed one.

        Raises:
            FaultError: another run of the study goes on (``output.busy``).
            StudyError: the study started with other settings, or its data cannot be made.
        """
        with _locked(self.folder.lock) as self._lock:
            runs = list(plan_runs(self.settings))
            self._require_same_settings(runs)
            write_text(self.folder.settings, json.dumps(self.settings.as_json(), indent=2) + "\n", force=True)
            if self._prepare_data():
                self._require_same_settings(runs)
            self._measured_on = measured_on(self.settings, self.folder)
            waiting = [run for run in runs if not self._is_finished(run)]
            declare(self.folder, self.settings, n_finished=len(runs) - len(waiting))
            total, done = sum(run.max_update for run in runs), self._updates_done(waiting)
            with Progress(total_updates=total, done_updates=done, n_slots=len(self.slots)) as self._progress:
                try:
                    self._loop(waiting)
                finally:
                    stop_processes([slot.process for slot in self.slots if slot.process is not None])
        return self.failures

    def _require_same_settings(self, runs: Sequence[PhaseRun]) -> None:
        self._data = training_data(self.settings, self.folder)
        refuse_other_settings(runs, self.settings, self.folder, self._data)

    def _loop(self, waiting: list[PhaseRun]) -> None:
        while True:
            for slot in self.slots:
                self._advance(slot)
                if slot.process is None and (run := self._next(waiting)) is not None:
                    waiting.remove(run)
                    self._begin(slot, run)
            if not waiting and all(slot.process is None for slot in self.slots):
                return
            self._progress.show(self._updates_done(waiting), [self._state(slot) for slot in self.slots])
            time.sleep(POLL_SECONDS)

    def _next(self, waiting: list[PhaseRun]) -> PhaseRun | None:
        """Choose a run whose base run is trained; fail those whose base run failed."""
        planned = {run.name: run for run in plan_runs(self.settings)}
        for run in list(waiting):
            if run.start in self.failures:
                self.failures[run.name] = f"its base run {run.start} failed"
                waiting.remove(run)
            elif run.start is None or self._is_trained(planned[run.start]):
                return run
        return None

    def _begin(self, slot: Slot, run: PhaseRun) -> None:
        slot.run = run
        folder = self.folder.run(run.name)
        try:
            mend_checkpoints(folder.run / "checkpoints", start_over=True)
            self._keep_checkpoints(folder)
        except _UNREADABLE as error:
            self._fail(slot, _reason(error, folder))
            return
        if not self._is_trained(run) and has_ended(folder.run, run.max_update):
            mark(folder.trained, run)  # killed between the last checkpoint and its mark
        self._start(slot, run, "evaluate" if self._is_trained(run) else "train")

    def _start(self, slot: Slot, run: PhaseRun, stage: str) -> None:
        folder = self.folder.run(run.name)
        try:
            command = self._command(run, folder, stage, slot)
        except ValueError as error:
            self._fail(slot, str(error))
            return
        slot.stage = stage
        chosen = launch.environment(threads=slot.threads, gpu=slot.gpu)
        slot.process = start_process(command, log=folder.log, environment=chosen, kept_open=[self._lock])

    def _command(self, run: PhaseRun, folder: RunFolder, stage: str, slot: Slot) -> list[str]:
        data, settings = self.folder.data(self.settings.data).resolve(), self.settings
        if stage == "evaluate":
            device = "cpu" if slot.gpu is None else "cuda"
            words = None if settings.lexical is None else self.folder.data(settings.lexical).resolve()
            return launch.evaluation_command(
                run,
                settings,
                data=data,
                folder=folder,
                untrained=run.start is None,
                device=device,
                words=words,
            )
        start = None
        if run.start is not None:
            base = self.folder.run(run.start)
            start = checkpoint_after(base.run, run.start_update)
            if not start.is_file():
                message = (
                    f"must exist for {run.name} to start from, got {_checkpoint_names(base)}; remove "
                    f"{base.path} and run the study again, which trains {run.start} again"
                )
                raise StudyError.at(start, message, "checkpoint.missing")
        on_gpu = slot.gpu is not None
        whole = launch.training_command(run, settings, data=data, folder=folder, start=start, on_gpu=on_gpu)
        identity = run_identity(whole, run, settings, self._data)
        write_text(folder.command, json.dumps(identity, indent=1) + "\n", force=True)
        stops = (stop for stop in stops_of(run, settings) if not has_ended(folder.run, stop.max_update))
        slot.stop = next(stops, None)
        return launch.training_command(
            run, settings, data=data, folder=folder, start=start, stop=slot.stop, on_gpu=on_gpu
        )

    def _keep_checkpoints(self, folder: RunFolder) -> None:
        settings = self.settings
        keep_epoch_checkpoints(folder.run, every=settings.evaluate_every, at=settings.evaluate_at)

    def _advance(self, slot: Slot) -> None:
        """Start the next stage if a slot's process has ended, or free the slot."""
        if slot.process is None or slot.run is None:
            return
        ended = slot.process.poll() is not None
        run, code, folder = slot.run, slot.process.returncode, self.folder.run(slot.run.name)
        if slot.stage == "train":
            try:
                self._keep_checkpoints(folder)
            except _UNREADABLE as error:
                stop_processes([slot.process])
                self._fail(slot, _reason(error, folder))
                return
        if not ended:
            return
        slot.process = None
        if code != 0:
            self._fail(slot, f"{slot.stage} ended with exit code {code}\n{_last_lines(folder.log)}")
        elif slot.stage == "train" and not has_ended(folder.run, until := self._stop_of(slot, run)):
            reason = (
                f"{folder.run}: training must end with a checkpoint after update {until}, got "
                f"{_checkpoint_names(folder)}; remove what ends it early from the configuration, such as "
                "checkpoint.patience, optimization.stop_time_hours or optimization.stop_min_lr"
            )
            self._fail(slot, reason)
        elif slot.stage == "train" and until < run.max_update:
            self._start(slot, run, "train")
        elif slot.stage == "train":
            mark(folder.trained, run)
            self._start(slot, run, "evaluate")
        else:
            mark(folder.evaluated, run, on=self._measured_on)
            self._progress.say(f"{run.name}: finished")
            slot.run = None

    def _stop_of(self, slot: Slot, run: PhaseRun) -> int:
        return run.max_update if slot.stop is None else slot.stop.max_update

    def _fail(self, slot: Slot, reason: str) -> None:
        if slot.run is not None:
            self.failures[slot.run.name] = reason
            self._progress.say(f"{slot.run.name}: failed: {reason}")
        slot.run = slot.process = None

    def _state(self, slot: Slot) -> RunState | None:
        run = slot.run
        if run is None or slot.process is None:
            return None
        folder = self.folder.run(run.name)
        if slot.stage == "train":
            update, losses = read_position(folder.history)
            return RunState(run.name, "train", min(update, run.max_update), run.max_update, losses)
        n_points = len(points_of(run, self.settings)) + (run.start is None)
        return RunState(run.name, "evaluate", len(checkpoints_in(folder.evaluation)), n_points)

    def _updates_done(self, waiting: Sequence[PhaseRun]) -> int:
        """Count updates of finished and interrupted runs, without those of runs in training."""
        training = {slot.run.name for slot in self.slots if slot.run is not None and slot.stage == "train"}
        stopped = {run.name for run in waiting} | self.failures.keys()
        done = 0
        for run in plan_runs(self.settings):
            if run.name in stopped:
                done += min(run.max_update, read_position(self.folder.run(run.name).history)[0])
            elif run.name not in training:
                done += run.max_update
        return done

    def _is_finished(self, run: PhaseRun) -> bool:
        evaluated = self.folder.run(run.name).evaluated
        return self._is_trained(run) and is_marked(evaluated, run, on=self._measured_on)

    def _is_trained(self, run: PhaseRun) -> bool:
        return is_marked(self.folder.run(run.name).trained, run)

    def _prepare_data(self) -> bool:
        """Make the data that is missing; return whether any was."""
        missing = [one for one in self.settings.prepared if not self.folder.data(one.folder).exists()]
        for one in missing:
            self._prepare(self.folder.data(one.folder), one)
        return bool(missing)

    def _prepare(self, data: Path, prepared: Prepared) -> None:
        log = self.folder.log
        arguments = [self.folder.filled(entry) for entry in prepared.arguments]
        command = launch.prepare_command(arguments)
        logger.info("preparing %s", data)
        process = start_process(command, log=log, environment={}, kept_open=[self._lock])
        try:
            code = process.wait()
        finally:
            stop_processes([process])
        if code != 0:
            logger.error("%s", _last_lines(log))
            message = f"{prepared.key} must make the data, ended with exit code {code}; see {log}"
            raise StudyError.at(data, message, "study.prepare_failed")


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold a study's lock, which processes that outlive a killed study hold too; yield its descriptor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        lock(file, path, place=path.parent, doing="running this study or its training")
        yield file.fileno()


def _reason(error: Exception, folder: RunFolder) -> str:
    if isinstance(error, MemoryError):
        step = "free memory or lower --processes, then run the study again"
        return f"{folder.run}: checkpoints must fit into memory, of which there is too little; {step}"
    return str(error)


def _checkpoint_names(folder: RunFolder) -> str:
    names = sorted(path.name for path in (folder.run / "checkpoints").glob("checkpoint*.pt"))
    return ", ".join(names) or "no checkpoint"


def _last_lines(path: Path) -> str:
    lines = path.read_bytes().decode("utf-8", errors="replace").rstrip().split("\n")
    return "\n".join([f"(end of {path})", *(f"  {line}" for line in lines[-_LOG_LINES:])])


def cpu_slots(n_processes: int | None) -> list[Slot]:
    """Divide the cores among processes (default: one process per core)."""
    n_slots = n_processes or n_cores()
    return [Slot(threads=max(1, n_cores() // n_slots)) for _ in range(n_slots)]
