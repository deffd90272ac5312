"""The nine training scenarios of Khorrami et al. 2023: three bases, and six of one base after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Scenario = Literal[
    "w2v2",
    "vgs",
    "vgs_plus",
    "w2v2_then_vgs_plus",
    "vgs_then_vgs_plus",
    "w2v2_then_vgs",
    "vgs_then_w2v2",
    "vgs_plus_then_w2v2",
    "vgs_plus_then_vgs",
]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
_THEN = "_then_"
BASES = tuple(name for name in SCENARIOS if _THEN not in name)
SCHEDULED = tuple(name for name in SCENARIOS if _THEN in name)
_BASE_TITLES = {"w2v2": "W2V2", "vgs": "VGS", "vgs_plus": "VGS+"}


def phases_of(scenario: str) -> tuple[str, str]:
    """Return the bases of a scheduled scenario: "w2v2_then_vgs" -> ("w2v2", "vgs")."""
    first, _, second = scenario.partition(_THEN)
    return first, second


def scenario_title(scenario: str) -> str:
    """Name a scenario as the paper does: "VGS+", "(W2V2, VGS+)"."""
    if scenario in _BASE_TITLES:
        return _BASE_TITLES[scenario]
    return f"({', '.join(_BASE_TITLES[base] for base in phases_of(scenario))})"


def scenario_of(bases: Sequence[str]) -> Scenario | None:
    """Return the scenario that trains these bases one after the other; None if none of the nine does."""
    return next((name for name in SCENARIOS if name == _THEN.join(bases)), None)


def base_of(alpha: float) -> str:
    """Return the base with a constant weight of the VGS loss: between 0 and 1, both losses count."""
    return "w2v2" if alpha == 0 else "vgs" if alpha == 1 else "vgs_plus"
