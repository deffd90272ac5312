"""Take a folder of a million pairs through everything: prepare, check, load and train, evaluate.

    python benchmarks/million_pairs.py --pairs 20000       # a minute
    python benchmarks/million_pairs.py --folder DISK       # a million pairs, 1.5 GB for small files

Media are synthetic: recordings of --seconds, many names for a few hundred files (hard links, and one folder
linked under many names), pictures of 32 pixels that all differ, five captions each. Each step is a command
of its own, as a user would type it; what is printed is its wall time, CPU time and highest memory. Everything
is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from fairseq_vgs.media.rates import SAMPLE_RATE

CAPTIONS_PER_IMAGE = 5
N_NAMES = 1000  # of a folder, which is linked under other names
N_FILES = 100  # distinct recordings of a split
N_HELD_OUT = 25_000  # most captions of valid, and of test
IMAGE_SIZE = 32
WORDS = ("a", "brown", "dog", "runs", "over", "wet", "grass", "behind", "two", "men", "with", "a", "ball")


@dataclass(frozen=True)
class Step:
    """What one command took: seconds, and the most memory of a single process of it, MB."""

    name: str
    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    said: str


def split_sizes(n_pairs: int) -> dict[str, int]:
    """Return the pairs of each split; train gets the rest."""
    held_out = min(N_HELD_OUT, n_pairs // 10) // CAPTIONS_PER_IMAGE * CAPTIONS_PER_IMAGE
    return {"valid": held_out, "test": held_out, "train": n_pairs - 2 * held_out}


def generate(folder: Path, n_pairs: int, *, seconds: float) -> Path:
    """Write recordings, pictures and the table of pairs; return the table."""
    draws = np.random.default_rng(1)
    folder.mkdir(parents=True)
    table = folder / "pairs.tsv"
    with table.open("w", encoding="utf-8") as file:
        file.write("audio\timage\tspeaker\ttext\tsplit\n")
        for split, size in split_sizes(n_pairs).items():
            write_recordings(folder / split, -(-size // N_NAMES), seconds=seconds, draws=draws)
            write_pictures(folder / split / "pictures", -(-size // CAPTIONS_PER_IMAGE), draws=draws)
            file.writelines(f"{line}\n" for line in table_lines(split, size))
    return table


def table_lines(split: str, size: int) -> Iterator[str]:
    """Yield the lines of a split."""
    for number in range(size):
        audio = f"{split}/wavs/{number // N_NAMES:04d}/{recording(number)}"
        image = f"{split}/pictures/{picture(number // CAPTIONS_PER_IMAGE)}"
        text = " ".join(WORDS[(number + k) % len(WORDS)] for k in range(11))
        yield f"{audio}\t{image}\tspeaker{number % 2000}\t{text}\t{split}"


def recording(number: int) -> str:
    """Return the name of a recording within its folder."""
    return f"m{number % N_NAMES * 7919 % 10**13:013d}.flac"


def picture(number: int) -> str:
    """Return a picture's path among those of its split."""
    return f"{number // N_NAMES:03d}/COCO_{number:012d}.png"


def write_recordings(folder: Path, n_folders: int, *, seconds: float, draws: np.random.Generator) -> None:
    """Write one folder of recordings, and links to it."""
    first = folder / "wavs" / "0000"
    first.mkdir(parents=True)
    lengths = (seconds * SAMPLE_RATE * draws.uniform(0.5, 1.5, N_FILES)).astype(int)
    for number, length in enumerate(lengths.tolist()):
        # Smoothed, as unfiltered noise compresses worse than speech does.
        noise = np.convolve(draws.standard_normal(length), np.ones(8) / 8, mode="same")
        soundfile.write(folder / f"{number}.flac", 0.1 * noise, SAMPLE_RATE)
    for number in range(N_NAMES):
        (first / recording(number)).hardlink_to(folder / f"{number % N_FILES}.flac")
    for number in range(1, n_folders):
        (first.parent / f"{number:04d}").symlink_to(first.name, target_is_directory=True)


def write_pictures(folder: Path, n_pictures: int, *, draws: np.random.Generator) -> None:
    """Write pictures that all differ."""
    pixels = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    for number in range(n_pictures):
        path = folder / picture(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels[:2, :16] = draws.integers(0, 256, (2, 16, 3))
        Image.fromarray(pixels).save(path, compress_level=1)


def commands(folder: Path, table: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the name and the command of each step."""
    vgs = (str(Path(sys.executable).with_name("fairseq-vgs")),)
    data, run = str(folder / "data"), folder / "run"
    yield "prepare", (*vgs, "prepare", "pairs", str(table), data)
    yield "check", (*vgs, "check", data)
    yield "load, and train for two updates", (*vgs, "train", data, *training(run))
    checkpoint = str(run / "checkpoints" / "checkpoint_last.pt")
    output = ("--output", str(folder / "results"), "--device", "cpu")
    yield "evaluate retrieval (test)", (*vgs, "evaluate", "retrieval", checkpoint, data, *output)


def training(run: Path) -> tuple[str, ...]:
    """Return options of a training that mostly loads: a tiny model, two updates, no validation."""
    return (
        *("--size", "tiny", "--device", "cpu", "--output", str(run)),
        *("model.image_encoder=patches", f"model.image_size={IMAGE_SIZE}", "optimization.max_update=2"),
        *("dataset.disable_validation=true", "checkpoint.save_interval_updates=0", "dataset.num_workers=1"),
    )


def measure(name: str, command: Sequence[str]) -> Step:
    """Run a command; memory is that of its largest process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed: {' '.join(command)}\n{output[-3000:]}")
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = next((line for line in output.splitlines() if line.startswith("read ")), "")
    return Step(name, round(wall, 1), round(cpu, 1), round(usage.ru_maxrss / 1024), said)


def main() -> None:
    """Generate, measure every step, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=0.5, help="mean length of recordings (default: 0.5)")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        table = generate(folder / "media", args.pairs, seconds=args.seconds)
        steps = []
        for step, command in commands(folder, table):
            steps.append(measure(step, command))
            print(steps[-1], file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps([asdict(step) for step in steps], indent=1))
        return
    print("| step | wall s | CPU s | peak, MB |\n|---|---|---|---|")
    for step in steps:
        print(f"| {step.name} | {step.wall_seconds} | {step.cpu_seconds} | {step.peak_mb:.0f} |")


if __name__ == "__main__":
    main()
