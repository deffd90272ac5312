"""What it takes to load a large split: seconds, memory of the process, and what data workers add to it.

    python benchmarks/manifest_loading.py [--pairs 1000000] [--images 200000]

The folder is generated (no media) and removed again. Memory is what Linux tells: the growth of the resident
set by loading, its highest value while loading, and the private memory of a forked worker that has looked
every pair up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CASES = ("speech", "texts", "line_by_line")
LAYERS = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2"
WORDS = ("a", "brown", "dog", "runs", "over", "wet", "grass", "behind", "two", "men", "with", "a", "ball")


def generate(folder: Path, n_pairs: int, n_images: int) -> None:
    """Write the tables of a split ``train``, with names and texts as long as SpokenCOCO's."""
    draws = np.random.default_rng(1)
    lengths = draws.integers(32_000, 128_000, n_pairs).tolist()
    image_of = draws.integers(0, n_images, n_pairs).tolist()
    names = [f"wavs/train/{i % 1000}/m{i * 7919 % 10**13:013d}_{i}.flac" for i in range(n_pairs)]
    with (folder / "train.tsv").open("w") as file:
        file.write("/corpora/spokencoco\n")
        file.writelines(f"{name}\t{length}\n" for name, length in zip(names, lengths, strict=True))
    with (folder / "train.pairs.tsv").open("w") as file:
        file.write("audio_id\timage_id\tspeaker\ttext\n")
        for number in draws.permutation(n_pairs).tolist():
            text = " ".join(WORDS[(number + k) % len(WORDS)] for k in range(11))
            file.write(f"{names[number]}\tCOCO_{image_of[number]:012d}\tm{number % 2000}\t{text}\n")
    with (folder / "images.tsv").open("w") as file:
        file.write("#root\t.\nimage_id\tpath\twidth\theight\tgroup\n")
        for number in range(n_images):
            file.write(f"COCO_{number:012d}\ttrain2014/COCO_train2014_{number:012d}.jpg\t640\t480\t\n")


def memory(field: str, file: str = "status") -> float:
    """Return a figure of this process, MB."""
    for line in Path(f"/proc/self/{file}").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def worker_memory(table: object) -> float:
    """Return the private memory of a forked worker that has looked up every pair, MB."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        for pair in range(len(table)):  # type: ignore[arg-type]
            table.audio.location(int(table.audio_row[pair]))  # type: ignore[attr-defined]
            table.image_location(int(table.image_row[pair]))  # type: ignore[attr-defined]
        private = memory("Private_Dirty", "smaps_rollup")
        os.write(write_end, str(private).encode())
        os._exit(0)
    os.close(write_end)
    os.wait()
    return float(os.read(read_end, 64).decode())


def none(*_: object, **__: object) -> None:
    """Stand for the reader of tables without fault."""


def measure(folder: Path, *, case: str) -> dict[str, float]:
    """Load the split in this process."""
    from fairseq_vgs.conv_spec import parse_conv_layers
    from fairseq_vgs.data import tables
    from fairseq_vgs.manifest import ManifestFolder

    if case == "line_by_line":  # as tables with a fault are read
        tables._load_regular = none  # type: ignore[assignment]

    layers = parse_conv_layers(LAYERS)
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    table = tables.load_split(ManifestFolder(folder), "train", layers=layers, with_texts=case == "texts")
    return {
        "pairs": len(table),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "before_mb": before,
        "after_mb": memory("VmRSS"),
        "peak_mb": memory("VmHWM"),
        "worker_private_mb": worker_memory(table),
    }


def main() -> None:
    """Generate the folder, measure each case in a process of its own, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, default=CASES[0], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, case=args.case)))
        return
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name), args.pairs, args.images)
        size = sum(path.stat().st_size for path in Path(name).iterdir()) / 2**20
        print(f"tables of {size:.0f} MB")
        for case in CASES:
            command = [sys.executable, __file__, "--measure", name, "--case", case]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(case, {key: round(value, 1) for key, value in json.loads(done.stdout).items()})


if __name__ == "__main__":
    main()
