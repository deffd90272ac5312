"""Convolutions over time as matrix products, for wav2vec 2.0's extractor and positions.

Frames of the extractor are contiguous in memory (`[B, T, C]`), so the frames under a kernel are one run of
numbers, and a convolution is a product of these runs with the weights: nothing is copied or reordered. Wide
grouped kernels go through the Fourier transform.

Legend: `B` utterances, `S` samples, `T` frames, `C` channels in, `O` channels out, `K` kernel size, `G`
groups of `D = C / G`, `F` frequencies.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor


def strided_convolution(frames: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """Convolve frames, without padding and bias, as `torch.nn.functional.conv1d` up to rounding.

    Shape:
        frames `[B, T, C]`, weight `[O, C, K]`. Result `[B, (T - K) // stride + 1, O]`.
    """
    kernel = weight.size(2)
    if frames.size(1) < kernel:
        raise ValueError(f"frames: expected at least {kernel} (the kernel size), got {frames.size(1)}")
    if torch.is_autocast_enabled(frames.device.type):
        dtype = torch.get_autocast_dtype(frames.device.type)
        frames, weight = frames.to(dtype), weight.to(dtype)
    return _StridedConvolution.apply(frames, weight, stride)


def normalized_convolution(
    waveform: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    stride: int,
    eps: float,
    n_valid: Tensor | None = None,
) -> Tensor:
    """Convolve waveforms, then normalise every channel of every utterance over time.

    Equal to conv1d and `group_norm` with a channel per group, up to rounding, for a waveform that needs no
    gradient. A channel's mean and variance follow from the mean and covariance of the samples under the
    kernel, so that the norm becomes part of the weights: the large output is written once, and its backward
    pass is that of a matrix product. The covariance is taken in float64.

    Shape:
        waveform `[B, S]`, weight `[O, 1, K]`, scale and shift `[O]` (the norm's weight and bias), n_valid
        int64 `[B]` (how many frames of each utterance make up its statistics; None for all). Result
        `[B, (S - K) // stride + 1, O]`; frames beyond the valid ones are arbitrary.
    """
    with torch.autocast(waveform.device.type, enabled=False):
        windows = waveform.detach().unfold(1, weight.size(2), stride).contiguous()  # [B, T, K]
        exact, count = windows.double(), torch.as_tensor(windows.size(1))
        if n_valid is not None:
            valid = torch.arange(windows.size(1), device=exact.device) < n_valid.unsqueeze(1)
            exact, count = exact * valid.unsqueeze(2), n_valid.view(-1, 1, 1)
        centre = exact.sum(dim=1, keepdim=True) / count
        covariance = exact.transpose(1, 2) @ exact / count - centre.transpose(1, 2) * centre
        kernels = weight.squeeze(1)  # [O, K]
        variance = ((kernels @ covariance.to(kernels.dtype)) * kernels).sum(dim=2).clamp(min=0.0)  # [B, O]
        gain = torch.rsqrt(variance + eps) * scale
        kernels = kernels * gain.unsqueeze(2)  # [B, O, K]
        bias = shift - (kernels @ centre.to(kernels.dtype).transpose(1, 2)).squeeze(2)
    return torch.baddbmm(bias.unsqueeze(1), windows.to(kernels.dtype), kernels.transpose(1, 2))


class _StridedConvolution(torch.autograd.Function):
    """A sum of products: the kernel's taps are taken in parts of `stride`, whose windows do not overlap."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, weight: Tensor, stride: int) -> Tensor:
        frames = frames.contiguous()
        ctx.save_for_backward(frames, weight)
        ctx.stride = stride
        (first, *others), (first_taps, *other_taps) = _windows(frames, weight, stride), _taps(weight, stride)
        result = first @ first_taps
        for windows, taps in zip(others, other_taps, strict=True):
            result.baddbmm_(windows, taps.expand(len(frames), -1, -1))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (frames, weight), stride = ctx.saved_tensors, ctx.stride
        gradient = gradients[0].contiguous()
        for_frames = for_weight = None
        if ctx.needs_input_grad[0]:
            for_frames = torch.empty_like(frames)
            # Where the kernel is as long as the stride, its first part reaches every frame but the last few.
            n_reached = gradient.size(1) * stride if weight.size(2) >= stride else 0
            for_frames[:, n_reached:] = 0
            beta, parts = 0 if n_reached else 1, _windows(for_frames, weight, stride)
            for windows, taps in zip(parts, _taps(weight, stride), strict=True):
                windows.baddbmm_(gradient, taps.t().expand(len(frames), -1, -1), beta=beta)
                beta = 1
        if ctx.needs_input_grad[1]:
            parts = [(x.transpose(1, 2) @ gradient).sum(0) for x in _windows(frames, weight, stride)]
            for_weight = torch.cat(parts).view(weight.size(2), weight.size(1), -1).permute(2, 1, 0)
        return for_frames, for_weight, None


def _windows(frames: Tensor, weight: Tensor, stride: int) -> list[Tensor]:
    """View `[B, T', n C]` of the frames under each part of the kernel, n taps long."""
    (n_rows, n_frames, width), kernel = frames.shape, weight.size(2)
    n_windows = (n_frames - kernel) // stride + 1
    return [
        frames.as_strided(
            (n_rows, n_windows, min(stride, kernel - first) * width),
            (n_frames * width, stride * width, 1),
            frames.storage_offset() + first * width,
        )
        for first in range(0, kernel, stride)
    ]


def _taps(weight: Tensor, stride: int) -> list[Tensor]:
    """Cut the weights of each part of the kernel, `[n C, O]`."""
    return [part.flatten(0, 1) for part in weight.permute(2, 1, 0).split(stride)]


def spectral_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *, groups: int) -> Tensor:
    """Convolve with stride 1 and `K // 2` zeros on either side, as `conv1d` up to rounding.

    At every frequency a convolution is one product of a `D x D` matrix, so that the time does not grow with
    the kernel. Computed in float32 at least, under autocast too.

    Shape:
        x `[B, C, T]`, weight `[C, D, K]`, bias `[C]`. Result `[B, C, T]`, for even kernels `[B, C, T + 1]`.
    """
    n_channels, n_frames = x.shape[1:]
    kernel, width = weight.size(2), n_channels // groups
    # A transform is periodic: zeros after the last frame also precede the first one.
    period = _fast_length(n_frames + kernel // 2)
    with torch.autocast(x.device.type, enabled=False):
        exact = torch.promote_types(x.dtype, torch.float32)
        spectrum = torch.fft.rfft(x.to(exact).transpose(1, 2), period, dim=1)  # [B, F, C]
        response = torch.fft.rfft(weight.to(exact), period, dim=2).conj()  # [C, D, F]
        per_group = spectrum.unflatten(2, (groups, width)).permute(1, 2, 0, 3).flatten(0, 1)  # [F G, B, D]
        matrices = response.unflatten(0, (groups, width)).permute(3, 0, 2, 1).flatten(0, 1)  # [F G, D, D]
        product = (per_group @ matrices).unflatten(0, (-1, groups))  # [F, G, B, D]
        product = product.permute(2, 0, 1, 3).flatten(2)  # [B, F, C]
        result = torch.fft.irfft(product, period, dim=1).roll(kernel // 2, dims=1)
        result = result[:, : n_frames + 1 - kernel % 2].transpose(1, 2)
        result = result if bias is None else result + bias.to(exact).unsqueeze(1)
    return result.to(x.dtype)


def _fast_length(least: int) -> int:
    """Return the next number without prime factors above 5, for which transforms are fast."""
    for length in itertools.count(least):
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            break
    return length
