"""Dropout on a CPU from random bits: torch draws and compares a double for every value, 20 times as slow.

64 random bits give four values 15 bits each. A probability is therefore exact to 2^-16. All bits come from
torch's default generator, so that masks follow from its seed and its state.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LANES = 4  # of 16 bits in a word
_STEPS = 1 << 15
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


class FastDropout(nn.Dropout):
    """`nn.Dropout` whose masks are cheap on a CPU in training, if ``fast``."""

    fast: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Drop out values of a tensor of any shape."""
        if self.fast and self.training:
            return dropout(x, self.p)
        return super().forward(x)


def dropout(x: Tensor, p: float) -> Tensor:
    """Set values to zero with probability p and divide the others by 1 - p, as `F.dropout` in training."""
    if x.device.type != "cpu" or not drops_some(p):
        return F.dropout(x, p)
    dropped: Tensor = _Dropout.apply(x, p)
    return dropped


def drops_some(p: float) -> bool:
    """Whether p, in steps of 2^-15, is neither 0 nor 1."""
    return 0 < _kept_steps(p) < _STEPS


def draw_dropped(shape: torch.Size | tuple[int, ...], p: float) -> Tensor:
    """Draw which values to drop: int16 of the shape, negative with probability p (`drops_some`)."""
    n_values = int(torch.Size(shape).numel())
    words = torch.empty(-(-n_values // _LANES), dtype=torch.int64).random_()
    lanes = words.view(torch.int16)[:n_values].bitwise_or_(-_STEPS)  # uniform over -2^15 .. -1
    return lanes.add_(_kept_steps(p)).view(shape)


def flag(values: Tensor, dropped: Tensor) -> Tensor:
    """Set the sign bit of values that are not negative, where ``dropped`` (int16) is; in place."""
    integers = integer_view(values)
    signs = dropped.bitwise_and(-_STEPS).to(integers.dtype)
    integers.bitwise_or_(signs << 8 * (values.element_size() - 2))
    return values


def integer_view(x: Tensor) -> Tensor:
    """View the bits of floats as integers of the same width."""
    return x.view(_INTEGERS[x.element_size()])


def _kept_steps(p: float) -> int:
    """Return how many of 2^15 equally likely draws keep a value that is dropped with probability p."""
    return round((1 - p) * _STEPS)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.scale = 1 / (1 - p)
        kept = draw_dropped(x.shape, p).bitwise_right_shift_(15).bitwise_not_()  # -1 (all bits) or 0
        ctx.save_for_backward(kept)
        return _mask(x * ctx.scale, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return _mask(gradients[0] * ctx.scale, kept), None


def _mask(values: Tensor, kept: Tensor) -> Tensor:
    """Set values to zero where ``kept`` (int16 of 0 and -1) is zero, in place where they are contiguous."""
    values = values.contiguous()
    integers = integer_view(values)
    integers.bitwise_and_(kept.to(integers.dtype))
    return values
