"""Parts of an update that fairseq lacks: separate random numbers, dropped gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
