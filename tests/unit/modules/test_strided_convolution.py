"""Against torch's own convolution and group norm, in float64 unless precision is the point."""

import pytest
import torch
import torch.nn.functional as F

from fairseq_vgs.modules.convolution import normalized_convolution, strided_convolution


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("n_frames", [10, 11, 12, 25])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (10, 5), (1, 1), (3, 1), (2, 3), (10, 10)])
def test_equals_conv1d(kernel, stride, n_frames):
    frames, weight = randn(3, n_frames, 4), randn(5, 4, kernel, seed=1)
    expected_in = [t.clone().requires_grad_() for t in (frames, weight)]
    actual_in = [t.clone().requires_grad_() for t in (frames, weight)]
    expected = F.conv1d(expected_in[0].transpose(1, 2), expected_in[1], stride=stride).transpose(1, 2)
    actual = strided_convolution(*actual_in, stride=stride)
    torch.testing.assert_close(actual, expected)
    gradient = randn(*expected.shape, seed=2)
    for output in (expected, actual):
        output.backward(gradient)
    for ours, theirs in zip(actual_in, expected_in, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_view_of_frames():
    frames, weight = randn(3, 4, 24)[:, :, 3:].transpose(1, 2), randn(5, 4, 3, seed=1)
    expected = F.conv1d(frames.transpose(1, 2), weight, stride=2).transpose(1, 2)
    torch.testing.assert_close(strided_convolution(frames, weight, stride=2), expected)


def test_fewer_frames_than_the_kernel():
    with pytest.raises(ValueError, match="at least 3"):
        strided_convolution(randn(1, 2, 4), randn(5, 4, 3), stride=2)


def convolved_and_normed(waveform, weight, scale, shift):
    convolved = F.conv1d(waveform.unsqueeze(1), weight, stride=5)
    return F.group_norm(convolved, len(weight), scale, shift, eps=1e-5).transpose(1, 2)


def test_normalized_equals_conv1d_and_group_norm():
    waveform = 3 * randn(2, 403) + 7  # not normalised: its mean must not matter
    parameters = [randn(6, 1, 10, seed=1), randn(6, seed=2), randn(6, seed=3)]
    expected_in = [t.clone().requires_grad_() for t in parameters]
    actual_in = [t.clone().requires_grad_() for t in parameters]
    expected = convolved_and_normed(waveform, *expected_in)
    actual = normalized_convolution(waveform, *actual_in, stride=5, eps=1e-5)
    torch.testing.assert_close(actual, expected)
    gradient = randn(*expected.shape, seed=4)
    for output in (expected, actual):
        output.backward(gradient)
    for ours, theirs in zip(actual_in, expected_in, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_normalized_over_the_valid_frames_of_each_row():
    waveform, n_valid = 3 * randn(3, 403) + 7, torch.tensor([79, 40, 1])
    parameters = [randn(6, 1, 10, seed=1), randn(6, seed=2), randn(6, seed=3)]
    actual = normalized_convolution(waveform, *parameters, stride=5, eps=1e-5, n_valid=n_valid)
    for row, n_frames, found in zip(waveform, n_valid.tolist(), actual, strict=True):
        convolved = F.conv1d(row.view(1, 1, -1), parameters[0], stride=5)[:, :, :n_frames]
        centred = convolved - convolved.mean(dim=2, keepdim=True)
        normed = centred / (centred.square().mean(dim=2, keepdim=True) + 1e-5).sqrt()
        expected = normed * parameters[1].view(1, -1, 1) + parameters[2].view(1, -1, 1)
        torch.testing.assert_close(found[:n_frames], expected[0].T, rtol=1e-6, atol=1e-6)


def test_normalized_in_float32_is_as_exact_as_torch():
    waveform = randn(2, 16000)
    parameters = [randn(6, 1, 10, seed=1), randn(6, seed=2), randn(6, seed=3)]
    exact = convolved_and_normed(waveform, *parameters)
    single = [tensor.float() for tensor in (waveform, *parameters)]
    theirs = (convolved_and_normed(*single) - exact).abs().max()
    ours = (normalized_convolution(*single, stride=5, eps=1e-5) - exact).abs().max()
    assert ours < 2 * theirs


def test_silence_stays_finite():
    """Padding is zeros: a row of nothing else has no variance."""
    shift = randn(6, seed=3)
    output = normalized_convolution(
        torch.zeros(1, 50),
        randn(6, 1, 10, dtype=torch.float32),
        torch.ones(6),
        shift.float(),
        stride=5,
        eps=1e-5,
    )
    torch.testing.assert_close(output, shift.float().expand(1, 9, 6))


def test_autocast_gives_bf16_and_gradients_of_the_weights_type():
    frames, weight = randn(2, 12, 4, dtype=torch.float32), randn(5, 4, 3, seed=1, dtype=torch.float32)
    weight.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = strided_convolution(frames, weight, stride=2)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert weight.grad.dtype == torch.float32
    expected = F.conv1d(frames.transpose(1, 2), weight, stride=2).transpose(1, 2)
    torch.testing.assert_close(output.float(), expected, rtol=0.03, atol=0.05)
