"""Against torch's convolution."""

import pytest
import torch
import torch.nn.functional as F

from fairseq_vgs.modules.convolution import spectral_convolution


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("n_frames", [1, 2, 7, 40, 41])
@pytest.mark.parametrize(("kernel", "groups"), [(8, 2), (7, 3), (1, 1), (32, 6), (2, 2)])
def test_equals_conv1d(kernel, groups, n_frames):
    inputs = randn(3, 6, n_frames), randn(6, 6 // groups, kernel, seed=1), randn(6, seed=2)
    results = []
    for function in (
        lambda x, w, b: F.conv1d(x, w, b, padding=kernel // 2, groups=groups),
        lambda x, w, b: spectral_convolution(x, w, b, groups=groups),
    ):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        output = function(*leaves)
        output.backward(randn(*output.shape, seed=3))
        results.append((output, *(leaf.grad for leaf in leaves)))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_without_bias():
    x, weight = randn(2, 4, 9), randn(4, 2, 5, seed=1)
    expected = F.conv1d(x, weight, padding=2, groups=2)
    torch.testing.assert_close(spectral_convolution(x, weight, None, groups=2), expected)


def test_float32_is_as_exact_as_conv1d():
    """The base model's: 768 channels in 16 groups, 128 frames wide."""
    x, weight, bias = randn(1, 768, 150), randn(768, 48, 128, seed=1) / 78, randn(768, seed=2)
    exact = F.conv1d(x, weight, bias, padding=64, groups=16)
    single = [tensor.float() for tensor in (x, weight, bias)]
    theirs = (F.conv1d(*single, padding=64, groups=16) - exact).abs().max()
    ours = (spectral_convolution(*single, groups=16) - exact).abs().max()
    assert ours < 2 * theirs


def test_bf16_goes_through_float32():
    x, weight = randn(2, 4, 9, dtype=torch.float32), randn(4, 2, 5, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = spectral_convolution(x.bfloat16(), weight, None, groups=2)
    assert output.dtype == torch.bfloat16
    expected = spectral_convolution(x.bfloat16().float(), weight, None, groups=2)
    torch.testing.assert_close(output, expected.bfloat16())
