"""Which frames a token has: by hand, and against looking at every frame."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.abx_loops import frame_numbers

from fairseq_vgs.metrics.abx.items import exact_rate, frame_span


@pytest.mark.parametrize(
    ("onset", "offset", "span"),
    [
        ("0", "0.02", (0, 1)),  # middle 0.01
        ("0.01", "0.01", (0, 1)),  # both ends count
        ("0.0101", "0.0299", (1, 0)),  # between the middles 0.01 and 0.03
        ("0.1", "0.2", (5, 5)),  # 0.11 ... 0.19
        ("0.11", "0.19", (5, 5)),
        ("0.1100001", "0.1899999", (6, 3)),
    ],
)
def test_by_hand_at_50_hz(onset, offset, span):
    assert frame_span(Decimal(onset), Decimal(offset), frame_rate=Decimal(50)) == span


def test_where_binary_fractions_are_wrong():
    # 0.29 * 50 - 0.5 is 13.999999999999998 in floating point, and 14 in truth.
    assert frame_span(Decimal("0.29"), Decimal("0.29"), frame_rate=Decimal(50)) == (14, 1)


@given(
    st.decimals(0, 3, places=4),
    st.decimals(0, 1, places=4),
    st.sampled_from(["50", "100", "49.95", "12.5"]),
    st.booleans(),
)
def test_equals_looking_at_every_frame(onset, duration, rate, librilight):
    first, length = frame_span(
        onset, onset + duration, frame_rate=Decimal(rate), librilight_slicing=librilight
    )
    expected = frame_numbers(
        Fraction(onset), Fraction(onset + duration), rate=Fraction(rate), librilight=librilight
    )
    assert list(range(first, first + max(0, length))) == expected


@pytest.mark.parametrize("rate", [0.0, -50.0, float("nan"), float("inf")])
def test_impossible_rates(rate):
    with pytest.raises(ValueError, match="frame_rate must be a positive number"):
        exact_rate(rate)
    assert exact_rate(49.95) == Decimal("49.95")
