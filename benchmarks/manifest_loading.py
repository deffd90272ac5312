"""Measure loading a large split: seconds, memory of the process, and memory that data workers add.

    python benchmarks/manifest_loading.py [--pairs 1000000] [--images 123000] [--regions 36]

The folder is generated and removed again; it lists a few recordings under many names. Memory is the resident
set before and after loading, its highest value, and the private memory of each of two data workers after it
has read batches of pairs drawn from the whole split.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from fairseq_vgs.media.rates import SAMPLE_RATE

CASES = ("pairs", "pairs_and_texts", "pairs_and_regions", "pairs_by_line")
N_RECORDINGS = 1000  # names of each of as many folders
FEATURE_DIM = 64
N_WORKERS, BATCH_SIZE = 2, 16
BATCHES = (20, 200)  # after which the workers' memory is looked at
LAYERS = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2"
WORDS = ("a", "brown", "dog", "runs", "over", "wet", "grass", "behind", "two", "men", "with", "a", "ball")


def generate(folder: Path, n_pairs: int, n_images: int, *, n_regions: int) -> None:
    """Write the tables of a split ``train``, with names and texts as long as SpokenCOCO's."""
    draws = np.random.default_rng(1)
    lengths = write_recordings(folder / "speech", n_folders=-(-n_pairs // N_RECORDINGS))
    image_of = draws.integers(0, n_images, n_pairs).tolist()
    names = [f"wavs/train/{i // N_RECORDINGS:04d}/{recording(i)}" for i in range(n_pairs)]
    with (folder / "train.tsv").open("w") as file:
        file.write("speech\n")
        file.writelines(f"{name}\t{lengths[i % N_RECORDINGS]}\n" for i, name in enumerate(names))
    with (folder / "train.pairs.tsv").open("w") as file:
        file.write("audio_id\timage_id\tspeaker\ttext\n")
        for number in draws.permutation(n_pairs).tolist():
            text = " ".join(WORDS[(number + k) % len(WORDS)] for k in range(11))
            file.write(f"{names[number]}\tCOCO_{image_of[number]:012d}\tm{number % 2000}\t{text}\n")
    with (folder / "images.tsv").open("w") as file:
        file.write("#root\t.\nimage_id\tpath\twidth\theight\tgroup\n")
        for number in range(n_images):
            file.write(f"COCO_{number:012d}\ttrain2014/COCO_train2014_{number:012d}.jpg\t640\t480\t\n")
    with (folder / "regions.tsv").open("w") as file:
        file.write("image_id\tfeature_row\tx0\ty0\tx1\ty1\n")
        starts, ends = draws.uniform(0, 0.5, (n_regions, 2)), draws.uniform(0.5, 1, (n_regions, 2))
        boxes = ["\t".join(f"{edge:.6f}" for edge in box) for box in np.hstack([starts, ends]).tolist()]
        for row, image in enumerate(draws.permutation(n_images).tolist()):
            first = row * n_regions
            file.writelines(f"COCO_{image:012d}\t{first + k}\t{box}\n" for k, box in enumerate(boxes))
    shape = (n_images * n_regions, FEATURE_DIM)  # zeros that take no place on the disk
    np.lib.format.open_memmap(folder / "regions.npy", mode="w+", dtype=np.float16, shape=shape)


def recording(number: int) -> str:
    """Return the name of a recording within its folder."""
    return f"m{number % N_RECORDINGS * 7919 % 10**13:013d}.flac"


def write_recordings(folder: Path, *, n_folders: int) -> list[int]:
    """Write one folder of recordings and links to it; return their lengths in samples."""
    draws = np.random.default_rng(2)
    first = folder / "wavs" / "train" / "0000"
    first.mkdir(parents=True)
    for number in range(1, n_folders):
        (first.parent / f"{number:04d}").symlink_to(first, target_is_directory=True)
    few = [draws.integers(32_000, 128_000) for _ in range(20)]
    for number, length in enumerate(few):
        soundfile.write(folder / f"{number}.flac", draws.uniform(-0.1, 0.1, length), SAMPLE_RATE)
    for number in range(N_RECORDINGS):
        (first / recording(number)).hardlink_to(folder / f"{number % len(few)}.flac")
    return [int(few[number % len(few)]) for number in range(N_RECORDINGS)]


def memory(fields: tuple[str, ...], file: str = "self/status") -> float:
    """Return the sum of memory values of a process, MB."""
    lines = Path("/proc", file).read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in fields) / 1024


def worker_memory(dataset: object) -> dict[str, float]:
    """Return the private memory of the larger data worker after some and after many batches, MB."""
    from torch.utils.data import DataLoader

    draws = np.random.default_rng(3)
    batches = draws.integers(0, len(dataset), (max(BATCHES) + 20, BATCH_SIZE))  # type: ignore[arg-type]
    loader = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=batches.tolist(),
        num_workers=N_WORKERS,
        collate_fn=dataset.collater,  # type: ignore[attr-defined]
        multiprocessing_context="fork",
    )
    found = {}
    iterator = iter(loader)
    for n_batches in range(1, max(BATCHES) + 1):
        next(iterator)
        if n_batches in BATCHES:
            files = [f"{worker.pid}/smaps_rollup" for worker in iterator._workers]  # type: ignore[attr-defined]
            private = [memory(("Private_Dirty",), file) for file in files]
            found[f"worker_mb_after_{n_batches}_batches"] = max(private)
    return found


def none(*_: object, **__: object) -> None:
    """Replace the fast reader of tables, so that lines are read one by one."""


def measure(folder: Path, *, case: str) -> dict[str, float]:
    """Load the split in this process."""
    from fairseq_vgs.data import tables
    from fairseq_vgs.data.paired_dataset import VgsDataset, VgsDatasetOptions
    from fairseq_vgs.data.regions import load_regions
    from fairseq_vgs.manifest import ManifestFolder
    from fairseq_vgs.modules.conv_spec import parse_conv_layers

    if case == "pairs_by_line":  # as tables with a fault are read
        tables._load_regular = none  # type: ignore[assignment]

    layers = parse_conv_layers(LAYERS)
    manifest, regions = ManifestFolder(folder), None
    before, start, cpu = memory(("VmRSS",)), time.perf_counter(), time.process_time()
    table = tables.load_split(manifest, "train", layers=layers, with_texts=case == "pairs_and_texts")
    if case == "pairs_and_regions":
        regions = load_regions(manifest, image_index=table.images.index, max_regions=36)
    figures = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "before_mb": before,
        "after_mb": memory(("VmRSS",)),
        "peak_mb": memory(("VmHWM",)),
    }
    if regions is not None:
        options = VgsDatasetOptions(layers=layers, max_samples=128_000, training=True, skip_bad=False)
        figures |= worker_memory(VgsDataset(table, options, regions=regions))
    return figures


def main() -> None:
    """Generate the folder, measure each case in a separate process, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=123_000)
    parser.add_argument("--regions", type=int, default=36, help="of each picture")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, default=CASES[0], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, case=args.case)))
        return
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name), args.pairs, args.images, n_regions=args.regions)
        size = sum(path.stat().st_size for path in Path(name).glob("*.tsv")) / 2**20
        print(f"tables of {size:.0f} MB")
        for case in CASES:
            command = [sys.executable, __file__, "--measure", name, "--case", case]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(case, {key: round(value, 1) for key, value in json.loads(done.stdout).items()})


if __name__ == "__main__":
    main()
