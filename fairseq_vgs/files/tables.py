"""Read and write tab-separated tables; every fault has a line number.

Lines end with LF; CRLF is accepted. There is no quoting: a field is the text between two tabs.

``parse_rows`` reads line by line, makes an object of every row and names every fault. ``column_chunks`` reads
millions of rows by columns, in the memory of the result, and only detects that there is a fault; the caller
then reads by line. Both accept the same tables, except that CRLF is left to the first.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from fairseq_vgs.files.columns import Column, parse_all
from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any, shown
from fairseq_vgs.files.spelling import nearest
from fairseq_vgs.files.texts import refuse_utf_16

Row = TypeVar("Row")
Row_co = TypeVar("Row_co", covariant=True)
CHUNK_BYTES = 1 << 20
NOT_SPLITS = frozenset({"images", "regions"})
SAVE_AS_TEXT = "save it as CSV UTF-8 in the spreadsheet program"
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods, .xls
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PLAIN_LINES = 4096  # parsed together where they hold no fault
CORRECT_LINE = "correct the line or rerun fairseq-vgs prepare"


@dataclass(frozen=True)
class TableFormat(Generic[Row]):
    """The format of one kind of table.

    Attributes:
        columns: columns in the order they are written; also the arguments of ``make``, which builds a row.
        unique: names of the columns whose combined values must be unique.
        noun: what a row is, for messages.
        check: raises ``ValueError`` (expectation, found value) for rows whose valid fields disagree.
    """

    columns: tuple[Column, ...]
    make: Callable[..., Row]
    unique: tuple[str, ...]
    noun: str
    check: Callable[[Row], None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Table(Generic[Row_co]):
    """The readable part of a table: the valid rows, the line number of each, and the faults of all else.

    Attributes:
        name: name of the file.
        root: folder that paths are relative to, for tables that have one.
        usable: False if the file or its header is too broken to know its rows.
        doubtful: first fields of faulty lines, so that they are not reported as unknown again.
    """

    name: str
    rows: tuple[Row_co, ...] = ()
    lines: tuple[int, ...] = ()
    faults: tuple[Fault, ...] = ()
    root: Path | None = None
    usable: bool = True
    doubtful: frozenset[str] = frozenset()

    def placed(self) -> Iterator[tuple[str, Row_co]]:
        """Yield file and line of each valid row, and the row."""
        for line, row in zip(self.lines, self.rows, strict=True):
            yield f"{self.name}:{line}", row


def _other_splits(path: Path) -> str:
    """Name the splits of a folder as part of a next step, since the name may be misspelt."""
    if path.suffixes != [".tsv"] or path.stem in NOT_SPLITS:
        return ""
    lists = {other.stem for other in path.parent.glob("*.tsv") if other.suffixes == [".tsv"]} - NOT_SPLITS
    near = nearest(path.stem, lists)
    meant = f"did you mean {near!r}? " if near else ""
    return f"{meant}splits there are {', '.join(sorted(lists))}: name one of them, or " if lists else ""


def refuse_workbook(content: bytes, name: str) -> None:
    """Refuse the content of a spreadsheet program's own file.

    Raises:
        FaultError: ``table.kind``.
    """
    if content.startswith(WORKBOOKS):
        raise FaultError.at(name, f"must be text, got a workbook; {SAVE_AS_TEXT}", "table.kind")


def require_table(path: Path) -> None:
    """Refuse a table that is not there, without reading it.

    Raises:
        FaultError: ``file.missing`` or ``file.kind``.
    """
    if path.is_file():
        return
    step = f"{_other_splits(path)}build it with fairseq-vgs prepare"
    if path.exists():
        raise FaultError.at(path, f"is not a regular file; {step}", "file.kind")
    raise FaultError.at(path, f"file is missing; {step}", "file.missing")


def read_lines(path: Path, *, marked: bool = False) -> tuple[list[str | None], list[Fault]]:
    """Return a file's lines without line ends, None for lines that are not text, and the faults of these.

    A byte order mark is a fault unless the file may be ``marked``.

    Raises:
        FaultError: The file cannot be read or is empty.
    """
    require_table(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"cannot be read ({error.strerror}); check the file"
        raise FaultError.at(path, message, "file.unreadable") from error
    if not content:
        raise FaultError.at(path.name, "file is empty; rerun fairseq-vgs prepare", "table.empty")
    refuse_workbook(content, path.name)
    refuse_utf_16(content, path.name)
    lines: list[str | None] = []
    faults = []
    for number, raw in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            lines.append(raw.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            expected = f"line must be UTF-8 text (it is not at byte {error.start + 1})"
            place, step = f"{path.name}:{number}", "save the file as UTF-8"
            faults.append(fault(place, expected, raw, step, code="file.encoding"))
            lines.append(None)
    if lines[0] is not None and lines[0].startswith("\ufeff"):
        message = "must not begin with a byte order mark; save as UTF-8 without one"
        faults += [] if marked else [Fault(f"{path.name}:1", message, "file.encoding")]
        lines[0] = lines[0][1:]
    return lines, faults


def parse_header(line: str, table: TableFormat[Any], *, place: str) -> tuple[list[int], list[Fault]]:
    """Return the position of each column in a header line, and the header's faults."""
    names = line.split("\t")
    listed = ", ".join(table.names)
    faults = []
    missing = [name for name in table.names if name not in names]
    unknown = [name for name in names if name not in table.names]
    twice = sorted({name for name in names if names.count(name) > 1 and name in table.names})
    if len(missing) == len(table.names):
        expected, step = f"header must name the columns {listed}", "put the header line first"
        return [], [fault(place, expected, line, step, code="table.column")]
    if missing:
        step = f"the columns are {listed}; add the missing ones, empty ones too"
        faults.append(Fault(place, f"header lacks {_quoted(missing)}; {step}", "table.column"))
    if unknown:
        step = f"the columns are {listed}; remove all others"
        faults.append(Fault(place, f"header has unknown columns {_quoted(unknown)}; {step}", "table.column"))
    if twice:
        message = f"header names {_quoted(twice)} more than once; keep one column of each"
        faults.append(Fault(place, message, "table.column"))
    return [names.index(name) for name in table.names if name in names], faults


