"""The paper's head: its convolutions against a plain version without masks; sizes; initial weights."""

import math

import pytest
import torch
from torch import Tensor, nn

from fairseq_vgs.modules import SPEECH_HEADS
from fairseq_vgs.modules.resdavenet import ResDavenet, ResDavenetSettings, ResidualBlock

NORMS = pytest.mark.parametrize("norm", ["batch", "group"])


def tiny(norm: str) -> ResDavenetSettings:
    return ResDavenetSettings(input_dim=6, bottleneck_dim=8, widths=(8, 12, 12, 16), norm=norm, heads=4)


def make_network(norm: str) -> ResDavenet:
    torch.manual_seed(0)
    network = ResDavenet(tiny(norm))
    with torch.no_grad():  # running statistics and affine parameters away from their start
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.GroupNorm)):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
    return network


def plain_norm(norm: nn.Module, x: Tensor) -> Tensor:
    if isinstance(norm, nn.BatchNorm1d):
        return nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, 0.0, norm.eps
        )
    return nn.functional.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def plain_block(block: ResidualBlock, x: Tensor) -> Tensor:
    out = plain_norm(block.norm2, block.conv2(plain_norm(block.norm1, block.conv1(x)).relu()))
    if block.shortcut is not None:
        x = plain_norm(block.shortcut_norm, block.shortcut(x))
    return (out + x).relu()


def plain_network(network: ResDavenet, frames: Tensor) -> Tensor:
    x = plain_norm(network.norm, network.linear(frames).transpose(1, 2)).relu()
    for block in network.blocks:
        x = plain_block(block, x)
    return x.transpose(1, 2)


@NORMS
@pytest.mark.parametrize("training", [True, False])
def test_equals_a_version_without_masks(norm: str, training: bool) -> None:
    network = make_network(norm).train(training)
    frames = torch.randn(3, 37, 6)
    expected = plain_network(network, frames)
    got, padding_mask = network(frames, padding_mask=None)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert not padding_mask.any()


@NORMS
@pytest.mark.parametrize("n_frames", [1, 2, 15, 16, 17, 100])
def test_sixteen_times_shorter_rounded_up(norm: str, n_frames: int) -> None:
    network = make_network(norm)
    shortened, padding_mask = network(torch.randn(2, n_frames, 6), padding_mask=None)
    assert shortened.shape == (2, math.ceil(n_frames / 16), 16)
    assert padding_mask.shape == shortened.shape[:2]


@NORMS
def test_valid_frames_are_those_the_convolutions_make_of_each_utterance(norm: str) -> None:
    network = make_network(norm)
    lengths = torch.tensor([1, 16, 17, 33, 50])
    padding_mask = torch.arange(50) >= lengths.unsqueeze(1)
    shortened, shorter_mask = network(torch.randn(5, 50, 6), padding_mask=padding_mask)
    assert (~shorter_mask).sum(dim=1).tolist() == [math.ceil(length / 16) for length in lengths.tolist()]
    assert (shortened[shorter_mask] == 0).all()


def test_shortcuts_stand_where_the_shape_changes() -> None:
    shortcuts = [block.shortcut is not None for block in ResDavenet(ResDavenetSettings()).blocks]
    assert shortcuts == [True, False] * 4
    strides = [block.conv1.stride[0] for block in ResDavenet(ResDavenetSettings()).blocks]
    assert strides == [2, 1] * 4


def test_base_size() -> None:
    with torch.device("meta"):
        head = SPEECH_HEADS["resdavenet"](ResDavenetSettings())
    d, f, k = 768, 3072, 9
    convolutions = d * 128 + 128 + 2 * 128
    width = 128
    for stage in (128, 256, 512, 768):
        convolutions += (
            k * width * stage + 3 * k * stage * stage + width * stage
        )  # four wide ones, one shortcut
        convolutions += 5 * 2 * stage  # norms
        width = stage
    layer = 4 * (d * d + d) + (d * f + f) + (f * d + d) + 2 * 2 * d
    mlp = (d * 2 * d + 2 * d) + (2 * d * d + d)
    expected = convolutions + layer + mlp + d * d + d
    assert sum(p.numel() for p in head.parameters()) == expected == 41_104_768


def test_initial_weights_are_the_authors() -> None:
    torch.manual_seed(0)
    head = SPEECH_HEADS["resdavenet"](ResDavenetSettings())
    for module in head.modules():
        if isinstance(module, nn.Conv1d):
            expected = math.sqrt(2 / (module.kernel_size[0] * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
        elif isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert (module.bias == 0).all()


def test_errors() -> None:
    head = SPEECH_HEADS["resdavenet"](tiny("batch"))
    with pytest.raises(ValueError, match="expected the CLS vector"):
        head(torch.zeros(1, 4, 6), cls=None)
    with pytest.raises(ValueError, match=r"divisor of the last width .16., got 3"):
        SPEECH_HEADS["resdavenet"](ResDavenetSettings(widths=(8, 16), heads=3))
