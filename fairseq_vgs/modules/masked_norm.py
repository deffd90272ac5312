"""Batch and group normalisation over time that ignore padded frames.

Legend: `P` sequences, `C` channels, `T` frames, `G` groups.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MaskedBatchNorm", "MaskedGroupNorm", "build_masked_norm"]

CHANNELS_PER_GROUP = 16


def build_masked_norm(name: str, n_channels: int) -> nn.Module:
    """Builds `batch` or `group` (groups of 16 channels; one group if 16 does not divide the channels)."""
    if name == "batch":
        return MaskedBatchNorm(n_channels)
    if name == "group":
        groups = n_channels // CHANNELS_PER_GROUP if n_channels % CHANNELS_PER_GROUP == 0 else 1
        return MaskedGroupNorm(groups, n_channels)
    raise ValueError(f"norm: expected batch or group, got {name!r}")


class MaskedBatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` (same parameters, buffers, momentum, eps) whose statistics are of valid frames only.

    In training, mean and variance are those of the valid frames of the batch of this rank, and so are the
    running statistics: the result and the model do not depend on how far a batch was padded. The authors'
    code counts padding (always 8 s) as data. Statistics are computed in float32 under any autocast.

    Shape:
        x `[P, C, T]`, valid bool `[P, T]` or None (all valid), result `[P, C, T]`; its padded frames are
        arbitrary.
    """

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:  # noqa: D102 - see the class
        if valid is None:
            valid = x.new_ones(x.size(0), x.size(2), dtype=torch.bool)
        with torch.autocast(device_type=x.device.type, enabled=False):
            return self._normalize(x if x.dtype == torch.float64 else x.float(), valid).to(x.dtype)

    def _normalize(self, x: Tensor, valid: Tensor) -> Tensor:
        if not self.training:
            mean, variance = self.running_mean, self.running_var
            if mean is None or variance is None:
                raise RuntimeError("MaskedBatchNorm: expected running statistics, got none")
            centred = x - mean.to(x.dtype).view(1, -1, 1)
        else:
            weights = valid.unsqueeze(1).to(x.dtype)
            n_frames = weights.sum()
            total = n_frames.clamp(min=1.0)
            mean = (x * weights).sum(dim=(0, 2)) / total
            centred = x - mean.view(1, -1, 1)
            variance = (centred.square() * weights).sum(dim=(0, 2)) / total
            self._track(mean.detach(), variance.detach(), n_frames)
        scale = torch.rsqrt(variance.to(x.dtype) + self.eps) * self.weight
        return torch.addcmul(self.bias.view(1, -1, 1), centred, scale.view(1, -1, 1))

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, n_frames: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        # An empty batch must leave the averages alone; a factor rather than a branch keeps the device
        # asynchronous.
        momentum = (self.momentum or 0.0) * (n_frames > 0).to(mean.dtype)
        unbiased = variance * n_frames / (n_frames - 1).clamp(min=1.0)
        self.running_mean += momentum * (mean - self.running_mean)
        self.running_var += momentum * (unbiased - self.running_var)


class MaskedGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` (same parameters, eps) with statistics over the valid frames of each sequence.

    Statistics are computed in float32 under any autocast. Nothing is shared between sequences or updates.

    Shape:
        x `[P, C, T]`, valid bool `[P, T]` or None (all valid), result `[P, C, T]`; its padded frames are
        arbitrary.
    """

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:  # noqa: D102 - see the class
        if valid is None:
            valid = x.new_ones(x.size(0), x.size(2), dtype=torch.bool)
        with torch.autocast(device_type=x.device.type, enabled=False):
            return self._normalize(x if x.dtype == torch.float64 else x.float(), valid).to(x.dtype)

    def _normalize(self, x: Tensor, valid: Tensor) -> Tensor:
        n_rows, n_channels, n_frames = x.shape
        grouped = x.reshape(n_rows, self.num_groups, n_channels // self.num_groups, n_frames)
        weights = valid[:, None, None, :].to(x.dtype)
        n_values = weights.sum(dim=(2, 3), keepdim=True).clamp(min=1.0) * grouped.size(2)
        mean = (grouped * weights).sum(dim=(2, 3), keepdim=True) / n_values
        centred = grouped - mean
        variance = (centred.square() * weights).sum(dim=(2, 3), keepdim=True) / n_values
        normed = (centred * torch.rsqrt(variance + self.eps)).flatten(1, 2)
        return torch.addcmul(self.bias.view(1, -1, 1), normed, self.weight.view(1, -1, 1))
