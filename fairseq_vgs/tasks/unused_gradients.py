"""Leaving parameters alone whose branch an update did not compute."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


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
