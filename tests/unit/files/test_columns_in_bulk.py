"""Reading many values at once gives what reading them one by one gives, errors included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_vgs.files import columns as fields

COLUMNS = [
    fields.identifier("id"),
    fields.optional("speaker"),
    fields.free_text("text"),
    fields.media_path("path"),
    fields.optional_media_path("path"),
    fields.positive_integer("n"),
    fields.row_number("row"),
    fields.share("x0"),
]
PIECES = [
    "a",
    "я",
    " ",
    "\u00a0",
    "0",
    "7",
    "18446744073709551616",
    "/",
    "..",
    ".zip",
    ".TAR",
    ":",
    ":3:4",
    "_",
    "-",
    ".",
    "e-1",
    "nan",
    "inf",
]
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), min_size=1, max_size=4)


def one_by_one(column, texts):
    try:
        return [column.parse(text) for text in texts]
    except ValueError as error:
        return str(error)


def in_bulk(column, texts):
    try:
        return list(fields.parse_all(column, tuple(texts)))
    except ValueError as error:
        return str(error)


@given(TEXTS)
def test_the_same_values_and_errors(texts):
    for column in COLUMNS:
        assert in_bulk(column, texts) == one_by_one(column, texts), column.name


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (fields.media_path("path"), ["a/b c.flac", "d.png"]),
        (fields.positive_integer("n"), ["1", "007", "999999999999999999"]),
        (fields.row_number("row"), ["0", "007"]),
        (fields.share("x0"), ["0", "1.0", "-0", ".25", "2.5e-1"]),
        (fields.identifier("id"), ["a", "я b"]),
        (fields.optional("speaker"), ["", "x"]),
    ],
)
def test_plain_values_take_the_short_way(column, texts, monkeypatch):
    expected = one_by_one(column, texts)
    monkeypatch.setattr(fields, "_DIGITS", None)
    monkeypatch.setattr(fields, "split_entry", None)
    assert fields._ALL_PLAIN[column.parse](tuple(texts)) is not None
    assert in_bulk(column, texts) == expected
