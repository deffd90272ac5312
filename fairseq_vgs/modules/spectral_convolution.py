"""Wide grouped convolutions over time through the Fourier transform, for wav2vec 2.0's positions.

Legend: `B` utterances, `T` frames, `C` channels, `G` groups of `D = C / G`, `K` kernel size, `F` frequencies.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


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
