import math

import pytest
import torch
import torch.nn.functional as F

from fairseq_vgs.modules.dropout import FastDropout, draw_dropped, dropout, drops_some, flag


@pytest.mark.parametrize("p", [0.1, 0.5, 0.87, 1 / 256])
def test_masks_are_bernoulli(p):
    torch.manual_seed(1)
    n = 4_000_003
    dropped = draw_dropped((n,), p) < 0
    spread = math.sqrt(n * p * (1 - p))
    assert abs(int(dropped.sum()) - n * p) < 4 * spread + n * 2**-16
    # the four values that share a random word, and neighbours of all distances up to there, are independent
    for distance in range(1, 9):
        both = (dropped[:-distance] & dropped[distance:]).double().mean().item()
        assert both == pytest.approx(p * p, abs=6 * math.sqrt(p * p * (1 - p * p) / n) + 2**-15)
    for lane in range(4):
        share = dropped[lane::4].double().mean().item()
        assert share == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) * 4 / n) + 2**-16)


def test_masks_follow_from_the_seed_and_from_the_state():
    torch.manual_seed(5)
    first = draw_dropped((7, 33), 0.3)
    state = torch.get_rng_state()
    second = draw_dropped((7, 33), 0.3)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(draw_dropped((7, 33), 0.3), second)
    torch.manual_seed(5)
    assert torch.equal(draw_dropped((7, 33), 0.3), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("contiguous", [True, False])
def test_values_and_gradients_are_dropped_alike_and_scaled(dtype, contiguous):
    x = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = (x if contiguous else x.transpose(0, 2)).requires_grad_()
    torch.manual_seed(2)
    y = dropout(x, 0.25)
    y.sum().backward()
    torch.manual_seed(2)
    kept = draw_dropped(x.shape, 0.25) >= 0
    assert kept.any()
    assert not kept.all()
    assert y.dtype == dtype
    torch.testing.assert_close(
        y, x.detach() / 0.75 * kept, rtol=2e-2 if dtype == torch.bfloat16 else 1e-6, atol=0
    )
    torch.testing.assert_close(x.grad, (kept / 0.75).to(dtype))


def test_a_dropped_value_is_zero_even_if_it_was_infinite():
    torch.manual_seed(0)
    y = dropout(torch.full((100,), math.inf), 0.5)
    assert set(y.tolist()) == {0.0, math.inf}


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_or_nothing_is_torchs(p):
    x = torch.randn(10)
    assert not drops_some(p)
    assert torch.equal(dropout(x, p), F.dropout(x, p))


def test_the_module_is_torchs_unless_it_is_fast_and_trains():
    x = torch.ones(1000)
    module = FastDropout(0.5)
    torch.manual_seed(3)
    plain = module(x)
    torch.manual_seed(3)
    assert torch.equal(plain, F.dropout(x, 0.5))
    module.fast = True
    torch.manual_seed(3)
    assert not torch.equal(module(x), plain)
    assert torch.equal(module.eval()(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_flags_change_the_sign_alone(dtype):
    values = torch.tensor([0.0, 0.5, 1.0, 0.25], dtype=dtype)
    flagged = flag(values.clone(), torch.tensor([-1, -30_000, 0, 7], dtype=torch.int16))
    assert torch.equal(flagged.signbit(), torch.tensor([True, True, False, False]))
    assert torch.equal(flagged.abs(), values)
