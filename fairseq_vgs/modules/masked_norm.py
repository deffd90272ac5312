"""Batch and group normalisation over time that ignore padded frames.

Legend: `P` sequences, `C` channels, `T` frames, `N` ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

CHANNELS_PER_GROUP = 16


def build_masked_norm(name: str, n_channels: int) -> nn.Module:
    """Build `batch` or `group` (groups of 16 channels; one group if 16 does not divide the channels)."""
    if name == "batch":
        return MaskedBatchNorm(n_channels)
    if name == "group":
        groups = n_channels // CHANNELS_PER_GROUP if n_channels % CHANNELS_PER_GROUP == 0 else 1
        return MaskedGroupNorm(groups, n_channels)
    raise ValueError(f"norm: expected batch or group, got {name!r}")


class MaskedBatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` (same parameters, buffers, momentum, eps) whose statistics are of valid frames only.

    In training, mean and variance are those of the valid frames of all ranks' batches, and so are the running
    statistics: the result and the model depend neither on how far a batch was padded nor on how it was split
    over ranks. The authors' code counts padding (always 8 s) as data and takes each replica's statistics.
    Statistics are computed in float32 under any autocast.

    With several ranks (torch.distributed's default group), the forward pass in training is a collective, and
    with gradients enabled so is the backward pass: every rank must call the module equally often and use the
    result in its loss, a rank without rows (`P` = 0) or without a valid frame too. Gradients are those of the
    sum of all ranks' losses, as in `nn.SyncBatchNorm`. In evaluation, ranks are independent.

    Shape:
        x `[P, C, T]`, valid bool `[P, T]` or None (all valid), result `[P, C, T]`; its padded frames are
        arbitrary.
    """

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:  # noqa: D102 - see the class
        return _in_float32(self._normalize, x, valid)

    def _normalize(self, x: Tensor, valid: Tensor) -> Tensor:
        if self.training:
            weights = valid.unsqueeze(1).to(x.dtype)
            n_frames = weights.sum()
            # Squares are taken around the rank's own mean: sums of squares around zero would cancel.
            centre = (x * weights).sum(dim=(0, 2)) / n_frames.clamp(min=1.0)
            centred = x - centre.view(1, -1, 1)
            squares = (centred.square() * weights).sum(dim=(0, 2))
            mean, variance, n_frames = _pool_over_ranks(centre, squares, n_frames)
            self._track(mean.detach(), variance.detach(), n_frames.detach())
        else:
            if self.running_mean is None or self.running_var is None:
                raise RuntimeError("MaskedBatchNorm: expected running statistics, got none")
            mean = centre = self.running_mean.to(x.dtype)
            variance = self.running_var.to(x.dtype)
            centred = x - centre.view(1, -1, 1)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        # The bias absorbs the difference of the rank's mean and the common one: no second copy of frames.
        bias = self.bias + (centre - mean) * scale
        return torch.addcmul(bias.view(1, -1, 1), centred, scale.view(1, -1, 1))

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, n_frames: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        # An empty batch must leave the averages alone; a branch, unlike a factor, would wait for the device.
        momentum = (self.momentum or 0.0) * (n_frames > 0).to(mean.dtype)
        unbiased = variance * n_frames / (n_frames - 1).clamp(min=1.0)
        self.running_mean += momentum * (mean - self.running_mean)
        self.running_var += momentum * (unbiased - self.running_var)


class MaskedGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` (same parameters, eps) with statistics over the valid frames of each sequence.

    Computed in float32 under any autocast. Nothing is shared between sequences, ranks or updates.

    Shape:
        x `[P, C, T]`, valid bool `[P, T]` or None (all valid), result `[P, C, T]`; its padded frames are
        arbitrary.
    """

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:  # noqa: D102 - see the class
        return _in_float32(self._normalize, x, valid)

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


class ValidFramesGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` in float32, over the first `n_valid` frames of each row; its other frames become zero.

    Replaces fairseq's `Fp32GroupNorm` in the extractor; with `n_valid` None, it is equal bit for bit. Row by
    row: `MaskedGroupNorm` takes five times as long on such long sequences, and three times the memory.

    Shape:
        x `[P, C, T]` to `[P, C, T]`.
    """

    n_valid: Tensor | None = None
    """int64 `[P]`, at least 1 each; None for all frames of all rows."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - see the class
        if self.n_valid is None:
            return self._normalize(x)
        rows = zip(x, self.n_valid.tolist(), strict=True)  # where the host waits for a GPU
        normed = [self._normalize(row[None, :, :n_valid])[0] for row, n_valid in rows]
        return torch.stack([nn.functional.pad(row, (0, x.size(2) - row.size(1))) for row in normed])

    def _normalize(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return nn.functional.group_norm(x.float(), self.num_groups, weight, bias, self.eps).type_as(x)


def _in_float32(normalize: Callable[[Tensor, Tensor], Tensor], x: Tensor, valid: Tensor | None) -> Tensor:
    """Call `normalize(x, valid)` in float32 (float64 stays) without autocast; return `x`'s type."""
    if valid is None:
        valid = x.new_ones(x.size(0), x.size(2), dtype=torch.bool)
    with torch.autocast(device_type=x.device.type, enabled=False):
        return normalize(x if x.dtype == torch.float64 else x.float(), valid).to(x.dtype)


def _pool_over_ranks(mean: Tensor, squares: Tensor, n_frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Join mean `[C]`, squared deviations `[C]` and numbers of frames of all ranks; differentiable.

    Return mean, biased variance and number of frames over all ranks, some of which may have no frames.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return mean, squares / n_frames.clamp(min=1.0), n_frames
    own = torch.cat([mean, squares, n_frames.view(1)])
    if torch.is_grad_enabled() and not own.requires_grad:
        # Some other rank may call the collective of the backward pass: this rank must call it as well.
        own.requires_grad_(True)
    ranks: Tensor = _GatherStatistics.apply(own)
    means, deviations, counts = ranks.split([len(mean), len(mean), 1], dim=1)
    counts = counts.detach()
    divisor = (total := counts.sum()).clamp(min=1.0)
    pooled = (means * counts).sum(dim=0) / divisor
    variance = (deviations + counts * (means - pooled).square()).sum(dim=0) / divisor
    return pooled, variance, total


class _GatherStatistics(torch.autograd.Function):
    """`[K]` of every rank to `[N, K]`; the backward pass sums the gradients of all ranks' losses."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ARG004 - torch's signature
        received = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(received, own.contiguous())
        return torch.stack(received)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004 - torch's signature
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]
