"""Which fairseq runs a study needs, and which one starts from which checkpoint.

A scheduled scenario (A, B) starts from A's base run as it was after ``first_updates`` updates (Khorrami et
al. 2023, section III-D: the base models' own training, left at epoch 20 of 70), so all scenarios share the
three base runs of a seed. A base that is only ever left is not trained to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairseq_vgs.study.settings import BASES, StudySettings, phases_of


@dataclass(frozen=True)
class PhaseRun:
    """One run of ``fairseq-hydra-train``.

    Attributes:
        name: unique in the study, and the name of its folder.
        primary: the configuration it is started with.
        seed: of weights, data order and masks.
        max_update: updates it makes.
        schedule_updates: updates its learning rate schedule is laid out for.
        start: the base run whose weights it starts from; None: random weights.
        start_update: after how many updates of that run.
    """

    name: str
    primary: str
    seed: int
    max_update: int
    schedule_updates: int
    start: str | None = None
    start_update: int = 0


def run_name(primary: str, seed: int) -> str:
    """Name the run of a primary and seed."""
    return f"{primary}-seed{seed}"


def plan_runs(settings: StudySettings) -> tuple[PhaseRun, ...]:
    """List the runs of a study, seed by seed, those first that others start from."""
    return tuple(run for seed in settings.seeds for run in _runs_of_seed(settings, seed))


def points_of(run: PhaseRun, settings: StudySettings) -> list[int]:
    """Updates after which a run's checkpoints are kept and evaluated."""
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
