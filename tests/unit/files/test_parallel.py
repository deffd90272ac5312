from __future__ import annotations

import threading
import time

import pytest

from fairseq_vgs.files.parallel import AHEAD_PER_JOB, map_in_order


@pytest.mark.parametrize("jobs", [1, 4])
def test_results_come_in_order_with_progress(jobs: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.01 * (5 - item))
        return item * item

    seen = []
    results = list(map_in_order(work, range(5), jobs=jobs, progress=lambda *counts: seen.append(counts)))
    assert results == [0, 1, 4, 9, 16]
    assert seen == [(done, 5) for done in range(1, 6)]


def test_nothing_is_begun_after_an_error() -> None:
    begun = []
    gate = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise ValueError("first")
        gate.wait(0.2)
        return item

    with pytest.raises(ValueError, match="first"):
        list(map_in_order(work, range(50), jobs=1))
    assert len(begun) < 5


def test_interruption_while_work_is_handed_out_drops_what_waits() -> None:
    begun = []

    class Interrupted(list):
        def __iter__(self):
            yield from range(10)
            raise KeyboardInterrupt

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        list(map_in_order(work, Interrupted(), jobs=1))
    assert len(begun) < 5


def test_work_does_not_run_far_ahead_of_its_use() -> None:
    begun = []
    results = map_in_order(begun.append, range(1000), jobs=2)
    next(results)
    time.sleep(0.1)
    assert len(begun) <= 2 * AHEAD_PER_JOB + 1
    assert len(list(results)) == 999
    assert len(begun) == 1000


@pytest.mark.parametrize("n_items", [1, 3, 511, 512, 1001])
def test_many_results_come_in_order_once(n_items: int) -> None:
    """Many are handed over in chunks, of which the last may be short."""
    seen = []
    results = map_in_order(lambda item: -item, range(n_items), jobs=3, progress=lambda *c: seen.append(c))
    assert list(results) == [-item for item in range(n_items)]
    assert seen == [(done, n_items) for done in range(1, n_items + 1)]


@pytest.mark.parametrize("bad", [0, 5, 999])
def test_results_before_an_error_come_first(bad: int) -> None:
    def work(item: int) -> int:
        if item == bad:
            raise ValueError(item)
        return item

    results = map_in_order(work, range(1000), jobs=2)
    assert [next(results) for _ in range(bad)] == list(range(bad))
    with pytest.raises(ValueError, match=str(bad)):
        next(results)
