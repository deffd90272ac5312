"""What an update needs besides fairseq's: other random numbers, and no step for what was not computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq import utils
from fairseq.data import data_utils
from torch import nn


@contextmanager
def separate_random_numbers(seed: int) -> Iterator[None]:
    """Draw from generators seeded within the block; torch's and NumPy's own ones are as before after."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), data_utils.numpy_seed(seed):
        utils.set_torch_seed(seed)
        yield


def drop_gradients(optimizer: Any, parameters: Iterable[nn.Parameter]) -> None:
    """Take the gradients of some parameters away, in the optimizer's fp32 copies of them too."""
    dropped = list(parameters)
    for parameter in dropped:
        parameter.grad = None
    copies = getattr(optimizer, "fp32_params", None)
    if not dropped or copies is None:
        return
    if not isinstance(copies, list):
        raise ValueError(
            "common.fp16_no_flatten_grads: expected true where a branch can have weight 0 (fairseq's flat "
            "copy of all parameters would go on moving this branch), got false; "
            "set common.fp16_no_flatten_grads=true"
        )
    numbers = {id(parameter) for parameter in dropped}
    for parameter, copy in zip(optimizer.fp16_params, copies, strict=True):
        if id(parameter) in numbers:
            copy.grad = None
