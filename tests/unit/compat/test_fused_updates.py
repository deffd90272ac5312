"""Fused updates are fairseq's: same weights, norms and checkpoints, up to rounding."""

import copy

import pytest
import torch
from fairseq import utils
from fairseq.optim import adam
from fairseq.optim.fairseq_optimizer import FairseqOptimizer

from fairseq_vgs.compat import fused_updates

SETTINGS = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-3, "weight_decay": 0.1}
CLIP = utils.clip_grad_norm_.__wrapped__


@pytest.fixture(autouse=True)
def fused_on_the_cpu(monkeypatch):
    monkeypatch.setattr(fused_updates, "FUSED_DEVICES", {"cuda", "cpu"})


def parameters():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (5,), ())]


def set_gradients(params, update):
    """Give a gradient to every parameter; the second gets none in the first three updates."""
    torch.manual_seed(100 + update)
    for number, parameter in enumerate(params):
        gradient = torch.randn(parameter.shape)
        parameter.grad = None if number == 1 and update < 3 else gradient


def train(optimizer, params, updates):
    for update in updates:
        set_gradients(params, update)
        optimizer.step()
    return [parameter.detach().clone() for parameter in params]


def original(optimizer, params, updates, monkeypatch):
    """Train on with fairseq's own steps."""
    with monkeypatch.context() as patch:
        patch.setattr(fused_updates, "FUSED_DEVICES", set())
        patch.setattr(torch, "_fused_adamw_", unexpected)
        return train(optimizer, params, updates)


def unexpected(*_):
    raise AssertionError("this way was not expected")


def test_it_is_applied_once():
    assert not fused_updates.fuse_updates()


def test_steps_are_fairseqs(monkeypatch):
    params = parameters()
    expected = original(adam.Adam(params, **SETTINGS), params, range(8), monkeypatch)
    params, kernel, calls = parameters(), torch._fused_adamw_, []
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *args, **kw: (calls.append(1), kernel(*args, **kw)))
    actual = train(adam.Adam(params, **SETTINGS), params, range(8))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    assert (actual[0] - parameters()[0]).abs().min() > 1e-3
    assert len(calls) == 3 + 5 * 2  # from the fourth update on, weights are at two steps


@pytest.mark.parametrize("fused_first", [True, False])
def test_checkpoints_of_either_go_on_with_the_other(fused_first, monkeypatch):
    ways = [train, lambda *args: original(*args, monkeypatch)]
    first, second = ways if fused_first else ways[::-1]
    params = parameters()
    expected = original(adam.Adam(params, **SETTINGS), params, range(8), monkeypatch)
    params = parameters()
    optimizer, resumed = (adam.Adam(params, **SETTINGS) for _ in range(2))
    first(optimizer, params, range(4))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    torch.testing.assert_close(second(resumed, params, range(4, 8)), expected, rtol=1e-5, atol=1e-6)


def test_half_precision_is_left_to_fairseq(monkeypatch):
    monkeypatch.setattr(torch, "_fused_adamw_", unexpected)
    params = [torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))]
    params[0].grad = torch.ones(3, dtype=torch.bfloat16)
    adam.Adam(params, **SETTINGS).step()
    assert params[0].max() < 1


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 100.0])
def test_gradients_are_clipped_as_fairseq_does(max_norm):
    expected, actual = parameters(), parameters()
    for params in (expected, actual):
        set_gradients(params, 0)
    norms = CLIP(expected, max_norm), utils.clip_grad_norm_(actual, max_norm)
    torch.testing.assert_close(*norms)
    for one, other in zip(expected, actual, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("factor", [0.25, torch.tensor(0.25)])
def test_gradients_are_scaled_as_fairseq_does(factor):
    params = parameters()
    set_gradients(params, 0)
    expected = [None if parameter.grad is None else parameter.grad / 4 for parameter in params]
    optimizer = FairseqOptimizer(None)
    optimizer._optimizer = adam.Adam(params, **SETTINGS)
    optimizer.multiply_grads(factor)
    torch.testing.assert_close(
        [parameter.grad for parameter in params if parameter.grad is not None],
        [gradient for gradient in expected if gradient is not None],
    )
