"""Read Praat's TextGrids, long and short text, from what the two have in common.

Praat itself takes quoted strings, free-standing numbers and ``<flags>`` in their order and passes over all
other words, so that the long format is the short one with explanations between the values (Praat manual,
"TextGrid file formats").
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    "((?:[^"]|"")*)"  # a string; a doubled quotation mark stands for one
    | (<[^>\s]*>)
    | (?:^|(?<=\s)) (-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?) (?=\s|$)
    | ![^\n]*  # a comment
    | \S
    """,
    re.VERBOSE,
)
_INTERVALS, _POINTS = "IntervalTier", "TextTier"
_BINARY = b"ooBinaryFile"


class Interval(NamedTuple):
    """One interval of a tier; times in seconds, and the line where it starts."""

    onset: Decimal
    offset: Decimal
    label: str
    line: int


class TextGridError(ValueError):
    """Line (0: the file's end), expectation and value where a file cannot be understood any more."""

    def __init__(self, line: int, expected: str, got: str) -> None:
        super().__init__(line, expected, got)
        self.line, self.expected, self.got = line, expected, got


class _Tokens:
    """The values of a TextGrid, each with its line."""

    def __init__(self, text: str) -> None:
        self._values = self._split(text)

    @staticmethod
    def _split(text: str) -> Iterator[tuple[str | Decimal, int]]:
        line, position = 1, 0
        for match in _TOKEN.finditer(text):
            line += text.count("\n", position, match.start())
            position = match.start()
            string, flag, number = match.groups()
            if string is not None:
                yield string.replace('""', '"'), line
            elif number is not None:
                yield Decimal(number), line
            elif flag is not None:
                yield flag, line

    def next(self, expected: str) -> tuple[str | Decimal, int]:
        """Return the next value and its line."""
        value = next(self._values, None)
        if value is None:
            raise TextGridError(0, expected, "the file's end")
        return value

    def end(self, expected: str) -> None:
        """See that there are no more values."""
        rest = next(self._values, None)
        if rest is not None:
            raise TextGridError(rest[1], expected, str(rest[0]))

    def string(self, expected: str) -> tuple[str, int]:
        """Return the next value, which must be a string."""
        value, line = self.next(expected)
        if not isinstance(value, str):
            raise TextGridError(line, expected, str(value))
        return value, line

    def number(self, expected: str) -> tuple[Decimal, int]:
        """Return the next value, which must be a number."""
        value, line = self.next(expected)
        if not isinstance(value, Decimal):
            raise TextGridError(line, expected, value)
        return value, line

    def count(self, expected: str) -> int:
        """Return the next value, which must be a number of things."""
        value, line = self.number(expected)
        if value < 0 or value != value.to_integral_value():
            raise TextGridError(line, expected, str(value))
        return int(value)


def read_tiers(path: Path) -> list[tuple[str, tuple[Interval, ...]]]:
    """Read the names and intervals of the tiers of intervals; tiers of points are passed over.

    Args:
        path: UTF-8, or UTF-16 with its mark, as Praat writes it.

    Raises:
        TextGridError: At the first thing that is out of its place, or Praat's binary format.
        UnicodeError: No text.
    """
    return list(_read_tiers(_Tokens(_decode(path.read_bytes()))))


def _decode(content: bytes) -> str:
    if content.startswith(_BINARY):
        raise TextGridError(1, "file must be text", _BINARY.decode())
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def _read_tiers(tokens: _Tokens) -> Iterator[tuple[str, tuple[Interval, ...]]]:
    for name in ("ooTextFile", "TextGrid"):
        expected = f'file must begin with "ooTextFile" and "TextGrid", lacks "{name}"'
        value, line = tokens.string(expected)
        # Old Praat: "ooTextFile short"
        if value.split()[:1] != [name]:
            raise TextGridError(line, expected, value)
    tokens.number("start of the TextGrid must be a number")
    tokens.number("end of the TextGrid must be a number")
    flag, line = tokens.string("there must be a flag <exists>")
    if flag != "<exists>":
        raise TextGridError(line, "there must be a flag <exists>", flag)
    for _ in range(tokens.count("number of tiers must be an integer")):
        kind, line = tokens.string("class of a tier must be a string")
        if kind not in (_INTERVALS, _POINTS):
            raise TextGridError(line, f"class of a tier must be {_INTERVALS} or {_POINTS}", kind)
        name, _ = tokens.string("name of a tier must be a string")
        tokens.number("start of a tier must be a number")
        tokens.number("end of a tier must be a number")
        n_entries = tokens.count("number of a tier's entries must be an integer")
        if kind == _INTERVALS:
            yield name, tuple(_read_interval(tokens) for _ in range(n_entries))
        else:
            for _ in range(n_entries):
                tokens.number("time of a point must be a number")
                tokens.string("mark of a point must be a string")
    tokens.end("there must be no more entries than their number says")


def _read_interval(tokens: _Tokens) -> Interval:
    onset, line = tokens.number("start of an interval must be a number")
    offset, _ = tokens.number("end of an interval must be a number")
    label, _ = tokens.string("label of an interval must be a string")
    return Interval(onset, offset, label.strip(), line)
