"""Convolutions over time as matrix products, for wav2vec 2.0's extractor and positions.

Frames of the extractor are contiguous in memory (`[B, T, C]`), so the frames under a kernel are one run of
numbers, and a convolution is a product of these runs with the weights: nothing is copied or reordered. Where
the stride divides the number of frames, this holds across utterances, and a batch is a single product. Wide
grouped kernels go through the Fourier transform, whose lengths are short enough to be matrix products too.

Legend: `B` utterances, `S` samples, `T` frames, `C` channels in, `O` channels out, `K` kernel size, `G`
groups of `D = C / G`, `F` frequencies.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def strided_convolution(frames: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """Convolve frames, without padding and bias, as `torch.nn.functional.conv1d` up to rounding.

    Shape:
        frames `[B, T, C]`, weight `[O, C, K]`. Result `[B, (T - K) // stride + 1, O]`.
    """
    kernel, n_frames = weight.size(2), frames.size(1)
    if n_frames < kernel:
        raise ValueError(f"frames: expected at least {kernel} (the kernel size), got {n_frames}")
    frames = F.pad(frames, (0, 0, 0, -n_frames % stride))
    return joined_convolution(frames, weight, stride=stride)[:, : (n_frames - kernel) // stride + 1]


def joined_convolution(frames: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """Convolve frames, without padding and bias, of which the stride divides the number.

    Shape:
        frames `[B, T, C]`, weight `[O, C, K]`. Result `[B, T / stride, O]`; frames whose kernel reaches
        beyond the utterance are arbitrary, and need a gradient of zero.
    """
    if torch.is_autocast_enabled(frames.device.type):
        dtype = torch.get_autocast_dtype(frames.device.type)
        frames, weight = frames.to(dtype), weight.to(dtype)
    result: Tensor = _JoinedConvolution.apply(frames, weight, stride)
    return result


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
    pass is that of a matrix product. Covariance and variance are taken in float64; under autocast, the
    product itself is in autocast's type.

    Shape:
        waveform `[B, S]`, weight `[O, 1, K]`, scale and shift `[O]` (the norm's weight and bias), n_valid
        int64 `[B]` (how many frames of each utterance make up its statistics; None for all). Result
        `[B, (S - K) // stride + 1, O]`; frames beyond the valid ones are arbitrary.
    """
    device = waveform.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(waveform.device.type, enabled=False):
        windows = waveform.detach().unfold(1, weight.size(2), stride)
        windows = windows.transpose(1, 2).contiguous()  # [B, K, T]
        exact, count = windows.to(torch.float64, copy=True), torch.as_tensor(windows.size(2))
        if n_valid is not None:
            valid = torch.arange(windows.size(2), device=exact.device) < n_valid.unsqueeze(1)
            exact, count = exact.mul_(valid.unsqueeze(1)), n_valid.view(-1, 1, 1)
        centre = exact.sum(dim=2, keepdim=True) / count
        covariance = exact @ exact.transpose(1, 2) / count - centre * centre.transpose(1, 2)
        kernels = weight.squeeze(1)  # [O, K]
        # also in float64: a narrow band of speech has a small share of its variance, and TF32 would lose it
        doubled = kernels.double()
        variance = ((doubled @ covariance) * doubled).sum(dim=2).clamp(min=0.0).to(kernels.dtype)  # [B, O]
        gain = torch.rsqrt(variance + eps) * scale
        kernels = kernels * gain.unsqueeze(2)  # [B, O, K]
        bias = shift - (kernels @ centre.to(kernels.dtype)).squeeze(2)
        # The bias is the weight of a constant sample: a product alone writes its result once.
        samples = F.pad(windows.to(dtype), (0, 0, 0, 1), value=1.0).transpose(1, 2)
        return samples @ torch.cat([kernels, bias.unsqueeze(2)], dim=2).to(dtype).transpose(1, 2)


class _JoinedConvolution(torch.autograd.Function):
    """A sum of products: the kernel's taps are taken in parts of `stride`, whose windows do not overlap."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, weight: Tensor, stride: int) -> Tensor:
        frames = frames.contiguous()
        ctx.save_for_backward(frames, weight)
        ctx.stride = stride
        result = frames.new_empty(frames.size(0), frames.size(1) // stride, weight.size(0))
        rows = result.flatten(0, 1)
        for number, (windows, taps) in enumerate(_parts(frames, weight, stride)):
            if number == 0:
                torch.mm(windows, taps, out=rows)
            else:
                rows[: len(windows)].addmm_(windows, taps)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (frames, weight), stride = ctx.saved_tensors, ctx.stride
        gradient = gradients[0].flatten(0, 1).contiguous()
        for_frames = for_weight = None
        if ctx.needs_input_grad[0]:
            covered = weight.size(2) >= stride  # the first part of the taps then reaches every frame
            for_frames = torch.empty_like(frames) if covered else torch.zeros_like(frames)
            for number, (windows, taps) in enumerate(_parts(for_frames, weight, stride)):
                if number == 0 and covered:
                    torch.mm(gradient, taps.t(), out=windows)
                else:
                    windows.addmm_(gradient[: len(windows)], taps.t())
        if ctx.needs_input_grad[1]:
            parts = [x.t() @ gradient[: len(x)] for x, _ in _parts(frames, weight, stride)]
            for_weight = torch.cat(parts).view(weight.size(2), weight.size(1), -1).permute(2, 1, 0)
        return for_frames, for_weight, None


def _parts(frames: Tensor, weight: Tensor, stride: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the kernel into parts of up to `stride` taps; yield frames `[R, n C]` and weights `[n C, O]`.

    Rows of frames are a view, one per frame of the result, without the last ones that would reach beyond the
    batch.
    """
    width, kernel = weight.size(1), weight.size(2)
    n_rows = frames.numel() // (stride * width)
    for first, taps in zip(range(0, kernel, stride), weight.permute(2, 1, 0).split(stride), strict=True):
        n_whole = max(0, n_rows + 1 - math.ceil((first + len(taps)) / stride))
        size, strides = (n_whole, len(taps) * width), (stride * width, 1)
        yield frames.as_strided(size, strides, frames.storage_offset() + first * width), taps.flatten(0, 1)


