"""Faults in the user's input, one line each, and the errors that carry them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

# Long enough for any sensible id, short enough to keep a binary blob in a table readable.
MAX_SHOWN = 160


@dataclass(frozen=True)
class Fault:
    """One fault and its place.

    Attributes:
        place: file and line (``train.pairs.tsv:17``), or anything else the user can find.
        message: expectation, value found and next step.
        code: stable name of the kind of fault (``sound.sample_rate``), which programs rely on.
    """

    place: str
    message: str
    code: str = ""

    def __str__(self) -> str:
        """Return ``place: message`` on one line, with unprintable characters escaped."""
        return _one_line(f"{self.place}: {self.message}")


class FaultError(ValueError):
    """Base class of input errors; carries every fault found, not only the first."""

    faults: tuple[Fault, ...]

    def __init__(self, faults: Fault | Iterable[Fault]) -> None:
        self.faults = (faults,) if isinstance(faults, Fault) else tuple(faults)
        if not all(isinstance(item, Fault) for item in self.faults):
            raise TypeError("FaultError takes Fault objects; build them with fairseq_vgs.files.faults.fault")
        # Keep the faults, not their text, as the exception's argument, so that it can be pickled.
        super().__init__(self.faults)

    @classmethod
    def at(cls, place: object, message: str, code: str) -> Self:
        """Build the error of one fault whose message is complete."""
        return cls(Fault(str(place), message, code))

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the faults, in order."""
        return tuple(item.code for item in self.faults)

    def __str__(self) -> str:
        """Return one line per fault."""
        return "\n".join(str(item) for item in self.faults)


def raise_any(faults: Iterable[Fault]) -> None:
    """Raise ``FaultError`` with all faults, if there are any, those of one file by line.

    Raises:
        FaultError: There is at least one.
    """
    if found := list(faults):
        raise FaultError(_by_line(found))


def _by_line(faults: Iterable[Fault]) -> list[Fault]:
    """Order the faults of every file by line; files keep the order of their first faults."""
    files: dict[str, int] = {}

    def key(item: Fault) -> tuple[int, int]:
        file, _, line = item.place.rpartition(":")
        is_line = line.isdecimal()
        return files.setdefault(file if is_line else item.place, len(files)), int(line) if is_line else 0

    return sorted(faults, key=key)


def fault(place: str, expected: str, got: object, next_step: str, *, code: str = "") -> Fault:
    """Build a fault of the form ``place: expectation, got value; next step``.

    The expectation is a clause such as ``n_samples must be a positive integer``; the value is ``shown``.
    """
    return Fault(place, f"{expected}, got {shown(got)}; {next_step}", code)


def shown(value: object) -> str:
    """Return the ``repr`` of a value, shortened in the middle to ``MAX_SHOWN`` characters."""
    text = repr(value)
    if len(text) <= MAX_SHOWN:
        return text
    half = MAX_SHOWN // 2
    return f"{text[:half]} ... {text[-half:]}"


def _one_line(text: str) -> str:
    escaped = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return text if text.isprintable() else "".join(escaped)
