"""Simulate data loading at size: do workers keep up with an update of 50 ms?

    python benchmarks/loading_simulation.py                 # a minute

What is *measured*: the CPU time that the task's own data set and collater take per batch of 64 pairs
(SpokenCOCO-like lengths, region features, masks), in one process, for FLAC and for WAV. What is *simulated*:
N workers with a core each, which take batches in turn as torch's loader does and stay two batches ahead each,
and a training loop that takes a batch every --update-ms. Their CPU time is drawn from the measured batches.
What is not covered: a disk or network that is slower than the page cache, and copies to the GPU.
With --real, torch's DataLoader reads the same data set with two workers, a sleep in place of the update and
20 % to spare, next to the simulation of just that: it needs two idle cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from fairseq.tasks import setup_task

if __package__:
    from benchmarks.train_step import Plan, caption_samples, configure, write_tables
else:
    from train_step import Plan, caption_samples, configure, write_tables

from fairseq_vgs.media.rates import SAMPLE_RATE

F64 = npt.NDArray[np.float64]

BATCH_SIZE = 64
AHEAD = 2  # batches that each worker loads ahead: torch's prefetch_factor
GOAL = 0.02  # most waiting


def waiting_share(
    costs: Sequence[float] | F64, n_workers: int, update_seconds: float, n_updates: int
) -> float:
    """Return the share of time that updates wait for data, the first batches aside.

    ``costs`` are the seconds that a worker takes for a batch, repeated as often as needed. Batch k is loaded
    by worker k mod N, which begins when its last batch is loaded and batch k - N * AHEAD was taken.
    """
    n_begun = n_workers * AHEAD
    free, taken = np.zeros(n_workers), np.zeros(n_updates + n_begun)
    now = waited = first = 0.0
    ready = np.zeros(n_updates + n_begun)
    for batch in range(n_updates + n_begun):
        worker = batch % n_workers
        begin = max(free[worker], taken[batch - n_begun] if batch >= n_begun else 0.0)
        ready[batch] = free[worker] = begin + costs[batch % len(costs)]
        # A batch is taken after the one before was computed; those that begin the run are not counted.
        wait = max(0.0, ready[batch] - now)
        now += wait
        taken[batch] = now
        now += update_seconds
        if batch >= n_begun:
            waited += wait
        else:
            first = now
    return waited / (now - first)


def open_dataset(folder: Path, n_pairs: int, kind: str) -> Any:
    """Write recordings and tables, and open them as training does."""
    samples = caption_samples(n_pairs, seed=1)
    write_tables(folder, samples, seed=1)
    draws = np.random.default_rng(1)
    for number, n_samples in enumerate(samples.tolist()):
        # Smoothed, as unfiltered noise compresses worse than speech does.
        noise = np.convolve(draws.standard_normal(n_samples), np.ones(8) / 8, mode="same")
        soundfile.write(folder / f"{number}.wav", 0.1 * noise, SAMPLE_RATE, format=kind, subtype="PCM_16")
    task = setup_task(configure(Plan(str(folder), [], "base", "cpu", 1, 0), "ours").task)
    task.load_dataset("train")
    return task.dataset("train")


def batch_costs(dataset: Any, *, rounds: int) -> F64:
    """Return the CPU seconds of loading and collating each batch, f64[rounds * batches]."""
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=BATCH_SIZE)
    costs = []
    for round_number in range(rounds + 1):  # the first one fills the page cache
        for batch in batches:
            start = time.process_time()
            dataset.collater([dataset[int(index)] for index in batch])
            if round_number and len(batch) == BATCH_SIZE:
                costs.append(time.process_time() - start)
    return np.random.default_rng(1).permutation(costs)


def real_waiting_share(dataset: Any, *, n_workers: int, update_seconds: float) -> float:
    """Return what torch's loader lets a sleep of some seconds wait, the first batches aside."""
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=BATCH_SIZE)
    order = np.random.default_rng(1).integers(0, len(batches), 60).tolist()
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=[batches[number].tolist() for number in order],
        num_workers=n_workers,
        collate_fn=dataset.collater,
        multiprocessing_context="fork",
    )
    iterator, waited, start = iter(loader), 0.0, 0.0
    for number in range(len(order)):
        if number == n_workers * AHEAD:
            waited, start = 0.0, time.perf_counter()
        before = time.perf_counter()
        next(iterator)
        waited += time.perf_counter() - before
        time.sleep(update_seconds)
    return waited / (time.perf_counter() - start)


def simulate(costs: F64, *, update_ms: float) -> dict[str, Any]:
    """Return captions per second of a worker, and the waiting share for some numbers of workers."""
    update = update_ms / 1000
    workers = sorted({1, 2, 4, 8, 16, *(int(np.ceil(costs.mean() / update)) + 1,)})
    shares = {n: waiting_share(costs, n, update, 5000) for n in workers}
    enough = next(n for n in range(1, 129) if waiting_share(costs, n, update, 5000) < GOAL)
    return {
        "cpu_ms_per_batch": round(1000 * float(costs.mean()), 1),
        "cpu_ms_per_caption": round(1000 * float(costs.mean()) / BATCH_SIZE, 2),
        "captions_per_second_and_worker": round(BATCH_SIZE / float(costs.mean())),
        "waiting_share_by_workers": {str(n): round(share, 4) for n, share in shares.items()},
        f"workers_for_less_than_{GOAL:.0%}": enough,
    }


def main() -> None:
    """Measure, simulate, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--update-ms", type=float, default=50.0, help="of the stand-in for an update")
    parser.add_argument("--real", action="store_true", help="also read with torch's DataLoader")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for kind in ("FLAC", "WAV"):
        with tempfile.TemporaryDirectory() as name:
            dataset = open_dataset(Path(name) / "data", args.pairs, kind)
            costs = batch_costs(dataset, rounds=args.rounds)
            found[kind] = simulate(costs, update_ms=args.update_ms)
            if args.real:
                # one core each for two workers: an update as long as theirs, with 20 % to spare
                update = 0.6 * float(costs.mean())
                found[kind]["real"] = {
                    "update_ms": round(1000 * update, 1),
                    "loader": round(real_waiting_share(dataset, n_workers=2, update_seconds=update), 4),
                    "simulation": round(waiting_share(costs, 2, update, 60), 4),
                }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
