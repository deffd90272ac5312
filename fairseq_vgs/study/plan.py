"""The fairseq runs of a study, the checkpoints they start from, and their files.

A scheduled scenario (A, B) starts from A's base run after ``first_updates`` updates (Khorrami et al. 2023,
section III-D: the base models at epoch 20 of 70), so all scenarios share the three base runs of a seed. A
base that only serves as a first phase is not trained to its end.

```
OUTPUT/
  study.json             settings
  study.lock             held while the study runs
  declared.json          what was to be answered, and how, whenever it was changed
  data/                  made by ``prepare`` (if the study file says so)
  runs/<name>/
    command.json         overrides and hashes that the run started with
    log.txt              output of training and evaluation
    run/                 the run folder of fairseq-hydra-train: history.jsonl, checkpoints/, ...
    evaluation/          results of every checkpoint, by its updates
    trained.json         training is done
    evaluated.json       so is its evaluation
  results/               tables and figures
  report.html            the page
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fairseq_vgs.configs.scenarios import BASES
from fairseq_vgs.study.arms import Arm
from fairseq_vgs.study.settings import StudySettings, with_embedded


@dataclass(frozen=True)
class PhaseRun:
    """One run of ``fairseq-hydra-train`` in a folder with its name.

    ``primary`` is its configuration, ``schedule_updates`` the length of its learning rate schedule. It starts
    from the base run ``start`` after ``start_update`` updates, or from random weights. ``overrides`` come
    after the study's.
    """

    name: str
    primary: str
    seed: int
    max_update: int
    schedule_updates: int
    start: str | None = None
    start_update: int = 0
    overrides: tuple[str, ...] = ()


class RunFolder:
    """Paths of one run, see the module."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self.history, self.probes = self.run / "history.jsonl", self.run / "probes.jsonl"
        self.evaluation = path / "evaluation"
        self.log, self.command = path / "log.txt", path / "command.json"
        self.trained, self.evaluated = path / "trained.json", path / "evaluated.json"


class StudyFolder:
    """Paths of a study, see the module."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings, self.lock = path / "study.json", path / "study.lock"
        self.declared = path / "declared.json"
        self.log = path / "prepare.log"
        self.results = path / "results"

    def run(self, name: str) -> RunFolder:
        """Return the paths of one run."""
        return RunFolder(self.path / "runs" / name)

    def data(self, template: str) -> Path:
        """Replace ``{output}`` and ``{embedded}`` in a path."""
        return Path(self.filled(template))

    def filled(self, template: str) -> str:
        """Replace ``{output}`` and ``{embedded}`` in an argument."""
        return with_embedded(template.replace("{output}", str(self.path)))


def run_name(arm: str, seed: int) -> str:
    """Return the name of the run of an arm and seed; of a scheduled one, that of its second phase."""
    return f"{arm}-seed{seed}"


def plan_runs(settings: StudySettings) -> tuple[PhaseRun, ...]:
    """List the runs of a study by seed; base runs come first."""
    return tuple(run for seed in settings.seeds for run in _runs_of_seed(settings, seed))


def points_of(run: PhaseRun, settings: StudySettings) -> list[int]:
    """List the updates after which checkpoints are kept and evaluated."""
    return measured_after(run.max_update, settings, is_second=run.start is not None)


class Stop(NamedTuple):
    """Where a process of a run stops: after ``max_update`` updates, saving every ``every`` of them."""

    max_update: int
    every: int


def stops_of(run: PhaseRun, settings: StudySettings) -> list[Stop]:
    """Divide a run among processes, since fairseq saves at regular intervals only.

    Up to the last of ``evaluate_at``, every point is the end of a process, which saves there; the next
    process goes on from it. The learning rate follows ``schedule_updates`` whatever the stops are.
    """
    last = max(settings.evaluate_at, default=0) if run.start is not None else 0
    early = [Stop(point, point) for point in points_of(run, settings) if point <= last]
    return [*early, Stop(run.max_update, settings.evaluate_every)]


def measured_after(updates: int, settings: StudySettings, *, is_second: bool) -> list[int]:
    """List the updates of a phase of some length after which it is measured."""
    regular = range(settings.evaluate_every, updates + 1, settings.evaluate_every)
    return sorted({*regular, *(settings.evaluate_at if is_second else ())})


def _runs_of_seed(settings: StudySettings, seed: int) -> list[PhaseRun]:
    arms = [settings.arm(name) for name in settings.names]
    lengths: dict[str, int] = {arm.name: arm.total_updates for arm in arms if arm.is_base}
    for arm in arms:
        if arm.first is not None:
            lengths[arm.first] = max(lengths.get(arm.first, 0), arm.updates[0])
    bases = sorted(map(settings.arm, lengths), key=lambda arm: (arm.name not in settings.names, _place(arm)))
    return [
        *(_base(arm, seed, lengths[arm.name]) for arm in bases),
        *(_second(arm, seed) for arm in arms if not arm.is_base),
    ]


def _place(arm: Arm) -> int:
    return BASES.index(arm.scenario)


def _base(arm: Arm, seed: int, max_update: int) -> PhaseRun:
    name, whole = run_name(arm.name, seed), arm.total_updates
    return PhaseRun(name, arm.scenario, seed, max_update, whole, overrides=arm.overrides)


def _second(arm: Arm, seed: int) -> PhaseRun:
    before, updates = arm.updates
    name, start = run_name(arm.name, seed), run_name(str(arm.first), seed)
    return PhaseRun(name, arm.scenario, seed, updates, updates, start, before, arm.overrides)
