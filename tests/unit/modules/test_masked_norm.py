"""Masked norms against torch's own on the valid frames alone."""

import pytest
import torch
from torch import Tensor, nn

from fairseq_vgs.modules.masked_norm import MaskedBatchNorm, MaskedGroupNorm, build_masked_norm

N_CHANNELS, N_FRAMES = 8, 6


def ragged_case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, N_CHANNELS, N_FRAMES, generator=generator) * 2 + 1
    valid = torch.arange(N_FRAMES) < torch.tensor([[6], [3], [1]])
    return x, valid


def randomize(norm: nn.Module) -> None:
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5)


@pytest.mark.parametrize("n_updates", [1, 3])
def test_batch_norm_equals_torchs_on_valid_frames(n_updates: int) -> None:
    x, valid = ragged_case()
    masked, plain = MaskedBatchNorm(N_CHANNELS), nn.BatchNorm1d(N_CHANNELS)
    randomize(masked)
    plain.load_state_dict(masked.state_dict())
    for _ in range(n_updates):
        x = x * 1.1
        inputs = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
        got = masked(inputs[0], valid).transpose(1, 2)[valid]
        expected = plain(inputs[1].transpose(1, 2)[valid])
        torch.testing.assert_close(got, expected)
        weights = torch.arange(got.numel()).view_as(got) / 10
        (got * weights).sum().backward()
        (expected * weights).sum().backward()
        assert inputs[0].grad is not None
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(masked.state_dict()[name], value)
    masked.eval(), plain.eval()
    torch.testing.assert_close(masked(x, valid).transpose(1, 2)[valid], plain(x.transpose(1, 2)[valid]))


def test_group_norm_equals_torchs_on_valid_frames() -> None:
    x, valid = ragged_case()
    masked, plain = MaskedGroupNorm(2, N_CHANNELS), nn.GroupNorm(2, N_CHANNELS)
    randomize(masked)
    plain.load_state_dict(masked.state_dict())
    got = masked(x, valid)
    for row, n_valid in enumerate((6, 3, 1)):
        expected = plain(x[row : row + 1, :, :n_valid])
        torch.testing.assert_close(got[row : row + 1, :, :n_valid], expected)


@pytest.mark.parametrize("name", ["batch", "group"])
def test_without_mask_every_frame_counts(name: str) -> None:
    x, _ = ragged_case()
    norm = build_masked_norm(name, N_CHANNELS)
    plain = nn.BatchNorm1d(N_CHANNELS) if name == "batch" else nn.GroupNorm(1, N_CHANNELS)
    torch.testing.assert_close(norm(x), plain(x))


def test_one_frame_and_no_frame_leave_batch_norm_usable() -> None:
    norm = MaskedBatchNorm(N_CHANNELS)
    one = norm(torch.randn(1, N_CHANNELS, 1), torch.ones(1, 1, dtype=torch.bool))
    assert one.isfinite().all()
    assert norm.running_mean is not None and norm.running_var is not None
    before = norm.running_mean.clone(), norm.running_var.clone()
    norm(torch.randn(0, N_CHANNELS, 4), torch.ones(0, 4, dtype=torch.bool))
    norm(torch.randn(1, N_CHANNELS, 4), torch.zeros(1, 4, dtype=torch.bool))
    assert torch.equal(norm.running_mean, before[0])
    assert torch.equal(norm.running_var, before[1])
    assert norm.running_var.isfinite().all()


@pytest.mark.parametrize("name", ["batch", "group"])
def test_statistics_are_float32_under_autocast(name: str) -> None:
    norm = build_masked_norm(name, N_CHANNELS)
    x = (torch.randn(2, N_CHANNELS, 50) + 100).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = norm(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(
        got.float(), build_masked_norm(name, N_CHANNELS)(x.float()), rtol=0.01, atol=0.01
    )


def test_groups_have_sixteen_channels_where_possible() -> None:
    groups = [build_masked_norm("group", n_channels).num_groups for n_channels in (768, 128, 16, 24)]
    assert groups == [48, 8, 1, 1]


def test_unknown_norm() -> None:
    with pytest.raises(ValueError, match="expected batch or group, got 'layer'"):
        build_masked_norm("layer", 4)
