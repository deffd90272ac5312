"""What every speech head must do: ignore padding, take short and empty input, run under autocast."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fairseq_vgs.modules import SPEECH_HEADS
from fairseq_vgs.modules.attention_pooling import AttentionPoolingHead

INPUT_DIM, OUTPUT_DIM = 16, 10
HEADS = {
    "attention": ("attention", "batch"),
    "resdavenet with batch norm": ("resdavenet", "batch"),
    "resdavenet with group norm": ("resdavenet", "group"),
}
every_head = pytest.mark.parametrize("name", sorted(HEADS))


def make_head(name: str, dropout: float = 0.0) -> nn.Module:
    head, norm = HEADS[name]
    torch.manual_seed(0)
    sizes = {"input_dim": INPUT_DIM, "output_dim": OUTPUT_DIM, "heads": 4}
    sizes |= {"dropout": dropout, "attention_dropout": dropout}
    if head == "resdavenet":
        sizes |= {"bottleneck_dim": 16, "widths": (16, 16, 32, 32), "norm": norm, "ffn_dim": 24}
    built = SPEECH_HEADS[head](SPEECH_HEADS[head].Settings(**sizes))
    with torch.no_grad():  # larger than initial weights, so that leaks would show
        for parameter in built.parameters():
            if parameter.dim() == 2:
                parameter.mul_(2)
    return built


def make_batch(n_frames: int, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(len(lengths), n_frames, INPUT_DIM, generator=generator)
    cls = torch.randn(len(lengths), INPUT_DIM, generator=generator)
    return frames, cls, torch.arange(n_frames) >= torch.tensor(lengths).unsqueeze(1)


def test_every_registered_head_is_tested() -> None:
    assert {head for head, _ in HEADS.values()} == set(SPEECH_HEADS)
    assert all(isinstance(head.needs_cls, bool) for head in SPEECH_HEADS.values())


@every_head
@pytest.mark.parametrize("garbage", [0.0, 50.0, float("nan")])
def test_in_eval_padding_has_no_influence(name: str, garbage: float) -> None:
    head = make_head(name).eval()
    frames, cls, padding_mask = make_batch(64, [64, 33, 16, 1])
    padded = torch.full((4, 117, INPUT_DIM), garbage)
    padded[:, :64] = frames.masked_fill(padding_mask.unsqueeze(-1), garbage)
    longer_mask = nn.functional.pad(padding_mask, (0, 53), value=True)
    expected = head(frames, cls=cls, padding_mask=padding_mask)
    torch.testing.assert_close(
        head(padded, cls=cls, padding_mask=longer_mask), expected, rtol=1e-4, atol=1e-5
    )
    for row, length in enumerate((64, 33, 16, 1)):
        one = slice(row, row + 1)
        alone = head(frames[one, :length], cls=cls[one], padding_mask=None)
        torch.testing.assert_close(alone, expected[one], rtol=1e-4, atol=1e-5)


@every_head
@pytest.mark.parametrize("garbage", [50.0, float("nan")])
def test_in_training_padding_has_no_influence(name: str, garbage: float) -> None:
    """Result, gradients and running statistics are those of the unpadded batch (float64: no rounding)."""
    short, long = make_head(name).double().train(), make_head(name).double().train()
    frames, cls, padding_mask = make_batch(40, [40, 23, 7])
    frames, cls = frames.double(), cls.double()
    padded = torch.full((3, 90, INPUT_DIM), garbage, dtype=torch.float64)
    padded[:, :40] = frames.masked_fill(padding_mask.unsqueeze(-1), garbage)
    longer_mask = nn.functional.pad(padding_mask, (0, 50), value=True)
    expected = short(frames, cls=cls, padding_mask=padding_mask)
    got = long(padded, cls=cls, padding_mask=longer_mask)
    torch.testing.assert_close(got, expected)
    expected.square().sum().backward()
    got.square().sum().backward()
    for (parameter, value), other in zip(long.named_parameters(), short.parameters(), strict=True):
        assert value.grad is not None and other.grad is not None, parameter
        torch.testing.assert_close(value.grad, other.grad)
    for buffer, other_buffer in zip(long.buffers(), short.buffers(), strict=True):
        torch.testing.assert_close(buffer, other_buffer)


@every_head
@pytest.mark.parametrize("n_frames", [1, 2, 5, 15, 16, 17, 31])
@pytest.mark.parametrize("training", [True, False])
def test_short_utterances(name: str, n_frames: int, training: bool) -> None:
    head = make_head(name).train(training)
    frames, cls, _ = make_batch(n_frames, [n_frames, 1])
    padding_mask = torch.arange(n_frames) >= torch.tensor([[n_frames], [1]])
    embedding = head(frames, cls=cls, padding_mask=padding_mask)
    assert embedding.shape == (2, OUTPUT_DIM)
    embedding.sum().backward()
    assert embedding.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


@every_head
@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_gives_zero_gradients(name: str, training: bool) -> None:
    """A rank without pairs still runs the head, for the sake of the collectives."""
    head = make_head(name).train(training)
    before = copy.deepcopy(head.state_dict())
    embedding = head(
        torch.zeros(0, 20, INPUT_DIM), cls=torch.zeros(0, INPUT_DIM), padding_mask=torch.zeros(0, 20).bool()
    )
    assert embedding.shape == (0, OUTPUT_DIM)
    embedding.sum().backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in head.parameters())
    for key, value in head.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, before[key])


@every_head
def test_frames_and_cls_both_matter_and_get_gradients(name: str) -> None:
    head = make_head(name)
    frames, cls, padding_mask = make_batch(40, [40, 20])
    frames.requires_grad_(True)
    cls.requires_grad_(True)
    head(frames, cls=cls, padding_mask=padding_mask).square().sum().backward()
    assert frames.grad is not None and cls.grad is not None
    assert (cls.grad != 0).any()
    assert (frames.grad[~padding_mask] != 0).any()
    assert (frames.grad[padding_mask] == 0).all()
    assert [key for key, p in head.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["attention", "resdavenet with group norm"])
def test_train_and_eval_agree_without_dropout(name: str) -> None:
    """Batch norm uses other statistics in eval mode; everything else must agree."""
    head = make_head(name)
    frames, cls, padding_mask = make_batch(40, [40, 20])
    trained = head.train()(frames, cls=cls, padding_mask=padding_mask)
    with torch.no_grad():
        evaluated = head.eval()(frames, cls=cls, padding_mask=padding_mask)
    torch.testing.assert_close(evaluated, trained.detach(), rtol=1e-5, atol=1e-6)


@every_head
def test_runs_under_autocast(name: str) -> None:
    head = make_head(name).eval()
    frames, cls, padding_mask = make_batch(40, [40, 20])
    expected = head(frames, cls=cls, padding_mask=padding_mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = head(frames, cls=cls, padding_mask=padding_mask)
    got.float().sum().backward()
    error = (got.float() - expected).norm() / expected.norm()
    assert error < 0.05


def test_attention_pools_the_mean_at_first() -> None:
    """Zero queries weigh every valid frame alike."""
    head = make_head("attention").eval()
    with torch.no_grad():
        head.queries.zero_()
    frames, _, padding_mask = make_batch(9, [9, 4])
    got = head(frames, padding_mask=padding_mask)
    means = torch.stack([frames[0].mean(dim=0), frames[1, :4].mean(dim=0)])
    torch.testing.assert_close(got, head.projection(head.norm(head.value(means))), rtol=1e-4, atol=1e-5)


def test_attention_needs_no_cls_and_heads_that_divide() -> None:
    head = make_head("attention")
    assert head(torch.randn(2, 5, INPUT_DIM)).shape == (2, OUTPUT_DIM)
    with pytest.raises(ValueError, match=r"divisor of input_dim .10., got 4"):
        AttentionPoolingHead.Settings(input_dim=10, heads=4)


def test_attention_base_size() -> None:
    with torch.device("meta"):
        head = SPEECH_HEADS["attention"](AttentionPoolingHead.Settings())
    d = 768
    expected = 12 * d + (d * d + d) + 2 * d + (d * 2 * d + 2 * d) + (2 * d * d + d)
    assert sum(p.numel() for p in head.parameters()) == expected == 2_962_944
