"""Compute what runs on SpokenCOCO cost: hours, memory, disk, and processes that load data.

    python benchmarks/scale.py                  # the tables of docs/scale.md

Nothing is run here. MEASURED holds what other benchmarks measured, with the command; ASSUMED what nobody
has measured for this package: the shares of a GPU's peak. Everything else follows from the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

N_CAPTIONS, N_IMAGES = 592_187, 118_000  # of SpokenCOCO's training split
MEAN_SECONDS = 4.4
BATCH_SIZE = 64
EPOCHS, SECOND_EPOCHS = 70, 50
REGIONS, REGION_DIMS = 36, 2048
WEEKEND_HOURS = 60  # Friday, 18:00, to Monday, 6:00


@dataclass(frozen=True)
class Measured:
    """What was measured on a CPU, base model, captions of 4.4 s.

    ``tflop`` of a caption's forward and backward pass (train_step.py's counter, by scenario); ``parameters``;
    ``gib_per_caption`` of activations, bf16 (train_step.py); CPU ms of loading a caption
    (loading_simulation.py) as FLAC or WAV.
    """

    tflop: dict[str, float]
    parameters: float
    gib_per_caption: float
    flac_ms: float
    wav_ms: float


@dataclass(frozen=True)
class Gpu:
    """A GPU: its peak of dense bf16 products, TFLOP/s, and memory, GiB, as its maker states them."""

    name: str
    peak: float
    memory: float


MEASURED = Measured(
    tflop={"W2V2": 0.178, "VGS": 0.153, "VGS+": 0.194},
    parameters=183e6,
    gib_per_caption=0.44,
    flac_ms=1.06,
    wav_ms=0.45,
)
GPUS = (Gpu("A100", 312, 80), Gpu("H100, H200", 989, 80))
ASSUMED_SHARES = (0.2, 0.4)  # of the peak, all in
ASSUMED_EFFICIENCY = {1: 1.0, 4: 0.9, 8: 0.8}  # of several GPUs that share 64 captions
BASES = ("W2V2", "VGS", "VGS+")
SCHEDULED = (
    ("W2V2", "VGS+"), ("VGS", "VGS+"), ("W2V2", "VGS"), ("VGS", "W2V2"), ("VGS+", "W2V2"), ("VGS+", "VGS"),
)  # fmt: skip


def updates(epochs: int) -> int:
    """Return the updates of so many epochs."""
    return epochs * (N_CAPTIONS // BATCH_SIZE)


def hours(scenario: str, n_updates: int, gpu: Gpu, share: float, *, n_gpus: int = 1) -> float:
    """Return the hours of training; ``share`` is that of the peak which is reached."""
    work = MEASURED.tflop[scenario] * BATCH_SIZE * n_updates
    return work / (gpu.peak * share * n_gpus * ASSUMED_EFFICIENCY[n_gpus]) / 3600


def plan() -> Iterator[tuple[str, str, int]]:
    """Yield name, what is trained, and updates of the nine scenarios; a base left early is a first phase."""
    for base in BASES:
        yield base, base, updates(EPOCHS)
    for first, second in SCHEDULED:
        yield f"({first}, {second})", second, updates(SECOND_EPOCHS)


def weekend_table() -> list[str]:
    """Return the table of nine scenarios on one GPU."""
    columns = [(gpu, share) for gpu in GPUS for share in ASSUMED_SHARES]
    names = " | ".join(f"{gpu.name}, {share:.0%}" for gpu, share in columns)
    lines = [f"| run | updates of {BATCH_SIZE} | {names} |", "|---|---|" + "---|" * len(columns)]
    totals = [0.0] * len(columns)
    n_all = 0
    for name, trained, n_updates in plan():
        found = [hours(trained, n_updates, gpu, share) for gpu, share in columns]
        totals = [total + more for total, more in zip(totals, found, strict=True)]
        n_all += n_updates
        lines.append(f"| {name} | {n_updates:,} | {' | '.join(f'{value:.1f}' for value in found)} |")
    lines.append(f"| all | {n_all:,} | {' | '.join(f'{value:.0f}' for value in totals)} |")
    fits = [min(1.0, WEEKEND_HOURS / total) for total in totals]
    lines.append(f"| share that fits into {WEEKEND_HOURS} hours | | {' | '.join(f'{s:.0%}' for s in fits)} |")
    return lines


def run_table() -> list[str]:
    """Return the table of one run of VGS+ on several GPUs, at the larger share of the peak."""
    share = ASSUMED_SHARES[-1]
    lines = [
        "| GPUs | hours, A100 | hours, H100 | GiB per GPU | update, ms (H100) | cores that load FLAC (WAV) |",
        "|---|---|---|---|---|---|",
    ]
    for n_gpus in ASSUMED_EFFICIENCY:
        a100, h100 = (hours("VGS+", updates(EPOCHS), gpu, share, n_gpus=n_gpus) for gpu in GPUS)
        update_ms = h100 * 3600e3 / updates(EPOCHS)
        cores = [math.ceil(BATCH_SIZE * ms / update_ms) + 1 for ms in (MEASURED.flac_ms, MEASURED.wav_ms)]
        lines.append(
            f"| {n_gpus} | {a100:.1f} | {h100:.1f} | {memory(BATCH_SIZE // n_gpus):.0f} | {update_ms:.0f} "
            f"| {cores[0]} ({cores[1]}) |"
        )
    return lines


def memory(n_captions: int) -> float:
    """Return GiB on a GPU: fp32 weights, gradients and two moments of Adam, bf16 copies, activations."""
    return MEASURED.parameters * (4 * 4 + 2) / 2**30 + n_captions * MEASURED.gib_per_caption


def disk_table() -> list[str]:
    """Return the table of sizes on the disk."""
    wav = N_CAPTIONS * MEAN_SECONDS * 32_000 / 1e9
    regions = N_IMAGES * REGIONS * REGION_DIMS * 2 / 1e9
    checkpoint = MEASURED.parameters * 3 * 4 / 1e9
    return [
        "| what | GB |",
        "|---|---|",
        f"| speech, WAV ({N_CAPTIONS * MEAN_SECONDS / 3600:.0f} h) | {wav:.0f} |",
        f"| regions, {REGIONS} of {REGION_DIMS} dims, float16 | {regions:.0f} |",
        f"| a checkpoint with Adam's moments | {checkpoint:.1f} |",
    ]


def main() -> None:
    """Print all tables."""
    for table in (weekend_table(), run_table(), disk_table()):
        print("\n".join(table), end="\n\n")


if __name__ == "__main__":
    main()
