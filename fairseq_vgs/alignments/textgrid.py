"""Read Praat's TextGrids in their long and short text formats.

Praat takes quoted strings, free-standing numbers and ``<flags>`` in order and ignores all other words: the
long format is the short one with explanations between the values (Praat manual, "TextGrid file formats").
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, TypeVar

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.texts import decode_text

ROUNDING = Decimal("1e-6")
"""Seconds: times that differ by less are equal. Aligners write floats such as 0.30000000000000004 for 0.3."""
_MAX_NUMBER, _FINEST = Decimal("1e9"), Decimal("1e-18")  # as item files hold times
Value = TypeVar("Value", str, Decimal)

_TOKEN = re.compile(
    r"""
    "((?:[^"]|"")*)"  # a string; a doubled quotation mark is one
    | (<[^>\s]*>)
    | (?:^|(?<=\s)) (-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?) (?=\s|$)
    | ![^\n]*  # a comment
    | \S
    """,
    re.VERBOSE,
)
_INTERVALS, _POINTS = "IntervalTier", "TextTier"
_BINARY = b"ooBinaryFile"
_SAVE = "save the file again, from Praat as (short) text file"


class Phone(NamedTuple):
    """One interval: times in seconds, label (empty or a pause's name where nothing is said), and its line."""

    onset: Decimal
    offset: Decimal
    label: str
    line: int


class _Tokens:
    """The values of a TextGrid, each with its line."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._values = name, _values(text)

    def error(self, line: int, expected: str, got: object) -> FaultError:
        """Return the error at a line; 0 is the file's end."""
        place = f"{self._name}:{line}" if line else self._name
        return FaultError(fault(place, expected, str(got), _SAVE, code="alignment.syntax"))

    def end(self) -> None:
        for value, line in self._values:
            raise self.error(line, "there must be no more entries than their number says", value)

    def next(self, kind: type[Value], expected: str) -> tuple[Value, int]:
        value, line = next(self._values, ("the file's end", 0))
        if not line or not isinstance(value, kind):
            raise self.error(line, expected, value)
        return value, line

    def string(self, what: str) -> tuple[str, int]:
        return self.next(str, f"{what} must be a string")

    def number(self, what: str) -> tuple[Decimal, int]:
        return self.next(Decimal, f"{what} must be a number")

    def time(self, what: str) -> tuple[Decimal, int]:
        """Return seconds; digits beyond 1e-18 and a rounding error below 0 are noise."""
        value, line = self.number(what)
        if abs(value) >= _MAX_NUMBER:
            raise self.error(line, f"{what} must be below {_MAX_NUMBER} s", value)
        value = Decimal(0) if -ROUNDING <= value < 0 else value
        return value.quantize(_FINEST) if value != value.quantize(_FINEST) else value, line

    def count(self, what: str) -> int:
        value, line = self.next(Decimal, expected := f"number of {what} must be an integer")
        if not 0 <= value < _MAX_NUMBER or value != value.to_integral_value():
            raise self.error(line, expected, value)
        return int(value)


def _values(text: str) -> Iterator[tuple[str | Decimal, int]]:
    line, position = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        string, flag, number = match.groups()
        if string is not None:
            yield string.replace('""', '"'), line
        elif number is not None or flag is not None:
            yield flag or _decimal(number), line


def _decimal(text: str) -> Decimal:
    """Return a number; infinity if its exponent is absurd, which arithmetic does not survive."""
    exponent = text.lower().partition("e")[2].lstrip("+-0")
    return Decimal(text) if len(exponent) <= 4 else Decimal("Infinity")


def read_tiers(path: Path) -> list[tuple[str, tuple[Phone, ...]]]:
    """Read the names and intervals of the interval tiers; point tiers are skipped.

    Files are UTF-8, or UTF-16 with its byte-order mark, as Praat writes it.

    Raises:
        FaultError: At the first value out of place; for Praat's binary format; for other encodings.
    """
    content = path.read_bytes()
    if content.startswith(_BINARY):
        raise _Tokens(path.name, "").error(1, "file must be text", _BINARY.decode())
    text = _decoded(content, path.name)
    return list(_read_tiers(_Tokens(path.name, text.replace("\r\n", "\n").replace("\r", "\n"))))


def _decoded(content: bytes, name: str) -> str:
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return decode_text(content, name)
    try:
        return content.decode("utf-16")
    except UnicodeDecodeError as error:
        step = "choose UTF-8 in Praat's text writing preferences and save it again"
        message = f"must be whole UTF-16 ({error.reason}); {step}"
        raise FaultError.at(name, message, "file.encoding") from error


def _read_tiers(tokens: _Tokens) -> Iterator[tuple[str, tuple[Phone, ...]]]:
    for name in ("ooTextFile", "TextGrid"):
        expected = f'file must begin with "ooTextFile" and "TextGrid", lacks "{name}"'
        value, line = tokens.next(str, expected)
        # Old Praat: "ooTextFile short"
        if value.split()[:1] != [name]:
            raise tokens.error(line, expected, value)
    tokens.number("start of the TextGrid")
    tokens.number("end of the TextGrid")
    flag, line = tokens.next(str, expected := "there must be a flag <exists>")
    if flag != "<exists>":
        raise tokens.error(line, expected, flag)
    for _ in range(tokens.count("tiers")):
        kind, line = tokens.string("class of a tier")
        if kind not in (_INTERVALS, _POINTS):
            raise tokens.error(line, f"class of a tier must be {_INTERVALS} or {_POINTS}", kind)
        name, _ = tokens.string("name of a tier")
        tokens.number("start of a tier")
        tokens.number("end of a tier")
        n_entries = tokens.count("a tier's entries")
        if kind == _INTERVALS:
            yield name, tuple(_read_interval(tokens) for _ in range(n_entries))
        else:
            for _ in range(n_entries):
                tokens.number("time of a point")
                tokens.string("mark of a point")
    tokens.end()


def _read_interval(tokens: _Tokens) -> Phone:
    onset, line = tokens.time("start of an interval")
    offset, _ = tokens.time("end of an interval")
    label, _ = tokens.string("label of an interval")
    return Phone(onset, offset, label.strip(), line)
