"""Alpha schedules: values at and around every boundary, draws, readable errors."""

import math
import subprocess
import sys
from itertools import pairwise

import pytest

from fairseq_vgs.losses import AlphaSchedule, alpha


def alphas(schedule: AlphaSchedule, *updates: int) -> list[float]:
    pairs = [schedule.weights(update) for update in updates]
    assert all(vgs + ssl == pytest.approx(1.0) for vgs, ssl in pairs)
    return [vgs for vgs, _ in pairs]


def test_constant() -> None:
    assert alphas(AlphaSchedule("constant", (0.3,)), 0, 1, 10_000) == [0.3, 0.3, 0.3]


def test_piecewise_changes_at_the_boundary() -> None:
    schedule = AlphaSchedule("piecewise", (0.0, 0.5, 1.0), (10, 20))
    assert alphas(schedule, 0, 9, 10, 19, 20, 999) == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]


def test_piecewise_with_a_single_value_is_constant() -> None:
    assert alphas(AlphaSchedule("piecewise", (0.4,)), 0, 99) == [0.4, 0.4]


def test_linear() -> None:
    schedule = AlphaSchedule("linear", (1.0, 0.0), (10, 20))
    assert alphas(schedule, 0, 10, 15, 20, 99) == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_cosine() -> None:
    schedule = AlphaSchedule("cosine", (0.0, 1.0), (0, 100))
    expected = [0.0, (1 - math.cos(math.pi / 4)) / 2, 0.5, 1.0, 1.0]
    assert alphas(schedule, 0, 25, 50, 100, 101) == pytest.approx(expected)


def test_ends_are_exact() -> None:
    """A branch is skipped where its weight is exactly zero: rounding must not keep it alive."""
    for kind in ("linear", "cosine"):
        for start, end in ((0.0, 1.0), (1.0, 0.0)):
            schedule = AlphaSchedule(kind, (start, end), (3, 7))
            assert schedule.weights(3) == (start, end)
            assert schedule.weights(7) == (end, start)


def test_draws_come_with_the_right_frequency() -> None:
    schedule = AlphaSchedule("draw", (0.3,), seed=1)
    drawn = alphas(schedule, *range(5000))
    assert set(drawn) == {0.0, 1.0}
    standard_error = math.sqrt(0.3 * 0.7 / 5000)
    assert sum(drawn) / 5000 == pytest.approx(0.3, abs=4 * standard_error)
    # Neighbours are independent: both 1 in 9 % of cases.
    both = sum(a * b for a, b in pairwise(drawn)) / 4999
    assert both == pytest.approx(0.09, abs=0.02)


def test_certain_draws() -> None:
    assert set(alphas(AlphaSchedule("draw", (1.0,)), *range(50))) == {1.0}
    assert set(alphas(AlphaSchedule("draw", (0.0,)), *range(50))) == {0.0}


def test_draws_depend_on_seed_and_update_only() -> None:
    first, again = (alphas(AlphaSchedule("draw", (0.5,), seed=7), *range(64)) for _ in range(2))
    assert first == again
    assert first != alphas(AlphaSchedule("draw", (0.5,), seed=8), *range(64))
    # Another process (another rank, a resumed run) has another hash seed and draws the same.
    code = (
        f"import runpy; Schedule = runpy.run_path({alpha.__file__!r})['AlphaSchedule'];"
        "print([Schedule('draw', (0.5,), seed=7).weights(update)[0] for update in range(64)])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == str(first)


def test_sequences_become_tuples() -> None:
    schedule = AlphaSchedule("linear", [1, 0], [0, 5])  # type: ignore[arg-type]
    assert schedule.values == (1.0, 0.0)
    assert schedule.boundaries == (0, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("step", (0.5,)),
            "criterion.alpha_schedule: expected one of constant, cosine, draw, linear, piecewise",
        ),
        (("constant", (1.5,)), "criterion.alpha_values: expected numbers between 0 and 1, got 1.5"),
        (("constant", (math.nan,)), "criterion.alpha_values: expected numbers between 0 and 1, got nan"),
        (("constant", ("0.5",)), "criterion.alpha_values: expected numbers"),
        (("constant", (True,)), "criterion.alpha_values: expected numbers"),
        (("constant", "0.5"), "criterion.alpha_values: expected a list"),
        (("constant", 0.5), "criterion.alpha_values: expected a list"),
        (("constant", ()), "criterion.alpha_values: criterion.alpha_schedule=constant expects 1 entries"),
        (("constant", (0.5, 1.0)), "criterion.alpha_values: .* expects 1 entries"),
        (("constant", (0.5,), (10,)), "criterion.alpha_boundaries: .* expects 0 entries"),
        (("draw", (0.5,), (10,)), "criterion.alpha_boundaries: .*=draw expects 0 entries"),
        (("linear", (0.5,), (0, 1)), "criterion.alpha_values: .*=linear expects 2 entries"),
        (("cosine", (0.5, 1.0), (5,)), "criterion.alpha_boundaries: .*=cosine expects 2 entries"),
        (("piecewise", (0.5, 1.0), ()), "criterion.alpha_values: .*=piecewise expects one value more"),
        (("linear", (0.0, 1.0), (5, 5)), "criterion.alpha_boundaries: expected increasing .* got 5 after 5"),
        (("linear", (0.0, 1.0), (-1, 5)), "criterion.alpha_boundaries: expected update numbers"),
        (("linear", (0.0, 1.0), (0.5, 5)), "criterion.alpha_boundaries: expected update numbers"),
    ],
)
def test_errors_name_the_key(settings: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlphaSchedule(*settings)  # type: ignore[arg-type]


def test_updates_are_not_negative() -> None:
    with pytest.raises(ValueError, match="update number >= 0"):
        AlphaSchedule("constant", (0.5,)).weights(-1)
