"""EfficientNet-Lite0 (Tan & Le 2019), frozen: the features of regions that are computed from pictures.

Legend: `N` regions of all pictures, `C` channels, `D` dimensions of a feature (1280).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-3
STEM_DIM, FEATURE_DIM = 32, 1280
# kernel, stride, factor of expansion, channels, number of blocks
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class ConvNorm(nn.Module):
    """A convolution, batch norm and ReLU6 in the type of the input; zeros as TensorFlow's SAME adds them."""

    def __init__(
        self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, groups: int = 1, activates: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride=stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(n_out, eps=NORM_EPS)
        self.activates = activates
        total = kernel - stride  # sides are multiples of the stride
        self.zeros = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `[N, C, H, W]`."""
        x = F.pad(x, self.zeros)
        x = F.conv2d(x, self.conv.weight.to(x.dtype), stride=self.conv.stride, groups=self.conv.groups)
        norm = self.norm
        statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        mean, variance, weight, bias = (None if part is None else part.to(x.dtype) for part in statistics)
        x = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=NORM_EPS)
        return F.relu6(x) if self.activates else x


class Block(nn.Module):
    """An inverted bottleneck: expansion, convolution per channel, projection; a residual where it fits."""

    def __init__(self, n_in: int, n_out: int, *, kernel: int, stride: int, factor: int) -> None:
        super().__init__()
        width = n_in * factor
        self.expand = ConvNorm(n_in, width, 1) if factor > 1 else None
        self.depthwise = ConvNorm(width, width, kernel, stride=stride, groups=width)
        self.project = ConvNorm(width, n_out, 1, activates=False)
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to `[N, C, H, W]`."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return y + x if self.is_residual else y


class RegionNetwork(nn.Module):
    """Crops of regions, uint8 `[N, 3, 224, 224]`, to features `[N, D]`, rounded to float16 as in training.

    Args:
        precision: of the computation, ``float32`` or ``float64``.
    """

    def __init__(self, precision: str) -> None:
        super().__init__()
        self.dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
        self.stem = ConvNorm(3, STEM_DIM, 3, stride=2)
        self.blocks = nn.ModuleList()
        width = STEM_DIM
        for kernel, stride, factor, n_out, n_blocks in STAGES:
            for number in range(n_blocks):
                step = stride if number == 0 else 1
                self.blocks.append(Block(width, n_out, kernel=kernel, stride=step, factor=factor))
                width = n_out
        self.head = ConvNorm(width, FEATURE_DIM, 1)

    @torch.no_grad()
    def forward(self, crops: Tensor) -> Tensor:
        """Compute features; see the class for shapes."""
        x = self.stem((crops.to(self.dtype) - 127.0) / 128.0)
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.head(x).mean(dim=(2, 3))
        return features.half().float()
