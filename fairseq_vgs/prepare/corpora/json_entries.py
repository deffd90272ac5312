"""Reads a JSON file that holds one long list of entries, entry by entry, without holding the whole of it.

The corpora distribute their captions as ``{"data": [ENTRY, ...], ...}``, in files of up to some hundred MB.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from fairseq_vgs.files.faults import Fault, FaultError, fault

CHUNK = 1 << 20
# Characters of one entry at most: without a limit, a fault at the top would read in all of the file.
MAX_ENTRY = 1 << 24
UNPACK_AGAIN = "unpack the corpus again, or correct the file"
_BLANKS = re.compile(r"[ \t\n\r]*")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def read_entries(path: Path, list_name: str) -> Iterator[tuple[int, Any]]:
    """Yields index and value of every entry of a top-level list; other fields of the file are passed over.

    Args:
        path: the file.
        list_name: the list's field.

    Raises:
        FaultError: the file cannot be read, is no such JSON, or lacks the list.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _Text(file, path.name).entries(list_name)
    except FileNotFoundError:
        raise FaultError(Fault(str(path), f"file is missing; {UNPACK_AGAIN}")) from None
    except OSError as error:
        raise FaultError(
            Fault(str(path), f"cannot be read ({error.strerror or type(error).__name__}); check the file")
        ) from error
    except UnicodeDecodeError as error:
        raise FaultError(Fault(path.name, f"must be UTF-8 text; {UNPACK_AGAIN}")) from error


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
        """Returns the required fields, then the optional ones; None where it had to add faults."""
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
        """Returns a sentence about the fields that nobody knows, or None."""
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


class _Text:
    """A JSON text of which only the part at hand is in memory."""

    def __init__(self, file: TextIO, name: str) -> None:
        self._file = file
        self._name = name
        self._text = ""
        self._at = 0
        self._before = 0
        self._ended = False

    def entries(self, list_name: str) -> Iterator[tuple[int, Any]]:
        """Yields index and value of the list's entries."""
        self._take("{")
        found = False
        while self._next() != "}":
            name = self._value(f"the file's fields, among them {list_name!r}")
            if not isinstance(name, str):
                raise self._wrong("must be a field's name in quotes", self._at)
            self._take(":")
            if name == list_name and not found:
                found = True
                yield from self._list(list_name)
            else:
                self._value(name)
            if self._next() != "}":
                self._take(",")
        self._take("}")
        if self._next():
            raise self._wrong("must end here", self._at)
        if not found:
            expected = f"must be an object with the list {list_name!r}, got none"
            raise FaultError(Fault(self._name, f"{expected}; {UNPACK_AGAIN}"))

    def _list(self, name: str) -> Iterator[tuple[int, Any]]:
        self._take("[")
        index = 0
        while self._next() != "]":
            yield index, self._value(f"{name}[{index}]")
            index += 1
            if self._next() != "]":
                self._take(",")
        self._take("]")

    def _take(self, wanted: str) -> None:
        if self._next() != wanted:
            raise self._wrong(f"must be {wanted!r} here", self._at)
        self._at += 1

    def _next(self) -> str:
        """Returns the next character that is no blank, without taking it; empty at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def _value(self, what: str) -> Any:
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # What is cut off by the end of the part at hand reads as an error, too.
                if len(self._text) - self._at < MAX_ENTRY and self._read_on():
                    continue
                raise self._wrong(f"{what} must be JSON ({error.msg})", error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self._wrong(f"{what} must be JSON ({error})", self._at) from error
            # A number that ends here may go on.
            if end == len(self._text) and self._read_on():
                continue
            self._at = end
            return value

    def _read_on(self) -> bool:
        if self._ended:
            return False
        rest = self._text[self._at :]
        # Twice as much each time, so that a long entry is not tried too often.
        part = self._file.read(max(CHUNK, len(rest)))
        if not part:
            self._ended = True
            return False
        self._before += self._at
        self._text, self._at = rest + part, 0
        return True

    def _wrong(self, expected: str, position: int) -> FaultError:
        got = self._text[position : position + 40]
        place = f"{self._name}: character {self._before + position + 1}"
        return FaultError(fault(place, expected, got or "the end", UNPACK_AGAIN))