def spectral_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *, groups: int) -> Tensor:
    """Convolve with stride 1 and `K // 2` zeros on either side, as `conv1d` up to rounding.

    At every frequency a convolution is one product of a `D x D` matrix, so that the time does not grow with
    the kernel. Computed in float32 at least, under autocast too.

    Shape:
        x `[B, C, T]`, weight `[C, D, K]`, bias `[C]`. Result `[B, C, T]`, for even kernels `[B, C, T + 1]`.
    """
    with torch.autocast(x.device.type, enabled=False):
        exact = torch.promote_types(x.dtype, torch.float32)
        result: Tensor = _SpectralConvolution.apply(x.to(exact).transpose(1, 2), weight.to(exact), groups)
        result = result if bias is None else result + bias.to(exact)
    return result.transpose(1, 2).to(x.dtype)


class _SpectralConvolution(torch.autograd.Function):
    """`[B, T, C]` to `[B, T', C]`. Products are of real numbers: `[F G, 2 B, D]`, imaginary parts second.

    A transform is periodic: zeros after the last frame also precede the first one. The kernels, many and
    short, are transformed by a matrix product, which puts their frequencies into the order of the products.
    """

    @staticmethod
    def forward(ctx: Any, frames: Tensor, weight: Tensor, groups: int) -> Tensor:
        (n_frames, width, kernel), width_out = (frames.size(1), *weight.shape[1:]), len(weight) // groups
        period = _fast_length(n_frames + kernel // 2)
        ctx.sizes, ctx.period = (groups, n_frames, kernel), period
        spectrum = _by_group(torch.fft.rfft(frames, period, dim=1), groups)
        matrices = _kernel_waves(kernel, period, weight.device, weight.dtype) @ weight.flatten(0, 1).t()
        matrices = matrices.view(2, len(spectrum), width_out, width)
        ctx.save_for_backward(spectrum, matrices)
        real, imaginary = (torch.bmm(spectrum, part.transpose(1, 2)) for part in matrices)
        product = _by_frequency(real + _times_i(imaginary), groups)
        result = torch.fft.irfft(product, period, dim=1).roll(kernel // 2, dims=1)
        return result[:, : n_frames + 1 - kernel % 2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (spectrum, matrices), (groups, n_frames, kernel), period = ctx.saved_tensors, ctx.sizes, ctx.period
        (gradient,) = gradients
        # irfft counts every frequency twice but the first one, and the last one of an even period.
        share = gradient.new_full((period // 2 + 1, 1), 2 / period)
        share[0] = share[period // 2 if period % 2 == 0 else 0] = 1 / period
        rolled = F.pad(gradient, (0, 0, 0, period - gradient.size(1))).roll(-(kernel // 2), dims=1)
        by_group = _by_group(torch.fft.rfft(rolled, dim=1) * share, groups)
        turned = -_times_i(by_group)
        for_spectrum = torch.bmm(by_group, matrices[0]).baddbmm_(turned, matrices[1])
        for_matrices = torch.empty_like(matrices)
        for part, rows in zip(for_matrices, (by_group, turned), strict=True):
            torch.bmm(rows.transpose(1, 2), spectrum, out=part)
        waves = _kernel_waves(kernel, period, gradient.device, gradient.dtype)
        for_weight = for_matrices.view(len(waves), -1).t() @ waves
        for_frames = torch.fft.irfft(_by_frequency(for_spectrum, groups) / share, period, dim=1)[:, :n_frames]
        return for_frames, for_weight.view(-1, matrices.size(3), kernel), None


def _times_i(numbers: Tensor) -> Tensor:
    """Multiply `[N, 2 B, D]` by the imaginary unit."""
    real, imaginary = numbers.chunk(2, dim=1)
    return torch.cat([-imaginary, real], dim=1)


def _by_group(spectrum: Tensor, groups: int) -> Tensor:
    """Reorder complex `[B, F, C]` to real `[F G, 2 B, D]`."""
    parts = torch.view_as_real(spectrum).unflatten(2, (groups, -1))
    return parts.permute(1, 2, 4, 0, 3).flatten(2, 3).flatten(0, 1)


def _by_frequency(numbers: Tensor, groups: int) -> Tensor:
    """Reorder real `[F G, 2 B, D]` to complex `[B, F, C]`."""
    parts = numbers.unflatten(0, (-1, groups)).unflatten(2, (2, -1)).permute(3, 0, 1, 4, 2)
    return torch.view_as_complex(parts.contiguous()).flatten(2)


@functools.lru_cache(maxsize=32)
def _kernel_waves(kernel: int, period: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Make the matrix `[2 F, K]` of the (conjugate) Fourier transform of a kernel, imaginary parts second."""
    frequencies, taps = (torch.arange(n, device=device) for n in (period // 2 + 1, kernel))
    angles = (frequencies.unsqueeze(1) * taps % period).double() * (2 * math.pi / period)
    return torch.cat([angles.cos(), angles.sin()]).to(dtype)


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
