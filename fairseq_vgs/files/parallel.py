"""Run independent tasks on threads and yield their results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
_Done = tuple[list[Result], Exception | None]

# Tasks submitted but not yet consumed, per thread: enough that no thread waits for a slow neighbour, few
# enough that a million tasks or results of some megabytes need little memory.
AHEAD_PER_JOB = 16
# Handing over a task costs about 50 us, as much as a small one takes: many are handed over in chunks.
_CHUNK, _MANY = 4, 512


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
    size = _CHUNK if len(items) >= _MANY else 1
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            # Inside the try, since the user may interrupt while tasks are being submitted, too.
            results = _results(pool, work, items, size=size, ahead=AHEAD_PER_JOB * jobs // size)
            for done, result in enumerate(results, start=1):
                if progress is not None:
                    progress(done, len(items))
                yield result
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _results(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], *, size: int, ahead: int
) -> Iterator[Result]:
    begun: deque[Future[_Done[Result]]] = deque()
    remaining = iter(items)
    while chunk := tuple(islice(remaining, size)):
        begun.append(pool.submit(_work_off, work, chunk))
        if len(begun) >= ahead:
            yield from _outcome(begun.popleft())
    while begun:
        yield from _outcome(begun.popleft())


def _work_off(work: Callable[[Item], Result], chunk: Iterable[Item]) -> _Done[Result]:
    """Return the results of a chunk up to an error, and the error."""
    results: list[Result] = []
    try:
        results.extend(map(work, chunk))
    except Exception as error:  # noqa: BLE001 - raised where the result is taken
        return results, error
    return results, None


def _outcome(future: Future[_Done[Result]]) -> Iterator[Result]:
    results, error = future.result()
    yield from results
    if error is not None:
        raise error