def parse_rows(
    lines: Sequence[str | None], table: TableFormat[Row], *, name: str, start: int, order: Sequence[int]
) -> Table[Row]:
    """Parse the lines of file ``name`` from index ``start`` on; ``order`` is each column's position."""
    if (plain := _plain_rows(lines, table, start=start, order=order)) is not None:
        return Table(name, tuple(plain), tuple(range(start + 1, len(lines) + 1)))
    rows: list[Row] = []
    numbers: list[int] = []
    faults: list[Fault] = []
    doubtful: set[str] = set()
    seen: dict[Hashable, int] = {}
    key_of: Callable[[Row], Hashable] = attrgetter(*table.unique)
    for number, line in enumerate(islice(lines, start, None), start=start + 1):
        if line is None:
            continue
        place = f"{name}:{number}"
        parsed = _parse_line(line, table, place=place, order=order)
        row, line_faults = parsed  # in two steps for mypy
        if row is not None:
            key = key_of(row)
            first = seen.setdefault(key, number)
            if first == number:
                rows.append(row)
                numbers.append(number)
                continue
            line_faults = [_duplicate(place, table, key, first)]
        faults.extend(line_faults)
        doubtful.add(_first_field(line, order))
    if not rows and not faults and None not in lines:
        message = f"file must list at least one {table.noun}; rerun fairseq-vgs prepare"
        faults.append(Fault(f"{name}:{len(lines)}", message, "table.empty"))
    return Table(name, tuple(rows), tuple(numbers), tuple(faults), doubtful=frozenset(doubtful))


def _plain_rows(
    lines: Sequence[str | None], table: TableFormat[Row], *, start: int, order: Sequence[int]
) -> list[Row] | None:
    """Return the rows of lines without a fault, column by column and much faster; None if there is any."""
    found: list[Row] = []
    keys: set[Hashable] = set()
    key_of: Callable[[Row], Hashable] = attrgetter(*table.unique)
    for first in range(start, len(lines), _PLAIN_LINES):
        some = [line for line in lines[first : first + _PLAIN_LINES] if line is not None]
        joined = "\t".join(some)
        fields = [line.split("\t") for line in some]
        is_whole = len(some) == min(_PLAIN_LINES, len(lines) - first)
        if not is_whole or "\r" in joined or "\0" in joined or {*map(len, fields)} != {len(table.columns)}:
            return None
        columns = list(zip(*fields, strict=True))
        try:
            values = [
                parse_all(column, columns[place]) for column, place in zip(table.columns, order, strict=True)
            ]
            rows = list(map(table.make, *values))
            if table.check is not None:
                deque(map(table.check, rows), maxlen=0)
        except ValueError:
            return None
        keys.update(map(key_of, rows))
        found += rows
    return found if found and len(keys) == len(found) else None


class IrregularTableError(ValueError):
    """A table has a fault, which reading by columns detects but does not name."""


def read_root(file: BinaryIO, path: Path, *, mark: str) -> Path:
    """Read the root folder on line 1, after a mark. Raises IrregularTableError."""
    line = _text(file.readline()).removesuffix("\n")
    text = line.removeprefix(mark)
    if not line.startswith(mark) or not text or text != text.strip() or "\t" in text:
        raise IrregularTableError
    return path.parent.absolute() / text


def read_header(file: BinaryIO, table: TableFormat[Any]) -> Sequence[int]:
    """Read the header; return the position of each column. Raises IrregularTableError."""
    order, faults = parse_header(_text(file.readline()).removesuffix("\n"), table, place="")
    if faults:
        raise IrregularTableError
    return order


