"""Which fairseq runs a study needs, which one starts from which checkpoint, and where their files are.

A scheduled scenario (A, B) starts from A's base run as it was after ``first_updates`` updates (Khorrami et
al. 2023, section III-D: the base models' own training, left at epoch 20 of 70), so all scenarios share the
three base runs of a seed. A base that is only ever left is not trained to its end.

```
OUTPUT/
  study.json             settings and plan
  study.lock             held while the study runs
  data/                  what ``prepare`` made (if the study file says so)
  runs/<name>/
    command.json         what the run was started with
    log.txt              output of training and evaluation
    run/                 the run folder of fairseq-hydra-train: history.jsonl, checkpoints/, ...
    evaluation/          <updates>.json and .npz of every checkpoint
    trained.json         training is done
    evaluated.json       so is its evaluation
  results/               tables and figures
  report.html            the page
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.study.settings import BASES, StudySettings, phases_of


@dataclass(frozen=True)
class PhaseRun:
    """One run of ``fairseq-hydra-train``.

    Attributes:
        name: Unique in the study, and the name of its folder.
        primary: Configuration it is started with.
        seed: Seed of weights, data order and masks.
        max_update: Updates it makes.
        schedule_updates: Updates its learning rate schedule is laid out for.
        start: Base run whose weights it starts from; None: random weights.
        start_update: Number of updates of that run.
    """

    name: str
    primary: str
    seed: int
    max_update: int
    schedule_updates: int
    start: str | None = None
    start_update: int = 0


class RunFolder:
    """Files of one run; see the top of this file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self.history, self.probes = self.run / "history.jsonl", self.run / "probes.jsonl"
        self.evaluation = path / "evaluation"
        self.log, self.command = path / "log.txt", path / "command.json"
        self.trained, self.evaluated = path / "trained.json", path / "evaluated.json"


class StudyFolder:
    """Files of a study; see the top of this file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings, self.lock = path / "study.json", path / "study.lock"
        self.log = path / "prepare.log"
        self.results = path / "results"

    def run(self, name: str) -> RunFolder:
        """Return the files of one run."""
        return RunFolder(self.path / "runs" / name)

    def data(self, template: str) -> Path:
        """Fill in ``{output}``."""
        return Path(template.replace("{output}", str(self.path)))


def run_name(primary: str, seed: int) -> str:
    """Name the run of a primary and seed."""
    return f"{primary}-seed{seed}"


def plan_runs(settings: StudySettings) -> tuple[PhaseRun, ...]:
    """List the runs of a study, seed by seed, those first that others start from."""
    return tuple(run for seed in settings.seeds for run in _runs_of_seed(settings, seed))


def points_of(run: PhaseRun, settings: StudySettings) -> list[int]:
    """List the updates after which a run's checkpoints are kept and evaluated."""
    return list(range(settings.evaluate_every, run.max_update + 1, settings.evaluate_every))


def _runs_of_seed(settings: StudySettings, seed: int) -> Sequence[PhaseRun]:
    whole = [name for name in BASES if name in settings.scenarios]
    scheduled = [name for name in settings.scenarios if name not in BASES]
    only_left = [
        name
        for name in BASES
        if name not in whole and any(phases_of(entry)[0] == name for entry in scheduled)
    ]
    bases = [
        PhaseRun(
            name=run_name(base, seed),
            primary=base,
            seed=seed,
            max_update=settings.whole_updates if base in whole else settings.first_updates,
            schedule_updates=settings.whole_updates,
        )
        for base in (*whole, *only_left)
    ]
    second = [
        PhaseRun(
            name=run_name(scenario, seed),
            primary=scenario,
            seed=seed,
            max_update=settings.second_updates,
            schedule_updates=settings.second_updates,
            start=run_name(phases_of(scenario)[0], seed),
            start_update=settings.first_updates,
        )
        for scenario in scheduled
    ]
    return [*bases, *second]
