"""Schedules of alpha, the weight of the VGS loss: `loss = alpha * VGS + (1 - alpha) * SSL`.

The paper (Khorrami et al. 2023) trains with a constant alpha (0, 0.5, 1) and switches it between two runs;
here it is configuration, per update.

| schedule    | values       | boundaries    | alpha                                               |
|-------------|--------------|---------------|-----------------------------------------------------|
| `constant`  | (a,)         | none          | a                                                   |
| `piecewise` | k + 1 values | k, increasing | value i before boundary i, the next from it on      |
| `linear`    | (start, end) | (first, last) | start until `first`, end from `last`, between: line |
| `cosine`    | (start, end) | (first, last) | the same with half a cosine wave between            |
| `draw`      | (p,)         | none          | 1 with probability p, else 0, drawn every update    |
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

from fairseq_vgs.registry import Registry
from fairseq_vgs.settings import SettingError, from_config


@dataclass(frozen=True)
class AlphaSchedule:
    """Weights of the two losses at every update: a pure function of (settings, update).

    Another schedule is a dataclass derived from this one, with further fields if it needs any. `values` are
    weights of the VGS loss, `boundaries` update numbers from 0; `seed` is that of random schedules.

    Raises:
        SettingError: a field is impossible.
    """

    values: tuple[float, ...] = from_config("alpha_values", default=(0.5,))
    boundaries: tuple[int, ...] = from_config("alpha_boundaries", default=())
    seed: int = from_config("seed", default=0)

    counts: ClassVar[tuple[int, int] | None] = None
    """Numbers of values and of boundaries that the schedule takes; None where it checks them itself."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _checked_values(self.values))
        object.__setattr__(self, "boundaries", _checked_boundaries(self.boundaries))
        if self.counts is not None:
            for name, count in zip(("values", "boundaries"), self.counts, strict=True):
                if len(entries := getattr(self, name)) != count:
                    raise SettingError(name, f"{count} entries", list(entries))

    def alpha(self, update: int) -> float:
        """Return the weight of the VGS loss at an update, counted from 0."""
        raise NotImplementedError

    def weights(self, update: int) -> tuple[float, float]:
        """Return the weights (VGS, SSL) of an update, counted from 0; they sum to 1."""
        if update < 0:
            raise ValueError(f"AlphaSchedule.weights: expected an update number >= 0, got {update}")
        alpha = self.alpha(update)
        return alpha, 1.0 - alpha

    def pieces(self) -> tuple[float, ...]:
        """Return the values of alpha, if it is constant but for jumps; else none."""
        return ()

    def __str__(self) -> str:
        """Say how alpha changes, for readers of a model card."""
        name, values = type(self).__name__, ", ".join(f"{value:g}" for value in self.values)
        return f"alpha by the schedule {name} ({values}; boundaries {list(self.boundaries)})"


ALPHA_SCHEDULES: Registry[type[AlphaSchedule]] = Registry("alpha schedule", "fairseq_vgs.losses")


@ALPHA_SCHEDULES.register("constant")
class Constant(AlphaSchedule):
    """The same weight at every update."""

    counts = (1, 0)

    def alpha(self, update: int) -> float:  # noqa: ARG002 - the same at every update
        """Return the only value."""
        return self.values[0]

    def pieces(self) -> tuple[float, ...]:
        """Return the only value."""
        return self.values

    def __str__(self) -> str:
        return f"alpha {_weight(self.values[0])} throughout"


@ALPHA_SCHEDULES.register("piecewise")
class Piecewise(AlphaSchedule):
    """Constant between boundaries."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.values) != (count := len(self.boundaries)) + 1:
            raise SettingError("values", f"one value more than the {count} boundaries", self.values)

    def alpha(self, update: int) -> float:
        """Return the value of the piece."""
        return self.values[bisect_right(self.boundaries, update)]

    def pieces(self) -> tuple[float, ...]:
        """Return the values."""
        return self.values

    def __str__(self) -> str:
        later = zip(self.boundaries, self.values[1:], strict=True)
        changes = [f", {_weight(value)} from update {boundary:,} on" for boundary, value in later]
        return f"alpha {_weight(self.values[0])} at first{''.join(changes)}"


@ALPHA_SCHEDULES.register("linear")
class Linear(AlphaSchedule):
    """A straight line between two boundaries."""

    counts = (2, 2)
    shape: ClassVar[str] = "in a straight line"

    def alpha(self, update: int) -> float:
        """Return the point on the line."""
        return self._between(self._progress(update))

    def _progress(self, update: int) -> float:
        first, last = self.boundaries
        return min(max((update - first) / (last - first), 0.0), 1.0)

    def _between(self, progress: float) -> float:
        start, end = self.values
        return (1.0 - progress) * start + progress * end

    def __str__(self) -> str:
        (start, end), (first, last) = self.values, self.boundaries
        between = f"from {_weight(start)} until update {first:,} to {_weight(end)} from update {last:,} on"
        return f"alpha {between}, {self.shape} between them"


@ALPHA_SCHEDULES.register("cosine")
class Cosine(Linear):
    """Half a cosine wave between two boundaries."""

    shape = "along half a cosine wave"

    def alpha(self, update: int) -> float:
        """Return the point on the wave."""
        return self._between((1.0 - math.cos(math.pi * self._progress(update))) / 2.0)


@ALPHA_SCHEDULES.register("draw")
class Draw(AlphaSchedule):
    """One loss per update, drawn from (seed, update) only: all ranks, and a resumed run, draw the same."""

    counts = (1, 0)

    def alpha(self, update: int) -> float:
        """Return 1 or 0, drawn for this update."""
        # Seeding with text hashes it by SHA-512: neighbouring updates are independent, every platform agrees.
        generator = random.Random(f"alpha {self.seed} {update}")
        return 1.0 if generator.random() < self.values[0] else 0.0

    def __str__(self) -> str:
        return f"alpha drawn at every update: 1 (VGS alone) with probability {self.values[0]:g}, else 0 (SSL)"


def _weight(alpha: float) -> str:
    return f"{alpha:g}{ {0.0: ' (SSL alone)', 1.0: ' (VGS alone)'}.get(alpha, '') }"


def _checked_values(values: Iterable[Any]) -> tuple[float, ...]:
    checked = []
    for value in _entries("values", values):
        # `not (0 <= x <= 1)` also refuses NaN.
        if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= float(value) <= 1.0:
            raise SettingError("values", "numbers between 0 and 1", value)
        checked.append(float(value))
    return tuple(checked)


def _checked_boundaries(boundaries: Iterable[Any]) -> tuple[int, ...]:
    checked: list[int] = []
    for boundary in _entries("boundaries", boundaries):
        if isinstance(boundary, bool) or not isinstance(boundary, Integral) or boundary < 0:
            raise SettingError("boundaries", "update numbers (integers >= 0)", boundary)
        if checked and boundary <= checked[-1]:
            expected = f"increasing update numbers, above {checked[-1]} here"
            raise SettingError("boundaries", expected, int(boundary))
        checked.append(int(boundary))
    return tuple(checked)


def _entries(name: str, entries: Iterable[Any]) -> list[Any]:
    if isinstance(entries, str) or not isinstance(entries, Iterable):
        raise SettingError(name, "a list such as [0.5]", entries)
    return list(entries)
