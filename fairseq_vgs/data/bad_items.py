"""Items that cannot be used: their error, and which ones ``task.skip_bad`` has skipped."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch

from fairseq_vgs.files.faults import Fault, FaultError

logger = logging.getLogger(__name__)


class BadItemError(FaultError):
    """An utterance or a picture cannot be used; with ``task.skip_bad`` it is skipped and counted instead.

    Args:
        faults: What is wrong. A string is accepted too, because torch rebuilds the exceptions of its data
            workers from the text of their traceback: the last line of that text becomes the fault again.
    """

    def __init__(self, faults: Fault | Iterable[Fault] | str) -> None:
        if isinstance(faults, str):
            line = faults.rstrip().rpartition("BadItemError: ")[2]
            place, _, message = line.partition(": ")
            faults = Fault(place, message, "item.unusable")
        super().__init__(faults)


def bad_item(error: FaultError) -> BadItemError:
    """Return the error of a medium as one that ``task.skip_bad`` skips, which it also says."""
    step = "or skip it with task.skip_bad=true"
    return BadItemError(Fault(item.place, f"{item.message}, {step}", item.code) for item in error.faults)


def log_skipped(faults: Iterable[Fault]) -> None:
    """Log what ``task.skip_bad`` skips, one line per fault."""
    for item in faults:
        logger.warning("skipped: %s", item)


class BadItems:
    """Which items of a data set could not be used so far, known to the main process and its data workers.

    Args:
        n_items: Number of items.
        noun: What they are, for the log.
    """

    def __init__(self, n_items: int, *, noun: str) -> None:
        self.noun = noun
        self._is_bad = torch.zeros(n_items, dtype=torch.bool).share_memory_()

    def record(self, index: int, error: BadItemError) -> None:
        """Note a bad item; the first time it is logged with its place."""
        if not self._is_bad[index]:
            self._is_bad[index] = True
            logger.warning("skipped %s: %s", self.noun, error)

    def total(self) -> int:
        """Return how many different items were bad so far, in all workers."""
        return int(self._is_bad.sum())
