"""Keeping account of the items that ``task.skip_bad`` skips."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch

from fairseq_vgs.data.errors import BadItemError
from fairseq_vgs.files.faults import Fault

logger = logging.getLogger(__name__)


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
