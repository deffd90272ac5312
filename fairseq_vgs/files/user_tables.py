"""Tables made by users: CSV, TSV or JSONL, with columns in any order and extra columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault

MAX_FIELD_CHARACTERS = 1 << 24


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

    ``.csv`` is for spreadsheets (commas, or semicolons if the header has no comma; quotes), ``.tsv``
    and ``.txt`` have tabs and no quotes, and ``.jsonl`` has one object per line.

    Args:
        path: the table, UTF-8; refused if it cannot be read.
        columns: name in the table of every wanted column.
        required: columns that must exist; other missing columns are empty.
        faults: receives the faults of lines.
        hints: next step if a required column is missing.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        expected = f"table must end in {', '.join(_READERS)}"
        raise FaultError(fault(str(path), expected, path.name, "rename or convert it", code="table.kind"))
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        message = f"cannot be read ({error.strerror}); check the path"
        raise FaultError.at(path, message, "file.unreadable") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        place, message = f"{path.name}:{line}", "must be UTF-8 text; save the table as UTF-8"
        raise FaultError.at(place, message, "file.encoding") from error
    rows = list(reader(text, _Wanted(path.name, columns, required, hints or {}, faults)))
    if not rows and not faults:
        message = "must list at least one recording, got none; check the table"
        faults.append(Fault(path.name, message, "table.empty"))
    return rows


@dataclass(frozen=True)
class _Wanted:
    """The columns to read from a table, and the faults found so far."""

    name: str
    columns: Mapping[str, str]
    required: Sequence[str]
    hints: Mapping[str, str]
    faults: list[Fault]

    def fault(self, line: int, expected: str, got: object, step: str = "correct the line") -> None:
        """Record a fault of a line."""
        self.faults.append(fault(f"{self.name}:{line}", expected, got, step, code="table.line"))

    def row(self, line: int, fields: Mapping[str, object]) -> TableRow:
        stripped = {name: str(value).strip() for name, value in fields.items()}
        return TableRow(stripped, f"{self.name}:{line}", line)


def _read_csv(text: str, wanted: _Wanted) -> Iterator[TableRow]:
    header = text.partition("\n")[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from _headed(((lines.line_num, fields) for fields in lines), wanted)
    except csv.Error as error:
        wanted.fault(lines.line_num, "must be CSV", str(error), "correct the quotes")


def _read_tsv(text: str, wanted: _Wanted) -> Iterator[TableRow]:
    lines = enumerate(text.removesuffix("\n").split("\n"), start=1)
    yield from _headed(((number, line.removesuffix("\r").split("\t")) for number, line in lines), wanted)


def _headed(lines: Iterator[tuple[int, list[str]]], wanted: _Wanted) -> Iterator[TableRow]:
    _, names = next(lines, (1, []))
    header = [field.strip() for field in names]
    positions = {column: header.index(name) for column, name in wanted.columns.items() if name in header}
    if faults := list(_header_faults(header, wanted)):
        wanted.faults.extend(faults)
        return
    for number, fields in lines:
        if fields in ([], [""]):
            continue
        if len(fields) != len(header):
            wanted.fault(number, f"line must have the header's {len(header)} fields", len(fields))
            continue
        yield wanted.row(number, {name: fields[at] for name, at in positions.items()})


def _header_faults(header: Sequence[str], wanted: _Wanted) -> Iterator[Fault]:
    place = f"{wanted.name}:1"
    for column in wanted.required:
        if (name := wanted.columns[column]) not in header:
            step, got = wanted.hints.get(column, "add the column"), ", ".join(header)
            yield fault(place, f"header must have a column {name!r}", got, step, code="table.column")
    for name in sorted({name for name in header if header.count(name) > 1} & set(wanted.columns.values())):
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
        if not missing and not wrong:
            yield wanted.row(number, found)


_READERS: dict[str, Callable[[str, _Wanted], Iterator[TableRow]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_tsv,
    ".jsonl": _read_jsonl,
}
