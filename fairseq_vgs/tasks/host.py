"""The process that trains: memory that is kept, threads that wait, data workers that stop."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import platform
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig, open_dict

logger = logging.getLogger(__name__)

OPENMP_POLICY = "OMP_WAIT_POLICY"

_M_TRIM_THRESHOLD = -1  # glibc's malloc.h
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Make glibc reuse freed blocks of any size in this process from now on, instead of giving them back.

    glibc gives every block above 32 MiB back to the system when it is freed, and the system clears the pages
    of the next one: an update of the tiny model (32 captions of 3 s, one thread) then spends a quarter of its
    time there. Results do not change, nor does the peak; the process keeps what it once needed.

    Returns:
        Whether that was done; false where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))  # no mmap, no trimming


def warn_of_spinning_threads(*, environment: Mapping[str, str] = os.environ) -> bool:
    """Log how to let waiting threads sleep: if they spin, cores are too few for all, and there is no GPU.

    Where another process wants the cores, a thread that spins keeps the one from running for which it waits:
    beside one other process on two cores, 20 updates of the quickstart took 214 s; with threads that sleep,
    39 s. OpenMP reads its setting when torch is loaded, so that a running process cannot change it.

    Returns:
        Whether that was logged.
    """
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if threads == 1 or OPENMP_POLICY in environment or torch.cuda.is_available():
        return False
    if os.getloadavg()[0] + threads < cores + 0.5:
        return False
    logger.warning(
        "other processes use this machine's %d cores, on which waiting threads spin: training may take "
        "several times as long; set %s=PASSIVE in its environment, or OMP_NUM_THREADS=1",
        cores,
        OPENMP_POLICY,
    )
    return True


def without_cycle(iterator: Any) -> Any:
    """Return the batch iterator, changed such that its sampler does not hold it.

    fairseq keeps data workers waiting for another epoch, and its batch iterators end up in cycles of
    references. Every epoch of ours has an iterator of its own, so old ones pile up until the garbage
    collector finds them; workers that are stopped by it take 5 s each time. Dropped in order, they stop at
    once.
    """
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
