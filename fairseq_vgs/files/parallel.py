"""Run independent pieces of work on threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]

# Pieces of work begun or finished but not yet asked for, per thread: enough that no thread waits for a slow
# neighbour, and few enough that a million pieces, or results of some megabytes, need no memory.
AHEAD_PER_JOB = 16


def map_in_order(
    work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int, progress: Progress | None = None
) -> Iterator[Result]:
    """Yield ``work(item)`` of every item, in their order whatever the number of jobs.

    Threads rather than processes: decoding, resampling and encoding leave Python's lock, and a thread starts
    at once. After an error or an interruption no further item is begun.

    Args:
        work: Called once per item; must not depend on the other calls.
        items: What to work on; at most ``AHEAD_PER_JOB * jobs`` of them are ahead of what was yielded.
        jobs: Number of threads.
        progress: Called with (items done, items in all).
    """
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            # Inside, since handing out the work takes a while in which the user may interrupt, too.
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
