"""Lists of corpora: lines, JSON, tables of users, and the id lists of splits, verified by their SHA-256."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.tables import read_lines

# Published lists, a folder for each corpus.
SPLIT_LISTS = Path(__file__).parent / "corpora" / "splits"
UNPACK_AGAIN = "unpack the corpus again, or correct the file"
# The largest published file has 0.2 GB.
MAX_JSON_BYTES = 1 << 31
MAX_FIELD_CHARACTERS = 1 << 24


def read_corpus_lines(path: Path) -> tuple[list[tuple[str, str]], list[Fault]]:
    """Return the lines that are not blank, each with its place, and what is wrong with the file."""
    if not path.is_file() or not path.stat().st_size:
        got = "got an empty file" if path.is_file() else "got none"
        return [], [Fault(str(path), f"must be a file of the corpus, {got}; unpack the corpus again")]
    lines, faults = read_lines(path)
    placed = [
        (line, f"{path.name}:{number}") for number, line in enumerate(lines, start=1) if line is not None
    ]
    return [(line, place) for line, place in placed if line.strip()], faults


def list_hash(names: Iterable[str]) -> str:
    """Return the SHA-256 of a list as a file has it: a name a line, each ended by LF."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def read_published(path: Path, sha256: str) -> list[str]:
    """Return the names of a published list.

    Blanks around names, empty lines and CRLF are of no account.

    Raises:
        FaultError: the list cannot be read, or is another one.
    """
    lines, faults = read_corpus_lines(path)
    if faults:
        raise FaultError(faults)
    names = [line.strip() for line, _ in lines]
    if (found := list_hash(names)) != sha256:
        expected = f"must be the published list of SHA-256 {sha256}"
        raise FaultError(fault(str(path), expected, found, "take the list that comes with the package"))
    return names


def read_entries(path: Path, list_name: str) -> Iterator[tuple[int, Any]]:
    """Yield index and value of every entry of a JSON object's list; its other fields are passed over.

    Raises:
        FaultError: The file cannot be read, is no such JSON, or lacks the list.
    """
    content = _read_json(path)
    entries = content.get(list_name) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        expected = f"must be an object with the list {list_name!r}, got none"
        raise FaultError(Fault(path.name, f"{expected}; {UNPACK_AGAIN}", "json.list"))
    yield from enumerate(entries)


def _read_json(path: Path) -> Any:
    size = path.stat().st_size if path.is_file() else 0
    if size > MAX_JSON_BYTES:
        expected = f"must be at most {MAX_JSON_BYTES:,} bytes"
        raise FaultError(fault(str(path), expected, size, UNPACK_AGAIN, code="json.size"))
    try:
        with path.open(encoding="utf-8-sig") as file:
            return json.load(file, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise FaultError(Fault(str(path), f"file is missing; {UNPACK_AGAIN}", "file.missing")) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FaultError(
            Fault(str(path), f"cannot be read ({reason}); check the file", "file.read")
        ) from error
    except UnicodeDecodeError as error:
        raise FaultError(Fault(path.name, f"must be UTF-8 text; {UNPACK_AGAIN}", "file.encoding")) from error
    except json.JSONDecodeError as error:
        got = error.doc[error.pos : error.pos + 40] or "the end"
        place = f"{path.name}: character {error.pos + 1}"
        raise FaultError(
            fault(place, f"must be JSON ({error.msg})", got, UNPACK_AGAIN, code="json.syntax")
        ) from error
    except (ValueError, RecursionError) as error:
        raise FaultError(
            Fault(path.name, f"must be JSON ({error}); {UNPACK_AGAIN}", "json.syntax")
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class TextFields:
    """The fields of one kind of entry that hold text.

    Args:
        what: what the entries are, for messages.
        required: fields that every entry must have.
        filled: those of them that must not be empty.
        optional: fields that are taken where they are text.
        passed_over: further fields that are known.
    """

    def __init__(
        self,
        what: str,
        *,
        required: Sequence[str],
        filled: Sequence[str] = (),
        optional: Sequence[str] = (),
        passed_over: Sequence[str] = (),
    ) -> None:
        self._what = what
        self._required = tuple(required)
        self._filled = frozenset(filled)
        self._optional = tuple(optional)
        self._known = frozenset((*required, *optional, *passed_over))
        self.unknown: Counter[str] = Counter()

    def take(self, entry: Any, place: str, faults: list[Fault]) -> tuple[str, ...] | None:
        """Return the required fields, then the optional ones; None where it had to add faults."""
        if not isinstance(entry, dict):
            faults.append(fault(place, f"{self._what} must be an object", entry, UNPACK_AGAIN))
            return None
        if not entry.keys() <= self._known:
            self.unknown.update(entry.keys() - self._known)
        found = len(faults)
        for name in self._required:
            if name not in entry:
                faults.append(Fault(place, f"{self._what} must have the field {name!r}; {UNPACK_AGAIN}"))
            elif problem := _problem(entry[name], filled=name in self._filled):
                faults.append(fault(place, f"{name} {problem}", entry[name], UNPACK_AGAIN))
        if len(faults) > found:
            return None
        optional = (entry.get(name, "") for name in self._optional)
        return (
            *(entry[name] for name in self._required),
            *(value if _problem(value) is None else "" for value in optional),
        )

    def note(self) -> str | None:
        """Return a sentence about the fields that nobody knows, or None."""
        if not self.unknown:
            return None
        names = ", ".join(f"{name!r} ({count:,})" for name, count in sorted(self.unknown.items()))
        return f"{self._what}: unknown fields were passed over: {names}"


def _problem(value: Any, *, filled: bool = False) -> str | None:
    if not isinstance(value, str) or (filled and not value):
        return "must be text that is not empty" if filled else "must be text"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "must be text that UTF-8 can hold"
    return None


@dataclass(frozen=True, slots=True)
class TableRow:
    """The wanted fields of one row, stripped, and where it stands (``pairs.csv:17``)."""

    fields: Mapping[str, str]
    place: str


def read_table(
    path: Path, columns: Mapping[str, str], *, required: Sequence[str], faults: list[Fault]
) -> list[TableRow]:
    """Read the wanted columns of a table; others are passed over.

    ``.csv`` is what spreadsheets write (commas, or semicolons where the header has no comma; quotes),
    ``.tsv`` has plain fields between tabs, without quotes, and ``.jsonl`` an object per line.

    Args:
        path: The table, UTF-8.
        columns: Name in the table of every wanted column.
        required: The columns that must be there; others are empty if they are not.
        faults: Gets the faults of lines.

    Raises:
        FaultError: The table cannot be read.
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
    rows = list(reader(text, path.name, columns, required, faults))
    if not rows and not faults:
        faults.append(Fault(path.name, "must list at least one recording, got none; check the table"))
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
