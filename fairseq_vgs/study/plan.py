"""The fairseq runs of a study, the checkpoints they start from, and their files.

A scheduled scenario (A, B) starts from A's base run after ``first_updates`` updates (Khorrami et al. 2023,
section III-D: the base models at epoch 20 of 70), so all scenarios share the three base runs of a seed. A
base that only serves as a first phase is not trained to its end.

```
OUTPUT/
  study.json             settings
  study.lock             held while the study runs
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

from fairseq_vgs.configs.scenarios import BASES, phases_of
from fairseq_vgs.study.settings import StudySettings, with_embedded


@dataclass(frozen=True)
class PhaseRun:
    """One run of ``fairseq-hydra-train`` in a folder with its name.

    ``primary`` is its configuration, ``schedule_updates`` the length of its learning rate schedule. It starts
    from the base run ``start`` after ``start_update`` updates, or from random weights.
    """

    name: str
    primary: str
    seed: int
    max_update: int
    schedule_updates: int
    start: str | None = None
    start_update: int = 0


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


def run_name(primary: str, seed: int) -> str:
    """Return the name of the run of a primary and seed."""
    return f"{primary}-seed{seed}"


def plan_runs(settings: StudySettings) -> tuple[PhaseRun, ...]:
    """List the runs of a study by seed; base runs come first."""
    return tuple(run for seed in settings.seeds for run in _runs_of_seed(settings, seed))


def points_of(run: PhaseRun, settings: StudySettings) -> list[int]:
    """List the updates after which checkpoints are kept and evaluated."""
    return list(range(settings.evaluate_every, run.max_update + 1, settings.evaluate_every))


def _runs_of_seed(settings: StudySettings, seed: int) -> list[PhaseRun]:
    scheduled = [name for name in settings.scenarios if name not in BASES]
    first_phases = {phases_of(name)[0] for name in scheduled}
    whole = [name for name in BASES if name in settings.scenarios]
    only_left = [name for name in BASES if name in first_phases and name not in whole]
    bases = [
        PhaseRun(run_name(base, seed), base, seed, updates, settings.whole_updates)
        for names, updates in ((whole, settings.whole_updates), (only_left, settings.first_updates))
        for base in names
    ]
    second = [
        PhaseRun(
            run_name(scenario, seed),
            scenario,
            seed,
            max_update=settings.second_updates,
            schedule_updates=settings.second_updates,
            start=run_name(phases_of(scenario)[0], seed),
            start_update=settings.first_updates,
        )
        for scenario in scheduled
    ]
    return [*bases, *second]
