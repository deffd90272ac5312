"""Read ZeroSpeech item files, and find the frames of their tokens.

``#file onset offset #phone prev-phone next-phone speaker``, separated by blanks, times in seconds. Frame i of
a representation with f frames per second has its middle at (i + 1/2) / f seconds; arithmetic is exact, since
a rounding error moves a token by a frame.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.texts import read_text

COLUMNS = ("#file", "onset", "offset", "#phone", "prev-phone", "next-phone", "speaker")

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?([eE]-?[0-9]{1,2})?")
_NEXT_STEP = "correct the line, or make the item file again"
_HALF = Decimal("0.5")


class AbxError(FaultError):
    """Features and items do not fit each other, or nothing can be compared."""


@dataclass(frozen=True, slots=True)
class AbxItem:
    """One token of a phone in a recording; times in seconds, exact as written."""

    file: str
    onset: Decimal
    offset: Decimal
    phone: str
    previous_phone: str
    next_phone: str
    speaker: str


def read_items(path: Path) -> tuple[AbxItem, ...]:
    """Read an item file.

    A token of no duration is accepted; it is excluded and counted when features are cut.

    Raises:
        FaultError: every faulty line: missing fields, faulty times, offset before onset, duplicates.
    """
    lines = read_text(path, "check the path of the item file").splitlines()
    header = lines[0].split() if lines else []
    if sorted(header) != sorted(COLUMNS):
        expected, got = f"header must be '{' '.join(COLUMNS)}'", lines[0] if lines else ""
        step = "give a ZeroSpeech item file"
        raise FaultError(fault(f"{path.name}:1", expected, got, step, code="table.column"))
    order = [header.index(name) for name in COLUMNS]
    seen: dict[AbxItem, int] = {}
    faults: list[Fault] = []
    for number, line in enumerate(lines[1:], start=2):
        found = _parsed(line, f"{path.name}:{number}", order)
        if isinstance(found, Fault):
            faults.append(found)
        # x = a is excluded by position: a copy would be compared with itself, at distance 0.
        elif seen.setdefault(found, number) != number:
            expected, step = f"token must appear only once (first in line {seen[found]})", "remove one"
            faults.append(fault(f"{path.name}:{number}", expected, line, step, code="item.duplicate"))
    if not faults and not seen:
        faults = [Fault(path.name, f"item file must hold tokens, has none; {_NEXT_STEP}", "table.empty")]
    raise_any(faults)
    return tuple(seen)


def _parsed(line: str, place: str, order: Sequence[int]) -> AbxItem | Fault:
    fields = line.split()
    if len(fields) != len(COLUMNS):
        return fault(place, f"line must have {len(COLUMNS)} fields", line, _NEXT_STEP, code="table.line")
    file, onset, offset, *rest = (fields[index] for index in order)
    times = f"{onset} {offset}"
    if not (_SECONDS.fullmatch(onset) and _SECONDS.fullmatch(offset)):
        return fault(
            place, "onset and offset must be seconds, 0 or more", times, _NEXT_STEP, code="item.time"
        )
    item = AbxItem(file, Decimal(onset), Decimal(offset), *rest)
    if item.offset < item.onset:
        return fault(place, "offset must not be before onset", times, _NEXT_STEP, code="item.time")
    return item


def frame_span(
    onset: Decimal, offset: Decimal, *, frame_rate: Decimal, librilight_slicing: bool = False
) -> tuple[int, int]:
    """Return the first frame of a token and how many have onset <= middle <= offset (0 or fewer: none).

    Times are seconds. Libri-Light's and ZeroSpeech 2021's evaluation leaves out the last frame.
    """
    first = int((onset * frame_rate - _HALF).to_integral_value(ROUND_CEILING))
    last = int((offset * frame_rate - _HALF).to_integral_value(ROUND_FLOOR))
    return max(first, 0), last - max(first, 0) + (0 if librilight_slicing else 1)


def exact_rate(frame_rate: float) -> Decimal:
    """Return the frame rate as it is written, e.g. 50.0 or 49.95.

    Raises:
        ValueError: not a positive number.
    """
    if not 0 < frame_rate < float("inf"):
        raise ValueError(f"frame_rate must be a positive number of frames per second, got {frame_rate!r}")
    return Decimal(repr(float(frame_rate)))
