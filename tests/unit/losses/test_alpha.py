"""Alpha schedules: values at and around every boundary, draws, readable errors."""

import math
import subprocess
import sys
from itertools import pairwise

import pytest

from fairseq_vgs.losses import ALPHA_SCHEDULES, AlphaSchedule, alpha
from fairseq_vgs.settings import SettingError


def alphas(schedule: AlphaSchedule, *updates: int) -> list[float]:
    pairs = [schedule.weights(update) for update in updates]
    assert all(vgs + ssl == pytest.approx(1.0) for vgs, ssl in pairs)
    return [vgs for vgs, _ in pairs]


def test_constant() -> None:
    assert alphas(ALPHA_SCHEDULES["constant"]((0.3,)), 0, 1, 10_000) == [0.3, 0.3, 0.3]


def test_piecewise_changes_at_the_boundary() -> None:
    schedule = ALPHA_SCHEDULES["piecewise"]((0.0, 0.5, 1.0), (10, 20))
    assert alphas(schedule, 0, 9, 10, 19, 20, 999) == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]


def test_piecewise_with_a_single_value_is_constant() -> None:
    assert alphas(ALPHA_SCHEDULES["piecewise"]((0.4,)), 0, 99) == [0.4, 0.4]


def test_linear() -> None:
    schedule = ALPHA_SCHEDULES["linear"]((1.0, 0.0), (10, 20))
    assert alphas(schedule, 0, 10, 15, 20, 99) == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_cosine() -> None:
    schedule = ALPHA_SCHEDULES["cosine"]((0.0, 1.0), (0, 100))
    expected = [0.0, (1 - math.cos(math.pi / 4)) / 2, 0.5, 1.0, 1.0]
    assert alphas(schedule, 0, 25, 50, 100, 101) == pytest.approx(expected)


def test_ends_are_exact() -> None:
    """A branch is skipped where its weight is exactly zero: rounding must not keep it alive."""
    for kind in ("linear", "cosine"):
        for start, end in ((0.0, 1.0), (1.0, 0.0)):
            schedule = ALPHA_SCHEDULES[kind]((start, end), (3, 7))
            assert schedule.weights(3) == (start, end)
            assert schedule.weights(7) == (end, start)


def test_draws_come_with_the_right_frequency() -> None:
    schedule = ALPHA_SCHEDULES["draw"]((0.3,), seed=1)
    drawn = alphas(schedule, *range(5000))
    assert set(drawn) == {0.0, 1.0}
    standard_error = math.sqrt(0.3 * 0.7 / 5000)
    assert sum(drawn) / 5000 == pytest.approx(0.3, abs=4 * standard_error)
    # Neighbours are independent: both 1 in 9 % of cases.
    both = sum(a * b for a, b in pairwise(drawn)) / 4999
    assert both == pytest.approx(0.09, abs=0.02)


def test_certain_draws() -> None:
    assert set(alphas(ALPHA_SCHEDULES["draw"]((1.0,)), *range(50))) == {1.0}
    assert set(alphas(ALPHA_SCHEDULES["draw"]((0.0,)), *range(50))) == {0.0}


def test_draws_depend_on_seed_and_update_only() -> None:
    first, again = (alphas(ALPHA_SCHEDULES["draw"]((0.5,), seed=7), *range(64)) for _ in range(2))
    assert first == again
    assert first != alphas(ALPHA_SCHEDULES["draw"]((0.5,), seed=8), *range(64))
    # Another process (another rank, a resumed run) has another hash seed and draws the same.
    code = (
        f"import runpy; Schedule = runpy.run_path({alpha.__file__!r})['Draw'];"
        "print([Schedule((0.5,), seed=7).weights(update)[0] for update in range(64)])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == str(first)


def test_sequences_become_tuples() -> None:
    schedule = ALPHA_SCHEDULES["linear"]([1, 0], [0, 5])  # type: ignore[arg-type]
    assert schedule.values == (1.0, 0.0)
    assert schedule.boundaries == (0, 5)


@pytest.mark.parametrize(
    ("kind", "settings", "name", "expected"),
    [
        ("constant", ((1.5,),), "values", "numbers between 0 and 1"),
        ("constant", ((math.nan,),), "values", "numbers between 0 and 1"),
        ("constant", (("0.5",),), "values", "numbers between 0 and 1"),
        ("constant", ((True,),), "values", "numbers between 0 and 1"),
        ("constant", ("0.5",), "values", "a list such as [0.5]"),
        ("constant", (0.5,), "values", "a list such as [0.5]"),
        ("constant", ((),), "values", "1 entries"),
        ("constant", ((0.5, 1.0),), "values", "1 entries"),
        ("constant", ((0.5,), (10,)), "boundaries", "0 entries"),
        ("draw", ((0.5,), (10,)), "boundaries", "0 entries"),
        ("linear", ((0.5,), (0, 1)), "values", "2 entries"),
        ("cosine", ((0.5, 1.0), (5,)), "boundaries", "2 entries"),
        ("piecewise", ((0.5, 1.0), ()), "values", "one value more than the 0 boundaries"),
        ("linear", ((0.0, 1.0), (5, 5)), "boundaries", "increasing update numbers, above 5 here"),
        ("linear", ((0.0, 1.0), (-1, 5)), "boundaries", "update numbers (integers >= 0)"),
        ("linear", ((0.0, 1.0), (0.5, 5)), "boundaries", "update numbers (integers >= 0)"),
    ],
)
def test_errors_name_the_field(kind: str, settings: tuple[object, ...], name: str, expected: str) -> None:
    with pytest.raises(SettingError) as caught:
        ALPHA_SCHEDULES[kind](*settings)  # type: ignore[arg-type]
    assert (caught.value.name, caught.value.expected) == (name, expected)


def test_updates_are_not_negative() -> None:
    with pytest.raises(ValueError, match="update number >= 0"):
        ALPHA_SCHEDULES["constant"]((0.5,)).weights(-1)


LINE = "alpha from 0 (SSL alone) until update 10 to 1 (VGS alone) from update 20 on, in a straight line"
WAVE = "alpha from 1 (VGS alone) until update 0 to 0.25 from update 9 on, along half a cosine wave"
JUMPS = "alpha 0 (SSL alone) at first, 0.5 from update 200 on, 1 (VGS alone) from update 1,500 on"


@pytest.mark.parametrize(
    ("name", "values", "boundaries", "words"),
    [
        ("constant", (0.5,), (), "alpha 0.5 throughout"),
        ("constant", (0.0,), (), "alpha 0 (SSL alone) throughout"),
        ("piecewise", (0.0, 0.5, 1.0), (200, 1500), JUMPS),
        ("linear", (0.0, 1.0), (10, 20), f"{LINE} between them"),
        ("cosine", (1.0, 0.25), (0, 9), f"{WAVE} between them"),
        ("draw", (0.3,), (), "alpha drawn at every update: 1 (VGS alone) with probability 0.3, else 0 (SSL)"),
    ],
)
def test_in_words(name, values, boundaries, words):
    assert str(ALPHA_SCHEDULES[name](values, boundaries)) == words


def test_a_schedule_without_words_of_its_own_names_its_settings():
    class Mine(AlphaSchedule):
        pass

    assert str(Mine((0.5, 1.0), (3,))) == "alpha by the schedule Mine (0.5, 1; boundaries [3])"
    assert Mine((0.5, 1.0), (3,)).pieces() == ()
