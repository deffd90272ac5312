"""Unusable items: their error, and a record of those that ``task.skip_bad`` skipped."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from fairseq_vgs.files.faults import Fault, FaultError, raise_any
from fairseq_vgs.files.tables import Table, line_number

logger = logging.getLogger(__name__)


class BadItemError(FaultError):
    """An utterance or a picture cannot be used; with ``task.skip_bad`` it is skipped and counted instead.

    Torch rebuilds exceptions of data workers from the text of their traceback: its last line is the fault.
    """

    def __init__(self, faults: Fault | Iterable[Fault] | str) -> None:
        if isinstance(faults, str):
            line = faults.rstrip().rpartition("BadItemError: ")[2]
            place, _, message = line.partition(": ")
            faults = Fault(place, message, "item.unusable")
        super().__init__(faults)


def bad_item(error: FaultError) -> BadItemError:
    """Convert the error of a medium to one that ``task.skip_bad`` skips, and say so in the message."""
    step = "or skip it with task.skip_bad=true"
    return BadItemError(Fault(item.place, f"{item.message}, {step}", item.code) for item in error.faults)


def raise_or_log(faults: Sequence[Fault], *, skip_bad: bool) -> None:
    """Raise ``FaultError`` with all faults, if there are any; with ``skip_bad``, log each instead."""
    if not skip_bad:
        raise_any(faults)
    for item in faults:
        logger.warning("skipped: %s", item)


def refuse_spoilt(table: Table[Any], first_line: int, *, skip_bad: bool) -> None:
    """Raise a table's faults if they concern more than rows, which begin at ``first_line``."""
    spoilt = not table.usable or not table.rows or any(line_number(f) < first_line for f in table.faults)
    if spoilt or not skip_bad:
        raise_any(table.faults)


class BadItems:
    """A record of bad items that the main process shares with its data workers; ``noun`` is for the log."""

    def __init__(self, n_items: int, *, noun: str) -> None:
        self.noun = noun
        self._is_bad = torch.zeros(n_items, dtype=torch.bool).share_memory_()

    def record(self, index: int, error: BadItemError) -> None:
        """Record a bad item, and log it the first time."""
        if not self._is_bad[index]:
            self._is_bad[index] = True
            logger.warning("skipped %s: %s", self.noun, error)

    def total(self) -> int:
        """Return the number of distinct bad items so far, in all workers."""
        return int(self._is_bad.sum())
