"""Letting an epoch's data workers stop as soon as the epoch is over.

fairseq keeps data workers waiting for another epoch, and its batch iterators end up in cycles of references.
Every epoch of ours has an iterator of its own, so old ones pile up until the garbage collector finds them;
workers that are stopped by it take 5 s each time. Dropped in order, they stop at once: these functions undo
the cycles.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

from omegaconf import DictConfig, open_dict


def without_cycle(iterator: Any) -> Any:
    """Return the batch iterator, changed such that its sampler does not hold it."""
    iterator.ordered_batches = functools.partial(type(iterator).ordered_batches, weakref.proxy(iterator))
    return iterator


def answer_dataloader_question(cfg: Any) -> None:
    """Add the entry that fairseq asks the task's configuration for: is a data loader kept between epochs?

    Where it is missing, omegaconf raises an exception that holds the frame in which the batch iterator is
    made.
    """
    if isinstance(cfg, DictConfig):
        with open_dict(cfg):
            cfg["reuse_dataloader"] = False
