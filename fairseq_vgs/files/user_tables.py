"""Tables made by users: CSV, TSV or JSONL, with columns in any order and extra columns.

What spreadsheet programs make of a table is read: semicolons, a byte order mark, UTF-16, CRLF, headers in
another case, rows of separators alone. What cannot be read without a guess is one fault with the remedy.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault, shown
from fairseq_vgs.files.tables import SAVE_AS_TEXT, UTF_16, refuse_workbook
from fairseq_vgs.files.texts import refuse_utf_16

MAX_FIELD_CHARACTERS = 1 << 24
_NO_TEXT = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class TableRow:
    """The wanted fields of one row, stripped, and their place: file and line."""

    fields: Mapping[str, str]
    place: str
    line: int


def read_table(
    path: Path,
    columns: Mapping[str, str],
    *,
    required: Sequence[str],
    faults: list[Fault],
    hints: Mapping[str, str] | None = None,
) -> list[TableRow]:
    """Read the wanted columns of a table; others are ignored.

    ``.csv`` is for spreadsheets (commas, semicolons or tabs, whichever the header has; quotes), ``.tsv`` and
    ``.txt`` have tabs and no quotes, and ``.jsonl`` has one object per line. The case of headers does not
    matter unless two differ in nothing else.

    Args:
        path: the table, UTF-8 or UTF-16 with its mark; refused if it cannot be read.
        columns: name in the table of every wanted column.
        required: columns that must exist; other missing columns are empty.
        faults: receives the faults of lines.
        hints: next step if a required column is missing.

    Raises:
        FaultError: ``table.kind`` or ``file.unreadable``: it cannot be read at all.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        expected = f"table must end in {', '.join(_READERS)}"
        raise FaultError(
            fault(str(path), expected, path.name, f"convert it, or {SAVE_AS_TEXT}", code="table.kind")
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"cannot be read ({error.strerror}); check the path"
        raise FaultError.at(path, message, "file.unreadable") from error
    text, is_damaged = _decoded(content, path.name, faults)
    rows = list(reader(text, _Wanted(path.name, columns, required, hints or {}, faults, is_damaged)))
    if not rows and not faults:
        message = "must list at least one recording, got none; check the table"
        faults.append(Fault(path.name, message, "table.empty"))
    return rows


def _decoded(content: bytes, name: str, faults: list[Fault]) -> tuple[str, bool]:
    """Return the text, and whether it holds other bytes, as surrogates: one fault of the file.

    Raises:
        FaultError: It is a workbook, damaged UTF-16, or UTF-16 without a byte order mark.
    """
    refuse_workbook(content, name)
    if not content.startswith(UTF_16):
        refuse_utf_16(content, name)
    try:
        return content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig"), False
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise FaultError.at(name, f"must be whole UTF-16; {SAVE_AS_TEXT}", "file.encoding") from error
    wrong = [item for item in enumerate(content.split(b"\n"), start=1) if not _is_utf_8(item[1])]
    number, line = wrong[0][0], wrong[0][1].strip()
    expected = f"must be UTF-8 text ({len(wrong):,} lines are not)" if wrong[1:] else "must be UTF-8 text"
    guess = shown(line.decode("cp1252", "replace"))
    step = f"{SAVE_AS_TEXT}, or convert it (iconv -f CP1252 -t UTF-8) if {guess} is right"
    faults.append(fault(f"{name}:{number}", expected, line, step, code="file.encoding"))
    return content.decode("utf-8-sig", "surrogateescape"), True


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class _Wanted:
    """The columns to read from a table, and the faults found so far."""

    name: str
    columns: Mapping[str, str]
    required: Sequence[str]
    hints: Mapping[str, str]
    faults: list[Fault]
    is_damaged: bool

    def fault(self, line: int, expected: str, got: object, step: str = "correct the line") -> None:
        """Record a fault of a line."""
        self.faults.append(fault(f"{self.name}:{line}", expected, got, step, code="table.line"))

    def row(self, line: int, fields: Mapping[str, object]) -> TableRow | None:
        """Return the row, unless it holds bytes that are no text, which are a fault already."""
        stripped = {name: str(value).strip() for name, value in fields.items()}
        if self.is_damaged and any(map(_NO_TEXT.search, stripped.values())):
            return None
        return TableRow(stripped, f"{self.name}:{line}", line)

    def positions(self, header: Sequence[str]) -> dict[str, list[int]]:
        """Return where each wanted column is: as it is named or, if nowhere, in another case."""
        found = {}
        for column, name in self.columns.items():
            exact = [at for at, title in enumerate(header) if title == name]
            folded = [at for at, title in enumerate(header) if title.casefold() == name.casefold()]
            found[column] = exact or folded
        return found


def _read_csv(text: str, wanted: _Wanted) -> Iterator[TableRow]:
    first = text.splitlines()[0] if text else ""
    declared = len(first) == 5 and first.lower().startswith("sep=")  # Excel's own way to name the separator
    delimiter = first[4] if declared else _delimiter(first, wanted)
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    content = io.StringIO(text, newline="")
    lines = csv.reader(content, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        if declared:
            next(lines)
        yield from _headed(((lines.line_num, fields) for fields in lines), wanted)
    except csv.Error as error:
        wanted.fault(lines.line_num, "must be CSV", str(error), "correct the quotes")


def _delimiter(header: str, wanted: _Wanted) -> str:
    """Return the separator under which a header names most of the wanted columns."""

    def fit(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        positions = wanted.positions([name.strip() for name in names])
        return sum(map(bool, positions.values())), header.count(delimiter)

    return max(",;\t", key=fit)


def _read_tsv(text: str, wanted: _Wanted) -> Iterator[TableRow]:
    text = text.replace("\r\n", "\n")
    text = text if "\n" in text else text.replace("\r", "\n")
    lines = enumerate(text.removesuffix("\n").split("\n"), start=1)
    yield from _headed(((number, line.split("\t")) for number, line in lines), wanted)


def _headed(lines: Iterator[tuple[int, list[str]]], wanted: _Wanted) -> Iterator[TableRow]:
    start, names = next(lines, (1, []))
    header = [field.strip() for field in names]
    positions = wanted.positions(header)
    if faults := list(_header_faults(header, positions, wanted, f"{wanted.name}:{start or 1}")):
        wanted.faults.extend(faults)
        return
    places = {name: at[0] for name, at in positions.items() if at}
    for number, fields in lines:
        if not any(map(str.strip, fields)):
            continue
        if len(fields) != len(header):
            dropped = " (some programs drop empty cells at the ends of lines: end with a filled column)"
            step = f"correct the line{dropped if len(fields) < len(header) else ''}"
            wanted.fault(number, f"line must have the header's {len(header)} fields", len(fields), step)
            continue
        if row := wanted.row(number, {name: fields[at] for name, at in places.items()}):
            yield row


def _header_faults(
    header: Sequence[str], positions: Mapping[str, Sequence[int]], wanted: _Wanted, place: str
) -> Iterator[Fault]:
    undivided = len(header) == 1 and any(mark in header[0] for mark in ",;")
    for column in wanted.required:
        if not positions[column]:
            step, got = wanted.hints.get(column, "add the column"), ", ".join(header)
            step = "divide columns by tabs, or call the table .csv" if undivided else step
            expected = f"header must have a column {wanted.columns[column]!r}"
            yield fault(place, expected, got, step, code="table.column")
    for name in sorted({wanted.columns[column] for column, at in positions.items() if len(at) > 1}):
        message = f"header has the column {name!r} more than once; keep one of them"
        yield Fault(place, message, "table.column")


def _read_jsonl(text: str, wanted: _Wanted) -> Iterator[TableRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            wanted.fault(number, "line must be JSON", str(error))
            continue
        if not isinstance(content, dict):
            wanted.fault(number, "line must be a JSON object", content)
            continue
        columns = wanted.columns
        found = {column: content[name] for column, name in columns.items() if content.get(name) is not None}
        missing = [columns[column] for column in wanted.required if column not in found]
        # Speakers are often numbers.
        wrong = [columns[name] for name, value in found.items() if type(value) not in (str, int)]
        for field in missing:
            message = f"object must have {field!r}; add it, or name another field"
            wanted.faults.append(Fault(f"{wanted.name}:{number}", message, "table.line"))
        for field in wrong:
            wanted.fault(number, f"{field!r} must be text", content[field])
        if not missing and not wrong and (row := wanted.row(number, found)):
            yield row


_READERS: dict[str, Callable[[str, _Wanted], Iterator[TableRow]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_tsv,
    ".jsonl": _read_jsonl,
}
