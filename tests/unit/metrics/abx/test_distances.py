"""Frame distances against loops, and where rounding and null vectors would spoil them."""

import numpy as np
import pytest
import torch
from reference import abx_loops

from fairseq_vgs.metrics.abx.distances import DISTANCES


@pytest.mark.parametrize("name", DISTANCES)
def test_equals_loops(name):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (5, 7))
    if name == "kl_symmetric":
        first, second = first.softmax(-1), second.softmax(-1)
    if name == "identical":
        first, second = first.round(), second.round()
    second[0] = first[0]
    found = DISTANCES[name](first, second)
    for i, left in enumerate(first.tolist()):
        for j, right in enumerate(second.tolist()):
            assert float(found[i, j]) == pytest.approx(abx_loops.DISTANCES[name](left, right), abs=1e-12)
    assert float(found[0, 0]) == 0.0
    assert float(found[1, 0]) > 0.0


def test_by_hand():
    first = torch.tensor([[1.0, 0.0]])
    second = torch.tensor([[0.0, 3.0], [-2.0, 0.0], [1.0, 1.0]])
    assert DISTANCES["angular"](first, second).tolist()[0] == pytest.approx([0.5, 1.0, 0.25])
    assert DISTANCES["euclidean"](first, second).tolist()[0] == pytest.approx([10**0.5, 3.0, 1.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_dims", [3, 39, 768])
def test_copies_are_at_distance_nought_wherever_they_stand_in_a_product(dtype, n_dims):
    frame = torch.from_numpy(np.random.RandomState(n_dims).standard_normal(n_dims)).to(dtype)
    found = DISTANCES["angular"](frame.repeat(37, 1), frame.repeat(61, 1) * 3)
    assert found.count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_null_vectors(dtype):
    first = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=dtype)
    assert DISTANCES["angular"](first, first).tolist() == [[0.0, 1.0], [1.0, 0.0]]
