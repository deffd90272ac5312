"""Run independent tasks on threads and yield their results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]

# Tasks submitted but not yet consumed, per thread: enough that no thread waits for a slow neighbour, few
# enough that a million tasks or results of some megabytes need little memory.
AHEAD_PER_JOB = 16


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_order(
    work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int, progress: Progress | None = None
) -> Iterator[Result]:
    """Yield ``work(item)`` for every item, in order, whatever the number of jobs.

    Uses threads: decoding, resampling and encoding release Python's lock, and threads start at once. At most
    ``AHEAD_PER_JOB * jobs`` items are processed ahead of the consumer. After an error or an interruption no
    further item is started. ``progress`` is called with (items done, total).
    """
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            # Inside the try, since the user may interrupt while tasks are being submitted, too.
            for done, result in enumerate(_results(pool, work, items, ahead=AHEAD_PER_JOB * jobs), start=1):
                if progress is not None:
                    progress(done, len(items))
                yield result
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _results(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Sequence[Item], *, ahead: int
) -> Iterator[Result]:
    begun: deque[Future[Result]] = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) >= ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
