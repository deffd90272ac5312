"""Numbers from a formula, so that weights and sounds need not be stored beside recorded outputs."""

import math
import zlib

import torch
from torch import Tensor


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """Make f32[shape] numbers in [-0.5, 0.5) that depend on the name and the position only."""
    position = torch.arange(math.prod(shape), dtype=torch.float64)
    phase = zlib.crc32(name.encode()) / 2**32
    wave = torch.sin((position + 1) * 12.9898 + phase * 78.233) * 43758.5453
    return (wave - wave.floor() - 0.5).float().reshape(shape)


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Make a weight of a size that keeps activations alive; scales of norms lie around one."""
    values = noise(name, shape)
    if name.endswith((".weight_g", ".original0")):
        return values.abs() + 0.5
    if "layer_norm" in name:
        return values * 0.4 + (1.0 if name.endswith(".weight") else 0.0)
    if len(shape) < 2:
        return values * 0.2
    return values * 3.0 / math.sqrt(math.prod(shape[1:]))
