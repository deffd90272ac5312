"""Reads tables that users made: CSV, TSV or JSONL, with columns under any name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.prepare.corpora.corpus_check import raise_or_collect

MAX_FIELD_CHARACTERS = 1 << 24


@dataclass(frozen=True, slots=True)
class TableRow:
    """The wanted fields of one row, stripped, and where it stands (``pairs.csv:17``)."""

    fields: Mapping[str, str]
    place: str


def read_table(
    path: Path, columns: Mapping[str, str], *, required: Sequence[str], faults: list[Fault] | None = None
) -> list[TableRow]:
    """Reads the wanted columns of a table; others are passed over.

    ``.csv`` is what spreadsheets write (commas, or semicolons where the header has no comma; quotes),
    ``.tsv`` has plain fields between tabs, without quotes, and ``.jsonl`` an object per line.

    Args:
        path: the table, UTF-8.
        columns: name in the table of every wanted column.
        required: the columns that must be there; others are empty if they are not.
        faults: gets the faults of lines, which are raised otherwise.

    Raises:
        FaultError: the table cannot be read, or all faults.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        expected = f"table must end in {', '.join(_READERS)}"
        raise FaultError(fault(str(path), expected, path.name, "rename or convert it"))
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FaultError(Fault(str(path), f"cannot be read ({error.strerror}); check the path")) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        place = f"{path.name}:{line}"
        raise FaultError(Fault(place, "must be UTF-8 text; save the table as UTF-8")) from error
    found: list[Fault] = []
    rows = list(reader(text, path.name, columns, required, found))
    if not rows and not found:
        found.append(Fault(path.name, "must list at least one recording, got none; check the table"))
    raise_or_collect(found, faults)
    return rows


def _read_csv(
    text: str, name: str, columns: Mapping[str, str], required: Sequence[str], faults: list[Fault]
) -> Iterator[TableRow]:
    header = text.partition("\n")[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    yield from _headed(lines, lambda: lines.line_num, name, columns, required, faults)


def _read_tsv(
    text: str, name: str, columns: Mapping[str, str], required: Sequence[str], faults: list[Fault]
) -> Iterator[TableRow]:
    number = 0

    def lines() -> Iterator[list[str]]:
        nonlocal number
        for line in text.removesuffix("\n").split("\n"):
            number += 1
            yield line.removesuffix("\r").split("\t")

    yield from _headed(lines(), lambda: number, name, columns, required, faults)


def _headed(
    lines: Iterator[list[str]],
    line_number: Callable[[], int],
    name: str,
    columns: Mapping[str, str],
    required: Sequence[str],
    faults: list[Fault],
) -> Iterator[TableRow]:
    try:
        header = [field.strip() for field in next(lines, [])]
        positions = {column: header.index(name) for column, name in columns.items() if name in header}
        faults.extend(_header_faults(header, f"{name}:1", columns, required))
        if faults:
            return
        for fields in lines:
            place = f"{name}:{line_number()}"
            if fields in ([], [""]):
                continue
            if len(fields) != len(header):
                expected = f"line must have the header's {len(header)} fields"
                faults.append(fault(place, expected, len(fields), "correct the line"))
                continue
            yield TableRow({column: fields[at].strip() for column, at in positions.items()}, place)
    except csv.Error as error:
        faults.append(fault(f"{name}:{line_number()}", "must be CSV", str(error), "correct the quotes"))


def _header_faults(
    header: Sequence[str], place: str, columns: Mapping[str, str], required: Sequence[str]
) -> Iterator[Fault]:
    for column in required:
        if columns[column] not in header:
            step = f"rename a column, or name it with --{column}-column"
            step += " (NONE: recordings alone)" if column == "image" else ""
            yield fault(place, f"header must have a column {columns[column]!r}", ", ".join(header), step)
    for name in sorted({name for name in header if header.count(name) > 1} & set(columns.values())):
        yield Fault(place, f"header has the column {name!r} more than once; keep one of them")


def _read_jsonl(
    text: str, name: str, columns: Mapping[str, str], required: Sequence[str], faults: list[Fault]
) -> Iterator[TableRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        place = f"{name}:{number}"
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.append(fault(place, "line must be JSON", str(error), "correct the line"))
            continue
        if not isinstance(content, dict):
            faults.append(fault(place, "line must be a JSON object", content, "correct the line"))
            continue
        found = {column: content[name] for column, name in columns.items() if content.get(name) is not None}
        missing = [columns[column] for column in required if column not in found]
        wrong = [columns[column] for column, value in found.items() if not _is_text(value)]
        for field in missing:
            faults.append(Fault(place, f"object must have {field!r}; add it, or name another field"))
        for field in wrong:
            faults.append(fault(place, f"{field!r} must be text", content[field], "correct the line"))
        if not missing and not wrong:
            yield TableRow({column: str(value).strip() for column, value in found.items()}, place)


def _is_text(value: object) -> bool:
    # Speakers are often numbers.
    return isinstance(value, (str, int)) and not isinstance(value, bool)


_Reader = Callable[
    [str, str, Mapping[str, str], Sequence[str], list[Fault]],
    Iterable[TableRow],
]
_READERS: dict[str, _Reader] = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_jsonl}
