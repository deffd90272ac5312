"""Full precision for losses, whatever mixed precision surrounds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["full_precision", "without_autocast"]


def full_precision(x: Tensor) -> Tensor:
    """Returns `x` in float32, or unchanged where it already is float64 (gradient checks)."""
    return x if x.dtype == torch.float64 else x.float()


@contextmanager
def without_autocast(x: Tensor) -> Iterator[None]:
    """Switches autocast off on the device of `x`: inside it, matrix products of float32 stay float32."""
    with torch.autocast(device_type=x.device.type, enabled=False):
        yield
