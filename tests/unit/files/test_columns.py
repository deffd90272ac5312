from __future__ import annotations

import numpy as np
import pytest

from fairseq_vgs.files.columns import (
    free_text,
    identifier,
    media_path,
    optional,
    optional_media_path,
    positive_integer,
    row_number,
    share,
)


@pytest.mark.parametrize("text", ["1", "007", "123456789012345678"])
def test_positive_integers(text: str) -> None:
    assert positive_integer("n").parse(text) == int(text)


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "+3", " 3", "3 ", "3.0", "1e3", "1_000", "٣", "x", "9" * 5000]
)
def test_what_is_no_positive_integer(text: str) -> None:
    with pytest.raises(ValueError, match="must be a positive integer"):
        positive_integer("n").parse(text)


def test_row_numbers_start_at_zero() -> None:
    assert row_number("n").parse("0") == 0
    with pytest.raises(ValueError, match="must be a row number"):
        row_number("n").parse("-1")


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1", 1.0), (".5", 0.5), ("1e-3", 0.001)])
def test_shares(text: str, value: float) -> None:
    assert share("x").parse(text) == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "-0.1", "1.0001", "0,5", "0_1", " 0.5", "٠", "x"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a number in \[0, 1\]"):
        share("x").parse(text)


@pytest.mark.parametrize(
    "column", [identifier("x"), optional("x"), media_path("x"), optional_media_path("x")]
)
@pytest.mark.parametrize("text", [" a", "a ", "\u2028a", "a\x85"])
def test_blanks_around_names_are_refused(column, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="must not begin or end with blanks"):
        column.parse(text)


def test_only_some_text_may_be_empty() -> None:
    assert optional("x").parse("") == free_text("x").parse("") == optional_media_path("x").parse("") == ""
    for column in (identifier("x"), media_path("x")):
        with pytest.raises(ValueError, match="must not be empty"):
            column.parse("")


def test_free_text_keeps_its_blanks() -> None:
    assert free_text("x").parse('  "a" \u2028') == '  "a" \u2028'


@pytest.mark.parametrize("value", ["a\tb", "a\nb", "a\r", "a\0", "\ud800", 3, None])
def test_text_that_the_format_cannot_hold(value: object) -> None:
    with pytest.raises(ValueError, match="must"):
        free_text("x").render(value)


def test_numbers_of_numpy_are_written_as_plain_numbers() -> None:
    assert positive_integer("n").render(np.int64(7)) == "7"
    assert share("x").render(np.float64(0.1)) == "0.1"


def test_integers_are_not_rounded_silently() -> None:
    with pytest.raises(ValueError, match="must be an integer"):
        positive_integer("n").render(3.7)
    with pytest.raises(ValueError, match="must be a number"):
        share("n").render("wide")
