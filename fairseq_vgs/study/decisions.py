"""What an interval decides: supported, contradicted, equivalent within a margin, or undecided.

A question asks whether a paired difference d is above 0. With the standard error of ``study.statistics``,
split into seeds (t distribution) and test items (normal),

- *supported* and *contradicted* need d's two-sided p-value, corrected for the number of questions (Holm),
  to be at most 0.05, and d to be above or below 0;
- *equivalent* needs the 90 % interval to be inside ± margin (two one-sided tests at 5 %; Schuirmann, 1987),
  corrected in the same way;
- everything else is *undecided*. ``seeds_needed`` then says how many seeds would decide if mean and
  deviations stayed as measured.

The p-value is that of the interval itself: 1 minus the level at which one end of it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from fairseq_vgs.metrics.intervals import LEVEL
from fairseq_vgs.study.statistics import Estimate

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
EQUIVALENT = "equivalent"
UNDECIDED = "undecided"
MOST_SEEDS = 200
_ALPHA = 1.0 - LEVEL
_LEAST_ALPHA = 1e-12


def half_width(seed_sd: float, item_se: float, n_seeds: int, alpha: float = _ALPHA) -> float:
    """Return half of the interval at level ``1 - alpha`` of a mean over at least two seeds."""
    seed_part = -float(stdtrit(n_seeds - 1, alpha / 2.0)) * seed_sd / math.sqrt(n_seeds)
    return math.hypot(seed_part, float(ndtri(alpha / 2.0)) * item_se)


def p_value(found: Estimate) -> float:
    """Return the two-sided p-value of a difference of 0; 1 with one seed, or if nothing differs at all."""
    return _p(abs(found.value), found)


def p_equivalent(found: Estimate, margin: float) -> float:
    """Return the p-value of a difference outside ± ``margin`` (the larger of two one-sided tests)."""
    inside = margin - abs(found.value)
    return _p(inside, found) / 2.0 if inside > 0 else 1.0


def _p(distance: float, found: Estimate) -> float:
    """Return the alpha at which half of the interval is a distance, in 1e-12..1."""
    if not found.seeds_measured or distance <= 0:
        return 1.0

    def excess(alpha: float) -> float:
        return half_width(found.seed_sd, found.item_se, len(found.per_seed), alpha) - distance

    if excess(_LEAST_ALPHA) <= 0:
        return _LEAST_ALPHA
    return float(brentq(excess, _LEAST_ALPHA, 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several questions (Holm, 1979); at most 1, in the order given."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * p_values[place])
        corrected[place] = min(1.0, largest)
    return corrected


def decide(
    found: Estimate, p_corrected: float, margin: float | None, p_equivalent_corrected: float = 1.0
) -> str:
    """Answer a question by its difference; without a margin nothing is equivalent."""
    if p_corrected <= _ALPHA:
        return SUPPORTED if found.value > 0 else CONTRADICTED
    if margin is not None and p_equivalent_corrected <= _ALPHA:
        return EQUIVALENT
    return UNDECIDED


def seeds_needed(found: Estimate, margin: float | None, n_questions: int = 1) -> int | None:
    """Return the seeds in all that would decide, with the difference and deviations as measured.

    The strictest step of the correction, alpha divided by ``n_questions``, is assumed. None: with one seed
    the deviation is unknown, or not even ``MOST_SEEDS`` seeds would decide on these test items.
    """
    if not found.seeds_measured:
        return None
    alpha = _ALPHA / n_questions

    def decides(n_seeds: int) -> bool:
        differs = half_width(found.seed_sd, found.item_se, n_seeds, alpha) < abs(found.value)
        if margin is None:
            return differs
        inside = margin - abs(found.value)
        return differs or half_width(found.seed_sd, found.item_se, n_seeds, 2 * alpha) < inside

    return _first(decides, len(found.per_seed) + 1, MOST_SEEDS)


def seeds_for(effect: float, seed_sd: float, item_se: float = 0.0, alpha: float = _ALPHA) -> int | None:
    """Return the seeds whose interval is at most ± ``effect`` wide; None if ``MOST_SEEDS`` do not suffice."""
    return _first(lambda n: half_width(seed_sd, item_se, n, alpha) <= effect, 2, MOST_SEEDS)


def _first(holds: Callable[[int], bool], start: int, end: int) -> int | None:
    return next((n for n in range(start, end + 1) if holds(n)), None)
