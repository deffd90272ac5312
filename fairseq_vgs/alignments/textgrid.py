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
from typing import NamedTuple

from fairseq_vgs.files.faults import Fault, FaultError, fault

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


class TextGridError(FaultError):
    """A file that cannot be understood from one of its lines on."""


class _Tokens:
    """The values of a TextGrid, each with its line."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
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

    def error(self, line: int, expected: str, got: object) -> TextGridError:
        """Return the error at a line; 0 is the file's end."""
        place = f"{self._name}:{line}" if line else self._name
        return TextGridError(fault(place, expected, str(got), _SAVE, code="alignment.syntax"))

    def next(self, expected: str) -> tuple[str | Decimal, int]:
        """Return the next value and its line."""
        value = next(self._values, None)
        if value is None:
            raise self.error(0, expected, "the file's end")
        return value

    def end(self, expected: str) -> None:
        """Raise if there are more values."""
        rest = next(self._values, None)
        if rest is not None:
            raise self.error(rest[1], expected, rest[0])

    def string(self, expected: str) -> tuple[str, int]:
        """Return the next value, which must be a string."""
        value, line = self.next(expected)
        if not isinstance(value, str):
            raise self.error(line, expected, value)
        return value, line

    def number(self, expected: str) -> tuple[Decimal, int]:
        """Return the next value, which must be a number."""
        value, line = self.next(expected)
        if not isinstance(value, Decimal):
            raise self.error(line, expected, value)
        return value, line

    def count(self, expected: str) -> int:
        """Return the next value, which must be a number of things."""
        value, line = self.number(expected)
        if value < 0 or value != value.to_integral_value():
            raise self.error(line, expected, value)
        return int(value)


def read_tiers(path: Path) -> list[tuple[str, tuple[Phone, ...]]]:
    """Read the names and intervals of the interval tiers; point tiers are skipped.

    Args:
        path: UTF-8, or UTF-16 with its byte-order mark, as Praat writes it.

    Raises:
        TextGridError: At the first value out of place; for Praat's binary format; for other encodings.
    """
    content = path.read_bytes()
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = "" if content.startswith(_BINARY) else content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeError as error:
        step = "choose UTF-8 in Praat's text writing preferences and save it again"
        message = f"file must be UTF-8 or UTF-16 ({error}); {step}"
        raise TextGridError(Fault(path.name, message, "file.encoding")) from error
    tokens = _Tokens(path.name, text.replace("\r\n", "\n").replace("\r", "\n"))
    if content.startswith(_BINARY):
        raise tokens.error(1, "file must be text", _BINARY.decode())
    return list(_read_tiers(tokens))


def _read_tiers(tokens: _Tokens) -> Iterator[tuple[str, tuple[Phone, ...]]]:
    for name in ("ooTextFile", "TextGrid"):
        expected = f'file must begin with "ooTextFile" and "TextGrid", lacks "{name}"'
        value, line = tokens.string(expected)
        # Old Praat: "ooTextFile short"
        if value.split()[:1] != [name]:
            raise tokens.error(line, expected, value)
    tokens.number("start of the TextGrid must be a number")
    tokens.number("end of the TextGrid must be a number")
    flag, line = tokens.string("there must be a flag <exists>")
    if flag != "<exists>":
        raise tokens.error(line, "there must be a flag <exists>", flag)
    for _ in range(tokens.count("number of tiers must be an integer")):
        kind, line = tokens.string("class of a tier must be a string")
        if kind not in (_INTERVALS, _POINTS):
            raise tokens.error(line, f"class of a tier must be {_INTERVALS} or {_POINTS}", kind)
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


def _read_interval(tokens: _Tokens) -> Phone:
    onset, line = tokens.number("start of an interval must be a number")
    offset, _ = tokens.number("end of an interval must be a number")
    label, _ = tokens.string("label of an interval must be a string")
    return Phone(onset, offset, label.strip(), line)
