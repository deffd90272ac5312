"""Parts of an update that fairseq lacks: separate random numbers, dropped gradients, weights by pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from fairseq import utils
from fairseq.data import data_utils
from torch import nn

from fairseq_vgs.settings import bad_setting


@contextmanager
def separate_random_numbers(seed: int) -> Iterator[None]:
    """Seed torch's and NumPy's generators within the block, and restore them after it."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), data_utils.numpy_seed(seed):
        utils.set_torch_seed(seed)
        yield


def drop_gradients(optimizer: Any, parameters: Iterable[nn.Parameter]) -> None:
    """Drop the gradients of some parameters, and of the optimizer's fp32 copies of them."""
    dropped = list(parameters)
    for parameter in dropped:
        parameter.grad = None
    copies = getattr(optimizer, "fp32_params", None)
    if not dropped or copies is None:
        return
    if not isinstance(copies, list):
        raise bad_setting(
            "common.fp16_no_flatten_grads",
            "true where a branch can have weight 0 (fairseq's flat copy of all parameters keeps moving it)",
            False,
            "set common.fp16_no_flatten_grads=true",
        )
    numbers = {id(parameter) for parameter in dropped}
    for parameter, copy in zip(optimizer.fp16_params, copies, strict=True):
        if id(parameter) in numbers:
            copy.grad = None


def weigh_by_pairs(samples: Sequence[dict[str, Any]]) -> None:
    """Let every pair of an update that has several batches weigh the same in the VGS loss.

    fairseq adds the gradients of all batches and divides by their masked frames, of which a batch of longer
    captions has more. Each batch gets a ``vgs_sample_size``: its share of the update's masked frames by
    pairs. With a single batch, or masks that fairseq draws, nothing changes.
    """
    batches = [sample for sample in samples if sample]
    masks = [batch["net_input"].get("mask_indices") for batch in batches]
    if len(batches) < 2 or any(mask is None for mask in masks):
        return
    n_frames = sum(int(mask.sum()) if mask.dtype == torch.bool else mask.numel() for mask in masks)
    n_pairs = sum(batch["n_pairs"] for batch in batches)
    for batch in batches:
        batch["vgs_sample_size"] = n_frames * batch["n_pairs"] / n_pairs
