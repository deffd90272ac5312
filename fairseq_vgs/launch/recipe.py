"""Model size, learning-rate schedule and arithmetic of a run, by the number of pairs and the hardware.

The sizes are the groups ``model`` and ``run_config`` of the configurations. Updates grow with the number of
training pairs, so that every pair is seen a bounded number of times:

- tiny: 3 epochs, but 320 updates at least, which the quickstart's 3,000 pairs need;
- small: 20 epochs, 2,000 to 50,000 updates;
- paper: its 70 epochs (Khorrami et al. 2023, section III-D), or 50 in a second phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairseq_vgs.launch.hardware import Hardware

Size = Literal["tiny", "small", "paper"]
SMALL_FROM, PAPER_FROM = 10_000, 200_000
"""Training pairs from which the sizes are chosen: Flickr8k has 30,000, SpokenCOCO 592,187."""
_PAPER_BATCH = 64
FEW_IMAGES = 10
"""Of so few, every order has all within the first ten."""


@dataclass(frozen=True)
class Schedule:
    """How long a size trains.

    Attributes:
        batch: pairs per update.
        epochs: how often every pair is seen.
        least: updates at least.
        most: updates at most.
        warmup: per mille of the updates.
        second_epochs: epochs of a second phase, if they differ.
    """

    batch: int
    epochs: int
    least: int
    most: int | None = None
    warmup: int = 100
    second_epochs: int | None = None

    def updates(self, n_pairs: int, *, second: bool = False) -> int:
        """Return the updates for a number of pairs."""
        epochs = self.second_epochs if second and self.second_epochs else self.epochs
        wanted = max(self.least, epochs * (n_pairs // self.batch))
        return wanted if self.most is None else min(self.most, wanted)

    def warmup_updates(self, updates: int) -> int:
        """Return how many of the updates warm up."""
        return updates * self.warmup // 1000


SCHEDULES: dict[Size, Schedule] = {
    "tiny": Schedule(batch=32, epochs=3, least=320, warmup=75),
    "small": Schedule(batch=64, epochs=20, least=2_000, most=50_000),
    "paper": Schedule(batch=_PAPER_BATCH, epochs=70, least=70, second_epochs=50),
}


def choose_size(n_pairs: int, hardware: Hardware) -> tuple[Size, str]:
    """Return the size for a number of training pairs, and why."""
    have = f"{n_pairs:,} training pairs"
    if n_pairs < SMALL_FROM:
        return "tiny", f"{have}, fewer than {SMALL_FROM:,}"
    if n_pairs < PAPER_FROM:
        return "small", f"{have}, {SMALL_FROM:,} or more"
    if hardware.n_gpus:
        return "paper", f"{have}, {PAPER_FROM:,} or more"
    return "small", f"{have}, and no GPU for the paper's size"


def size_overrides(size: Size, hardware: Hardware) -> dict[str, str]:
    """Return the overrides that select a size on some hardware; what the groups say already is left out."""
    precision = {"model.autocast": "bf16" if hardware.has_bf16 else "none"}
    if size == "tiny":
        return {"common.cpu": "false", **precision} if hardware.n_gpus else {}
    if size == "small":
        groups = {"model": "small", "run_config": "small"}
        return {**groups, **precision} if hardware.n_gpus else {**groups, "common.cpu": "true"}
    if not hardware.n_gpus:
        return {"model": "paper", "run_config": "gpu_1", "common.cpu": "true", "model.autocast": "auto"}
    if hardware.n_gpus == 1:
        return {"model": "paper", "run_config": "gpu_1", **precision}
    processes = _divisor_of_batch(hardware.n_gpus)
    return {
        "model": "paper",
        "run_config": "gpu_4",
        "distributed_training.distributed_world_size": str(processes),
        "dataset.batch_size": str(_PAPER_BATCH // processes),
        **precision,
    }


def _divisor_of_batch(n_gpus: int) -> int:
    """Return how many of the GPUs share the paper's batch evenly: a power of two."""
    return max(number for number in (1, 2, 4, 8, 16, 32) if number <= n_gpus)


def best_overrides(size: Size, *, grounds: bool, n_images: int) -> dict[str, str]:
    """Return which checkpoint is the best: by R@10 with a VGS loss, else by the loss.

    Among ``n_images`` that any order has within the first ten, it is the one with the lowest VGS loss.
    The groups of tiny say so themselves; small is for scenarios with a VGS loss, and the paper's by the loss.
    """
    metric, maximize = "checkpoint.best_checkpoint_metric", "checkpoint.maximize_best_checkpoint_metric"
    if grounds and n_images <= FEW_IMAGES:
        return {metric: "vgs_loss", maximize: "false"}
    if size == "paper" and grounds:
        return {metric: "speech_to_image_r10", maximize: "true"}
    if size == "small" and not grounds:
        return {metric: "loss", maximize: "false"}
    return {}
