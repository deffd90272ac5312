"""`attend` against torch's own attention, without dropout, and with the same weights dropped."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fairseq_vgs.modules import attention
from fairseq_vgs.modules.attention import attend, project_heads
from fairseq_vgs.modules.dropout import draw_dropped

NEARLY_NONE = 1e-7  # dropout that drops nothing, but is computed by our own code in every type
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True, params=[1 << 18, 50], ids=["at once", "in parts"])
def parts(request, monkeypatch):
    monkeypatch.setattr(attention, "_AT_ONCE", request.param)


def tensors(dtype, *, n_tokens=9, padded=True):
    generator = torch.Generator().manual_seed(0)
    found = [torch.randn(n_tokens, 3, 2, 8, generator=generator, dtype=torch.float64) for _ in range(4)]
    query, key, value, gradient = (x.to(dtype).permute(1, 2, 0, 3) for x in found)
    padding = torch.arange(n_tokens) >= torch.tensor([[n_tokens], [4], [1]]) if padded else None
    return query, key, value, gradient, padding


def results(function, query, key, value, gradient):
    inputs = [x.detach().clone().requires_grad_() for x in (query, key, value)]
    output = function(*inputs)
    output.backward(gradient)
    return [output, *(x.grad for x in inputs)]


def assert_near(found, expected, dtype):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_without_dropout_it_equals_torchs(dtype, padded):
    *arguments, padding = tensors(dtype, padded=padded)
    exact = [x.double() for x in arguments]
    mask = None if padding is None else ~padding[:, None, None]
    expected = results(lambda *qkv: F.scaled_dot_product_attention(*qkv, attn_mask=mask), *exact)
    found = results(lambda *qkv: attend(*qkv, padding=padding, dropout=NEARLY_NONE), *arguments)
    assert_near(found, expected, dtype)
    if dtype == torch.bfloat16:
        found = results(lambda *qkv: attend(*qkv, padding=padding, dropout=0.0), *arguments)
        assert_near(found, expected, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_with_dropout_it_drops_weights(dtype):
    *arguments, padding = tensors(dtype)
    n_rows, heads, n_tokens, dim = arguments[0].shape
    torch.manual_seed(4)
    kept = (draw_dropped((n_rows, heads, n_tokens, n_tokens), 0.3) >= 0).double() / 0.7

    def plain(query, key, value):
        scores = query @ key.transpose(2, 3) / dim**0.5
        scores = scores.masked_fill(padding[:, None, None], -torch.inf)
        return (scores.softmax(dim=3) * kept) @ value

    expected = results(plain, *(x.double() for x in arguments))
    torch.manual_seed(4)
    found = results(lambda *qkv: attend(*qkv, padding=padding, dropout=0.3), *arguments)
    assert_near(found, expected, dtype)


def test_padding_has_no_influence():
    query, key, value, _, padding = tensors(torch.bfloat16)
    clean = attend(query, key, value, padding=padding, dropout=0.0)
    dirty = [x.masked_fill(padding[:, None, :, None], 7.0) for x in (key, value)]
    assert torch.equal(attend(query, *dirty, padding=padding, dropout=0.0), clean)


def test_gradients_are_those_of_the_function():
    *arguments, _, padding = tensors(torch.float64, n_tokens=4, padded=False)

    def attended(*qkv):
        torch.manual_seed(9)
        return attend(*qkv, padding=padding, dropout=0.4)

    assert torch.autograd.gradcheck(attended, [x.clone().requires_grad_() for x in arguments])


@pytest.mark.parametrize(("dtype", "n_tokens"), [(torch.float32, 9), (torch.bfloat16, attention.LONGEST + 1)])
def test_torch_computes_what_it_is_good_at(dtype, n_tokens, monkeypatch):
    *arguments, _, padding = tensors(dtype, n_tokens=n_tokens)
    monkeypatch.setattr(attention._Attention, "apply", None)
    expected = F.scaled_dot_product_attention(*arguments, attn_mask=~padding[:, None, None])
    assert torch.equal(attend(*arguments, padding=padding, dropout=0.0), expected)


def test_joint_projections_equal_separate_ones():
    torch.manual_seed(0)
    linears = [nn.Linear(6, 8) for _ in range(3)]
    x = torch.randn(2, 5, 6)
    for linear, found in zip(linears, project_heads(x, linears, heads=4), strict=True):
        torch.testing.assert_close(found, linear(x).view(2, 5, 4, 2).transpose(1, 2))
