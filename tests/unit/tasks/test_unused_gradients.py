from types import SimpleNamespace

import torch
from support.faults import raises_fault
from torch import nn

from fairseq_vgs.tasks.updates import drop_gradients


def parameters(n):
    made = [nn.Parameter(torch.ones(2)) for _ in range(n)]
    for parameter in made:
        parameter.grad = torch.zeros(2)
    return made


def test_gradients_of_zero_go():
    used, unused = parameters(2)
    drop_gradients(object(), [unused])
    assert used.grad is not None
    assert unused.grad is None


def test_fp32_copies_lose_theirs_too():
    half, copies = parameters(3), parameters(3)
    drop_gradients(SimpleNamespace(fp16_params=half, fp32_params=copies), [half[1]])
    assert [copy.grad is None for copy in copies] == [False, True, False]


def test_flat_copies_are_refused_where_it_matters():
    flat = SimpleNamespace(fp16_params=parameters(1), fp32_params={0: torch.ones(2)})
    drop_gradients(flat, [])
    with raises_fault("setting.value", "common.fp16_no_flatten_grads"):
        drop_gradients(flat, flat.fp16_params)
