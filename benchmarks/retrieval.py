"""Measure ranking for retrieval, ours or the usual way: the full matrix, sorted both ways.

    python benchmarks/retrieval.py
    python benchmarks/retrieval.py --captions 5000 --images 1000 --repeats 5

25,000 captions of 5,000 images, five each, and 768 dims, drawn: a recall in between nothing and everything.
One arm per process, so that peaks of memory do not add up; arms take turns, so that a busy machine is busy
for both. CPU time counts all threads (set their number with OMP_NUM_THREADS).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import numpy.typing as npt
import torch

from fairseq_vgs.metrics.retrieval import retrieval_ranks

ARMS = ("fairseq_vgs", "sorted")
NOISE = 12.0  # of captions and images around their scene

FloatArray = npt.NDArray[np.float32]
Ranks = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def draw(n_captions: int, n_images: int, n_dims: int) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Return f[captions, dims], f[images, dims] and the image of each caption."""
    generator = np.random.default_rng(0)
    scenes = generator.standard_normal((n_images, n_dims), dtype=np.float32)
    of_image = np.arange(n_captions) % n_images
    speech, images = (
        generator.standard_normal((number, n_dims), dtype=np.float32) for number in (n_captions, n_images)
    )
    # In place: what drawing needs would hide what ranking needs.
    for features in (speech, images):
        features *= NOISE**0.5
        for start in range(0, len(features), n_images):
            part = features[start : start + n_images]
            part += scenes[: len(part)]
    return speech, images, of_image


def ranks_of(speech: FloatArray, images: FloatArray, of_image: npt.NDArray[np.int64]) -> Ranks:
    """Rank with the package: speech to image, image to speech."""
    found = retrieval_ranks(speech, images, speech_groups=of_image, image_groups=np.arange(len(images)))
    return found.speech_to_image, found.image_to_speech


def sorted_ranks(speech: FloatArray, images: FloatArray, of_image: npt.NDArray[np.int64]) -> Ranks:
    """Rank by sorting the matrix of all scores along both axes; ties as they come."""
    scores = torch.from_numpy(speech) @ torch.from_numpy(images).T
    correct = torch.from_numpy(of_image)
    by_caption = scores.argsort(dim=1, descending=True) == correct[:, None]
    by_image = correct[scores.T.argsort(dim=1, descending=True)] == torch.arange(len(images))[:, None]
    # argmax: the first that is correct
    to_image, to_speech = (
        1.0 + found.int().argmax(dim=1).double().numpy() for found in (by_caption, by_image)
    )
    return to_image, to_speech


def measure(arm: str, sizes: tuple[int, int, int]) -> dict[str, object]:
    """Rank once."""
    drawn = draw(*sizes)
    before, cpu, wall = peak_mb(), time.process_time(), time.perf_counter()
    found = (ranks_of if arm == "fairseq_vgs" else sorted_ranks)(*drawn)
    return {
        "arm": arm,
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "extra_mb": peak_mb() - before,
        "threads": torch.get_num_threads(),
        "sum_of_ranks": [float(ranks.sum()) for ranks in found],
        "recall_at_10": [float((ranks <= 10).mean()) for ranks in found],
    }


def peak_mb() -> int:
    """Return the most memory the process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


def main() -> None:
    """Measure both arms in turns and print their medians, or one arm once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=int, default=25_000)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arm", choices=ARMS, help="measure this one, once, in this process")
    args = parser.parse_args()
    if args.arm:
        print(json.dumps(measure(args.arm, (args.captions, args.images, args.dims))))
        return
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for _ in range(args.repeats):
        for arm in ARMS:
            sizes = (f"--captions={args.captions}", f"--images={args.images}", f"--dims={args.dims}")
            command = [sys.executable, __file__, "--arm", arm, *sizes]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(line, end="", flush=True)
            found[arm].append(json.loads(line))
    for key in ("cpu_seconds", "wall_seconds", "extra_mb"):
        ours, theirs = (statistics.median(run[key] for run in found[arm]) for arm in ARMS)
        print(f"{key}: {ours:g} and, sorted, {theirs:g}: {theirs / ours:.1f} times")


if __name__ == "__main__":
    main()
