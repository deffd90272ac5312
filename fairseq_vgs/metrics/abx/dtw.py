"""Dynamic time warping of many token pairs at once.

Shapes: P pairs, N and M the most frames of a first and a second token, K = N + M - 1 anti-diagonals.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dtw_distance(cost: Tensor, n_rows: Tensor, n_columns: Tensor) -> Tensor:
    """Return f[P], the accumulated cost of the best path divided by the path's number of cells.

    A cell is reached from its diagonal predecessor if that costs no more than the others, else from the left
    one (previous column) if it costs no more than the upper one. The cells of an anti-diagonal do not depend
    on each other and are computed together.

    Args:
        cost: f[N, M, P] frame distances; what lies beyond a pair's own lengths does not matter, if finite.
        n_rows: int64[P] frames of the first token, 1..N.
        n_columns: int64[P] frames of the second token, 1..M.
    """
    height, width, n_pairs = cost.shape
    skewed = _skewed(cost)
    infinite = cost.new_full((height + 1, n_pairs), torch.inf)
    before_last, last = infinite.clone(), infinite.clone()
    before_last_length, last_length = torch.zeros_like(infinite), torch.zeros_like(infinite)
    total, length = cost.new_empty(n_pairs), cost.new_empty(n_pairs)
    for diagonal, done in enumerate(_by_diagonal(n_rows + n_columns - 2, height + width - 1)):
        current, current_length = infinite.clone(), torch.zeros_like(infinite)
        if diagonal == 0:
            current[1:] = skewed[:, 0]
            current_length[1] = 1.0
        else:
            corner, left, up = before_last[:-1], last[1:], last[:-1]
            side = torch.minimum(left, up)
            torch.add(torch.minimum(corner, side), skewed[:, diagonal], out=current[1:])
            side_length = torch.where(left <= up, last_length[1:], last_length[:-1])
            before = torch.where(corner <= side, before_last_length[:-1], side_length)
            torch.add(before, 1.0, out=current_length[1:])
        if done.numel():
            total[done] = current[n_rows[done], done]
            length[done] = current_length[n_rows[done], done]
        before_last, before_last_length, last, last_length = last, last_length, current, current_length
    return total / length


def _by_diagonal(end: Tensor, n_diagonals: int) -> Sequence[Tensor]:
    """Return the numbers of the pairs, int64[P], that end on each diagonal; the host waits for a GPU once."""
    ends, order = end.sort()
    edges = torch.searchsorted(ends, torch.arange(1, n_diagonals, device=end.device))
    return order.tensor_split(edges.tolist())


def _skewed(cost: Tensor) -> Tensor:
    """Shift row i of f[N, M, P] by i columns: f[N, K, P], infinite outside; anti-diagonals become columns."""
    height, width, n_pairs = cost.shape
    padded = cost.new_full((height, height + width, n_pairs), torch.inf)
    padded[:, :width] = cost
    return padded.view(-1, n_pairs)[: height * (height + width - 1)].view(height, height + width - 1, n_pairs)