def column_chunks(
    file: BinaryIO, table: TableFormat[Any], *, order: Sequence[int]
) -> Iterator[list[Sequence[Any]]]:
    """Yield checked values of a chunk of rows at a time from here on, one sequence per column.

    A million rows take a few seconds, and memory does not grow with their number. A table with a fault, which
    ``parse_rows`` names, raises IrregularTableError.
    """
    import numpy as np

    n_columns = len(table.columns)
    separators = np.frombuffer(b"\t" * (n_columns - 1) + b"\n", dtype=np.uint8)
    is_empty = True
    while raw := file.read(CHUNK_BYTES) + file.readline():
        is_empty = False
        raw = raw if raw.endswith(b"\n") else raw + b"\n"
        characters = np.frombuffer(raw, dtype=np.uint8)
        found = characters[(characters == separators[0]) | (characters == separators[-1])]
        if len(found) % n_columns or (found.reshape(-1, n_columns) != separators).any():
            raise IrregularTableError
        fields = _text(raw)[:-1].replace("\n", "\t").split("\t")
        try:
            columns = zip(table.columns, order, strict=True)
            yield [parse_all(column, tuple(fields[position::n_columns])) for column, position in columns]
        except ValueError as error:
            raise IrregularTableError from error
    if is_empty:
        raise IrregularTableError


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise IrregularTableError from error
    if "\r" in text or "\0" in text or text.startswith("\ufeff"):
        raise IrregularTableError
    return text


def render_rows(rows: Iterable[Row], table: TableFormat[Row], *, name: str, start: int) -> list[str]:
    """Return the lines of rows from line ``start`` of file ``name``; refuse what would not read back.

    Raises:
        FaultError: All faulty rows, or ``table.empty``.
    """
    lines: list[str | None] = [None] * (start - 1)
    faults: list[Fault] = []
    for number, row in enumerate(rows, start=start):
        line, line_faults = _render_row(row, table, place=f"{name}:{number}")
        lines.append(line)
        faults.extend(line_faults)
    faults.extend(
        parse_rows(lines, table, name=name, start=start - 1, order=range(len(table.columns))).faults
    )
    if len(lines) < start:
        message = f"there must be at least one {table.noun} to write, got none; check what they are made from"
        faults.append(Fault(name, message, "table.empty"))
    raise_any(sorted(faults, key=line_number))
    return [line for line in lines if line is not None]


def _parse_line(
    line: str, table: TableFormat[Row], *, place: str, order: Sequence[int]
) -> tuple[Row | None, list[Fault]]:
    fields = line.split("\t")
    if len(fields) != len(table.columns):
        expected = f"line must have {len(table.columns)} fields between tabs ({', '.join(table.names)})"
        found = f"{len(fields)} in {shown(line)}" if line else "an empty line"
        return None, [Fault(place, f"{expected}, got {found}; {CORRECT_LINE}", "table.line")]
    if "\r" in line or "\0" in line:
        expected = "line must not contain carriage returns or NUL"
        return None, [fault(place, expected, line, CORRECT_LINE, code="table.line")]
    pairs = zip(table.columns, order, strict=True)
    try:
        row = table.make(*[column.parse(fields[index]) for column, index in pairs])
    except ValueError:
        # Parsing stopped at the first fault; parse again to name all of them.
        return None, _field_faults(fields, table, place=place, order=order)
    try:
        if table.check is not None:
            table.check(row)
    except ValueError as error:
        expected, got = error.args
        return None, [fault(place, expected, got, CORRECT_LINE, code="table.value")]
    return row, []


def _field_faults(
    fields: Sequence[str], table: TableFormat[Any], *, place: str, order: Sequence[int]
) -> list[Fault]:
    faults = []
    for column, index in zip(table.columns, order, strict=True):
        try:
            column.parse(fields[index])
        except ValueError as error:
            expected = f"{column.name} {error}"
            faults.append(fault(place, expected, fields[index], CORRECT_LINE, code="table.value"))
    return faults


def _render_row(row: Row, table: TableFormat[Row], *, place: str) -> tuple[str | None, list[Fault]]:
    fields = []
    faults = []
    for column in table.columns:
        value = getattr(row, column.name)
        try:
            fields.append(column.render(value))
        except ValueError as error:
            expected, step = f"{column.name} {error}", "correct the row before writing it"
            faults.append(fault(place, expected, value, step, code="table.value"))
    return (None if faults else "\t".join(fields)), faults


def _duplicate(place: str, table: TableFormat[Any], key: Hashable, first: int) -> Fault:
    what = " and ".join(table.unique) if len(table.unique) < len(table.columns) else "row"
    expected = f"{what} must appear only once in the file (first in line {first})"
    return fault(place, expected, key, "remove one of the two", code="table.duplicate")


def _first_field(line: str, order: Sequence[int]) -> str:
    fields = line.split("\t")
    return fields[order[0]] if order[0] < len(fields) else fields[0]


def line_number(item: Fault) -> int:
    """Return the line number in a fault's place, or 0; for sorting."""
    number = item.place.rpartition(":")[2]
    return int(number) if number.isdigit() else 0


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
