"""Reading many values at once gives what reading them one by one gives, errors included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_vgs.files import columns as fields
from fairseq_vgs.files import tables

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


COUNTED = (fields.identifier("id"), fields.positive_integer("n"))
LINES = st.lists(
    st.sampled_from(
        ["a\t1", "b\t2", "1\t3", "4\tc", "a\t7", "c\t0", "", "d", "e\t1\t1", "f\r\t1", "g\0\t2", None]
    )
)


class Row:
    """A row that knows how it was made."""

    def __init__(self, name: str, n: int) -> None:
        self.id, self.n = name, n

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    __hash__ = None


def refuse_seven(row: Row) -> None:
    if row.n == 7:
        raise ValueError("n must not be 7", row.n)


@given(lines=LINES, start=st.integers(0, 2), order=st.permutations([0, 1]))
def test_tables_read_by_column_are_as_read_by_line(lines, start, order):
    table = tables.TableFormat(COUNTED, Row, ("id",), "row", refuse_seven)
    found = tables.parse_rows(lines, table, name="x", start=start, order=order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_plain_rows", lambda *_, **__: None)
        assert found == tables.parse_rows(lines, table, name="x", start=start, order=order)


def test_many_sound_lines_are_read_by_column(monkeypatch):
    monkeypatch.setattr(tables, "_parse_line", None)
    lines = ["id\tn", *(f"{number}\t{number + 1}" for number in range(10_000))]
    table = tables.TableFormat(COUNTED, Row, ("id",), "row")
    found = tables.parse_rows(lines, table, name="x", start=1, order=(0, 1))
    assert [row.n for row in found.rows] == list(range(1, 10_001))
    assert found.lines == tuple(range(2, 10_002))
