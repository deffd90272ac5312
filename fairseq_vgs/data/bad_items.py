"""Unusable items: their error, and a record of those that ``task.skip_bad`` skipped."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch

from fairseq_vgs.files.faults import Fault, FaultError

logger = logging.getLogger(__name__)


class BadItemError(FaultError):
    """An utterance or a picture cannot be used; with ``task.skip_bad`` it is skipped and counted instead.

    Args:
        faults: the faults, or a string, because torch rebuilds exceptions of data workers from the text of
            their traceback: its last line becomes the fault.
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


def log_skipped(faults: Iterable[Fault]) -> None:
    """Log skipped items, one line per fault."""
    for item in faults:
        logger.warning("skipped: %s", item)


class BadItems:
    """A record of bad items that the main process shares with its data workers.

    Args:
        n_items: number of items.
        noun: what an item is, for the log.
    """

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
