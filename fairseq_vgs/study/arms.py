"""What a study trains: scenarios as they are, and arms of its own with other settings or lengths.

An *arm* is a scenario with overrides and numbers of updates; in tables, figures and questions it stands
beside the scenarios under its own name. A *sweep* makes an arm of every value of one setting. The
overrides of a scheduled arm (A, B) apply to its second phase; its first phase is that of the base arm
``first``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING

from fairseq_vgs.configs.scenarios import BASES, phases_of, scenario_title

_UNSAFE = re.compile(r"[^A-Za-z0-9.+_-]+")


@dataclass
class ArmSettings:
    """An entry of the study file's ``arms``.

    Attributes:
        scenario: name of the primary.
        updates: updates of each phase (default: the study's).
        overrides: configuration overrides of the last phase, after the study's.
        first: base scenario or arm that the first phase of a scheduled scenario takes (default: the
            scenario's own, "w2v2" of "w2v2_then_vgs").
        title: what it is called (default: the scenario's title and the arm's name).
    """

    scenario: str = MISSING
    updates: list[int] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    first: str | None = None
    title: str | None = None


@dataclass
class SweepSettings:
    """An entry of the study file's ``sweeps``: one setting, several values.

    Attributes:
        arms: scenarios and arms that are trained with every value.
        setting: key of the configuration, such as "task.train_pairs".
        values: its values.
        both_phases: whether the first phase of a scheduled arm takes the value as well.
    """

    arms: list[str] = MISSING
    setting: str = MISSING
    values: list[Any] = MISSING
    both_phases: bool = False


@dataclass(frozen=True)
class Arm:
    """Something that a study trains with every seed.

    Attributes:
        scenario: name of the primary of its last phase.
        updates: updates of its phases, one of a base and two of a scheduled scenario.
        overrides: of its last phase.
        first: the base arm whose run it starts from; None for a base.
    """

    name: str
    scenario: str
    title: str
    updates: tuple[int, ...]
    overrides: tuple[str, ...] = ()
    first: str | None = None

    @property
    def is_base(self) -> bool:
        """Whether it has one phase."""
        return self.first is None

    @property
    def boundary(self) -> int | None:
        """The update at which its second phase starts; None for a base."""
        return None if self.is_base else self.updates[0]

    @property
    def total_updates(self) -> int:
        """Updates of all phases."""
        return sum(self.updates)


def scenario_arm(scenario: str, *, whole: int, first: int, second: int) -> Arm:
    """Return a scenario as it is; lengths in updates."""
    if scenario in BASES:
        return Arm(scenario, scenario, scenario_title(scenario), (whole,))
    return Arm(scenario, scenario, scenario_title(scenario), (first, second), first=phases_of(scenario)[0])


def named_arm(name: str, entry: ArmSettings, plain: Arm) -> Arm:
    """Return the arm of an entry whose scenario, as it is, is ``plain``."""
    return replace(
        plain,
        name=name,
        title=entry.title or f"{plain.title} {name}",
        updates=tuple(entry.updates) or plain.updates,
        overrides=tuple(entry.overrides),
        first=None if plain.is_base else entry.first or plain.first,
    )


def swept_arms(sweep: str, entry: SweepSettings, known: Mapping[str, Arm]) -> Iterator[Arm]:
    """Yield the arms of a sweep, value by value, with the base arms that only serve as first phases."""
    for value in entry.values:
        for name in entry.arms:
            arm = _swept(known[name], sweep, entry, value)
            if arm.first is not None and entry.both_phases:
                base = _swept(known[arm.first], sweep, entry, value)
                yield base
                arm = replace(arm, first=base.name)
            yield arm


def swept_name(arm: str, sweep: str, value: Any) -> str:
    """Name the arm of a value, such as "vgs_plus.pairs-1000"."""
    return f"{arm}.{sweep}-{_UNSAFE.sub('', str(value))}"


def _swept(arm: Arm, sweep: str, entry: SweepSettings, value: Any) -> Arm:
    name, title = swept_name(arm.name, sweep, value), f"{arm.title}, {sweep} {value}"
    return replace(arm, name=name, title=title, overrides=(*arm.overrides, f"{entry.setting}={value}"))
