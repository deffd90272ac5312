"""Schedules of alpha, the weight of the VGS loss: `loss = alpha * VGS + (1 - alpha) * SSL`.

The paper (Khorrami et al. 2023) trains with a constant alpha (0, 0.5, 1) and switches it between two runs;
here it is configuration, per update.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

__all__ = ["ALPHA_SCHEDULES", "AlphaSchedule"]

SCHEDULE_KEY = "criterion.alpha_schedule"
VALUES_KEY = "criterion.alpha_values"
BOUNDARIES_KEY = "criterion.alpha_boundaries"


@dataclass(frozen=True)
class AlphaSchedule:
    """Weights of the two losses at every update: a pure function of (settings, update).

    | kind        | values       | boundaries    | alpha                                               |
    |-------------|--------------|---------------|-----------------------------------------------------|
    | `constant`  | (a,)         | none          | a                                                   |
    | `piecewise` | k + 1 values | k, increasing | value i before boundary i, the next from it on      |
    | `linear`    | (start, end) | (first, last) | start until `first`, end from `last`, between: line |
    | `cosine`    | (start, end) | (first, last) | the same with half a cosine wave between            |
    | `draw`      | (p,)         | none          | 1 with probability p, else 0, drawn every update    |

    Boundaries are update numbers, counted from 0.
    A draw depends on (seed, update) only: all ranks, and a resumed run, draw the same.

    Raises:
        ValueError: naming the configuration key, for any setting that does not fit.
    """

    kind: str
    values: tuple[float, ...]
    boundaries: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Validates; accepts any sequences (OmegaConf lists too) and stores tuples."""
        if self.kind not in ALPHA_SCHEDULES:
            known = ", ".join(sorted(ALPHA_SCHEDULES))
            raise ValueError(f"{SCHEDULE_KEY}: expected one of {known}, got {self.kind!r}")
        object.__setattr__(self, "values", _checked_values(self.values))
        object.__setattr__(self, "boundaries", _checked_boundaries(self.boundaries))
        self._check_counts()

    def weights(self, update: int) -> tuple[float, float]:
        """Weights (VGS, SSL) of this update; they sum to 1.

        Args:
            update: number of the update, from 0.
        """
        if update < 0:
            raise ValueError(f"AlphaSchedule.weights: expected an update number >= 0, got {update}")
        alpha = ALPHA_SCHEDULES[self.kind](self, update)
        return alpha, 1.0 - alpha

    def _check_counts(self) -> None:
        n_values, n_boundaries = len(self.values), len(self.boundaries)
        if self.kind == "piecewise":
            if n_values != n_boundaries + 1:
                raise ValueError(
                    f"{VALUES_KEY}: {SCHEDULE_KEY}=piecewise expects one value more than boundaries, got "
                    f"{n_values} values and {n_boundaries} in {BOUNDARIES_KEY}; add or remove one"
                )
            return
        expected_values, expected_boundaries = (2, 2) if self.kind in ("linear", "cosine") else (1, 0)
        for key, expected, got in (
            (VALUES_KEY, expected_values, self.values),
            (BOUNDARIES_KEY, expected_boundaries, self.boundaries),
        ):
            if len(got) != expected:
                raise ValueError(
                    f"{key}: {SCHEDULE_KEY}={self.kind} expects {expected} entries, got {list(got)}"
                )


def _constant(schedule: AlphaSchedule, update: int) -> float:
    del update
    return schedule.values[0]


def _piecewise(schedule: AlphaSchedule, update: int) -> float:
    return schedule.values[bisect_right(schedule.boundaries, update)]


def _linear(schedule: AlphaSchedule, update: int) -> float:
    return _between(schedule, _progress(schedule, update))


def _cosine(schedule: AlphaSchedule, update: int) -> float:
    return _between(schedule, (1.0 - math.cos(math.pi * _progress(schedule, update))) / 2.0)


def _draw(schedule: AlphaSchedule, update: int) -> float:
    # Seeding with text hashes it by SHA-512: neighbouring updates are independent, every platform agrees.
    generator = random.Random(f"alpha {schedule.seed} {update}")
    return 1.0 if generator.random() < schedule.values[0] else 0.0


def _progress(schedule: AlphaSchedule, update: int) -> float:
    first, last = schedule.boundaries
    return min(max((update - first) / (last - first), 0.0), 1.0)


def _between(schedule: AlphaSchedule, progress: float) -> float:
    start, end = schedule.values
    return (1.0 - progress) * start + progress * end


ALPHA_SCHEDULES: dict[str, Callable[[AlphaSchedule, int], float]] = {
    "constant": _constant,
    "piecewise": _piecewise,
    "linear": _linear,
    "cosine": _cosine,
    "draw": _draw,
}


def _checked_values(values: Iterable[Any]) -> tuple[float, ...]:
    checked = []
    for value in _entries(VALUES_KEY, values):
        # `not (0 <= x <= 1)` also refuses NaN.
        if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= float(value) <= 1.0:
            raise ValueError(f"{VALUES_KEY}: expected numbers between 0 and 1, got {value!r}")
        checked.append(float(value))
    return tuple(checked)


def _checked_boundaries(boundaries: Iterable[Any]) -> tuple[int, ...]:
    checked: list[int] = []
    for boundary in _entries(BOUNDARIES_KEY, boundaries):
        if isinstance(boundary, bool) or not isinstance(boundary, Integral) or boundary < 0:
            raise ValueError(f"{BOUNDARIES_KEY}: expected update numbers (integers >= 0), got {boundary!r}")
        if checked and boundary <= checked[-1]:
            raise ValueError(
                f"{BOUNDARIES_KEY}: expected increasing update numbers, "
                f"got {int(boundary)} after {checked[-1]}"
            )
        checked.append(int(boundary))
    return tuple(checked)


def _entries(key: str, entries: Iterable[Any]) -> list[Any]:
    if isinstance(entries, str) or not isinstance(entries, Iterable):
        raise ValueError(f"{key}: expected a list such as [0.5], got {entries!r}")
    return list(entries)
