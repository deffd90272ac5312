"""The compiled warping gives to the bit what the other one gives, and the engine works with either."""

import builtins

import numpy as np
import pytest
import torch

from fairseq_vgs.metrics.abx import dtw_numba
from fairseq_vgs.metrics.abx.dtw import dtw_distance


def draw_pairs(dtype, *, n_pairs=60, ties, seed=0):
    """Draw a table of frame distances with gaps between rows and pairs, and where the pairs lie in it."""
    generator = np.random.default_rng(seed)
    n_rows, n_columns = generator.integers(1, 9, (2, n_pairs))
    width = n_columns + generator.integers(0, 3, n_pairs)
    size = n_rows * width
    offset = np.cumsum(size) - size
    numbers = generator.integers(0, 3, size.sum()) if ties else generator.random(size.sum())
    return numbers.astype(dtype), offset, width, n_rows, n_columns


def expected_of(table, offset, width, n_rows, n_columns):
    i, j = np.arange(n_rows.max())[:, None, None], np.arange(n_columns.max())[None, :, None]
    places = np.minimum(offset + i * width + j, len(table) - 1)
    cost = torch.from_numpy(table)[torch.from_numpy(places)]
    return dtw_distance(cost, torch.from_numpy(n_rows), torch.from_numpy(n_columns)).numpy()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_to_the_bit(dtype, ties):
    pairs = draw_pairs(dtype, ties=ties)
    expected = expected_of(*pairs)
    for kernel in (dtw_numba.load_kernel(), dtw_numba._warp):  # compiled, and as it is written
        found = kernel(*pairs)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


def test_without_numba_there_is_no_kernel(monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == "numba":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert dtw_numba.load_kernel.__wrapped__() is None
