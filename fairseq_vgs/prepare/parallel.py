"""Runs independent pieces of work on threads, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]


def map_in_order(
    work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int, progress: Progress | None = None
) -> Iterator[Result]:
    """Yields ``work(item)`` of every item, in their order whatever the number of jobs.

    Threads rather than processes: decoding, resampling and encoding leave Python's lock, and a thread starts
    at once. After an error or an interruption no further item is begun.

    Args:
        work: called once per item; must not depend on the other calls.
        items: what to work on.
        jobs: number of threads.
        progress: called with (items done, items in all).
    """
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            # Inside, since handing out the work takes a while in which the user may interrupt, too.
            for done, result in enumerate(pool.map(work, items), start=1):
                if progress is not None:
                    progress(done, len(items))
                yield result
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
