"""Dynamic time warping on a CPU, compiled by numba: bit-identical to ``dtw_distance``, many times faster.

numba is optional (the extra ``abx``); without it, and on GPUs, ``dtw_distance`` does the work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.arrays import I64

Kernel = Callable[..., npt.NDArray[Any]]


@functools.cache
def load_kernel() -> Kernel | None:
    """Compile ``_warp``, or read what an earlier process compiled; None where numba is not installed."""
    try:
        from numba import njit
    except ImportError:
        return None
    compile_with = functools.partial(njit, nogil=True, error_model="numpy")
    try:
        compiled: Kernel = compile_with(cache=True)(_warp)
    except RuntimeError:  # nowhere to keep it
        compiled = compile_with()(_warp)
    return compiled


def _warp(table: npt.NDArray[Any], offset: I64, width: I64, n_rows: I64, n_columns: I64) -> npt.NDArray[Any]:
    """Warp P token pairs, n_rows x n_columns, whose row i begins at offset + i * width of the table.

    The table holds all frame distances, f32 or f64 in one axis; the others are int64[P]. The result is f[P],
    of the table's type.
    """
    real = table.dtype.type
    found = np.empty(len(offset), table.dtype)
    # Two rows of the table of path costs and of path lengths; column 0 is left of the first frame.
    cost = np.empty((2, n_columns.max() + 1), table.dtype)
    cells = np.empty_like(cost)
    for pair in range(len(offset)):
        above = 0
        cost[above, : n_columns[pair] + 1] = np.inf
        for row in range(n_rows[pair]):
            own = 1 - above
            cost[own, 0] = np.inf
            start = offset[pair] + row * width[pair]
            for column in range(n_columns[pair]):
                corner, up, left = cost[above, column], cost[above, column + 1], cost[own, column]
                if row == 0 and column == 0:
                    best, length = real(0), real(0)
                elif corner <= up and corner <= left:
                    best, length = corner, cells[above, column]
                elif left <= up:
                    best, length = left, cells[own, column]
                else:
                    best, length = up, cells[above, column + 1]
                cost[own, column + 1] = best + table[start + column]
                cells[own, column + 1] = length + real(1)
            above = own
        found[pair] = cost[above, n_columns[pair]] / cells[above, n_columns[pair]]
    return found
