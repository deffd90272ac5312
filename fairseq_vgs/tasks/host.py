"""The training process: precision of a GPU, freed memory, spinning threads, data workers that stop."""

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
    """Make glibc reuse freed blocks of any size in this process, instead of returning them to the system.

    glibc returns every block above 32 MiB when it is freed, and the system clears the pages of the next one:
    an update of the tiny model (32 captions of 3 s, one thread) spends a quarter of its time there. Neither
    results nor peak memory change. False where the C library is not glibc.
    """
    mallopt = _glibc("mallopt")
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def return_freed_memory() -> None:
    """Return what glibc keeps of freed memory to the system: once, before data workers are forked.

    A worker shares the pages of the training process, which then writes to its own: what was kept for reuse
    would be held twice, 6 GB of it in the quickstart.
    """
    if trim := _glibc("malloc_trim"):
        trim(0)


def use_tf32(*, enabled: bool) -> None:
    """Let NVIDIA's matrix products and convolutions of f32 use TF32 units, or not.

    torch alone would use them in convolutions, and not in matrix products. Under bf16 autocast hardly
    anything of a model's arithmetic is f32.
    """
    torch.backends.cuda.matmul.allow_tf32 = enabled
    torch.backends.cudnn.allow_tf32 = enabled


def _glibc(function: str) -> Any:
    return getattr(ctypes.CDLL(None), function) if platform.libc_ver()[0] == "glibc" else None


def warn_of_spinning_threads(*, environment: Mapping[str, str] = os.environ) -> bool:
    """Log how to let waiting threads sleep, if they spin, cores are scarce, and there is no GPU.

    A spinning thread may occupy the core that the thread it waits for needs: next to one other process on two
    cores, 20 updates of the quickstart took 214 s, and 39 s with threads that sleep. OpenMP reads its setting
    when torch is loaded, so a running process cannot change it. True if the warning was logged.
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
    """Change a batch iterator so that its sampler does not reference it, and return it.

    fairseq's data workers wait for another epoch, and its batch iterators form reference cycles. Each of our
    epochs has a new iterator, so old ones pile up until the garbage collector finds them, which takes 5 s per
    stop of the workers. Without the cycle they stop at once.
    """
    iterator.ordered_batches = functools.partial(type(iterator).ordered_batches, weakref.proxy(iterator))
    return iterator


def answer_dataloader_question(cfg: Any) -> None:
    """Add ``reuse_dataloader``, which fairseq looks up in the task's configuration.

    Without it omegaconf raises an exception that keeps the frame of the batch iterator alive.
    """
    if isinstance(cfg, DictConfig):
        with open_dict(cfg):
            cfg["reuse_dataloader"] = False
