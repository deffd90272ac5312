"""Distances of all token pairs that cells need, and each cell's error.

The index work (`Comparison`) is done once; every layer then costs its distances and a few gathers.

Shapes: P token pairs, C cells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairseq_vgs.evaluation.abx.distances import DISTANCES, unit_length
from fairseq_vgs.evaluation.abx.dtw import dtw_distance
from fairseq_vgs.evaluation.abx.plan import Plan

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_MAX_PAIRS = 8192  # of a chunk
_MAX_NUMBERS = 1 << 22  # feature values, or frame distances, of a chunk


@dataclass(frozen=True)
class _Batch:
    """Cells whose groups have the same sizes: places of their distances in the table of all."""

    cells: IntArray
    x_to_a: Tensor
    x_to_b: Tensor


@dataclass(frozen=True)
class Comparison:
    """Token pairs and where cells find their distances.

    Attributes:
        first: int64[P] positions of tokens, each lower than ``second``'s: so a distance has one value
            whichever of its tokens is x.
        second: int64[P].
        batches: all cells.
        n_cells: C.
    """

    first: IntArray
    second: IntArray
    batches: tuple[_Batch, ...]
    n_cells: int


def make_comparison(plan: Plan, *, device: str = "cpu") -> Comparison:
    """Find the token pairs and lay out the distance table; the last entry of the table is infinite.

    Args:
        plan: groups and cells.
        device: where the index tensors go.
    """
    blocks: dict[tuple[int, int], IntArray] = {}
    first: list[IntArray] = []
    second: list[IntArray] = []
    n_pairs = 0

    def block(rows: int, columns: int) -> IntArray:
        """Places of the distances of group x group; a token's to itself is none (-1)."""
        nonlocal n_pairs
        if rows > columns:
            return block(columns, rows).T
        if (rows, columns) not in blocks:
            left, right = plan.groups[rows], plan.groups[columns]
            i, j = np.triu_indices(len(left), 1) if rows == columns else _all(len(left), len(right))
            places = np.full((len(left), len(right)), -1, dtype=np.int64)
            places[i, j] = np.arange(n_pairs, n_pairs + len(i))
            if rows == columns:
                places[j, i] = places[i, j]
            first.append(np.minimum(left[i], right[j]))
            second.append(np.maximum(left[i], right[j]))
            blocks[rows, columns] = places
            n_pairs += len(i)
        return blocks[rows, columns]

    shapes: dict[tuple[int, int, int], list[tuple[int, IntArray, IntArray]]] = defaultdict(list)
    for cell, (a, b, x) in enumerate(plan.cell_groups.tolist()):
        sizes = (len(plan.groups[x]), len(plan.groups[a]), len(plan.groups[b]))
        shapes[sizes].append((cell, block(x, a), block(x, b)))
    batches = tuple(
        _Batch(
            np.array([cell for cell, _, _ in found], dtype=np.int64),
            torch.from_numpy(np.stack([to_a for _, to_a, _ in found])).to(device),
            torch.from_numpy(np.stack([to_b for _, _, to_b in found])).to(device),
        )
        for found in shapes.values()
    )
    return Comparison(np.concatenate(first), np.concatenate(second), batches, len(plan.cell_groups))


def pair_distances(
    frames: Tensor, starts: IntArray, lengths: IntArray, comparison: Comparison, *, distance: str
) -> Tensor:
    """Compute the DTW distance of every token pair.

    Args:
        frames: f[frames, D] of all files, on the device to compute on.
        starts: int64[tokens] first frame of each token.
        lengths: int64[tokens] frames of each token; at least 1 where the token is in a pair.
        comparison: the pairs.
        distance: name of a frame distance.

    Returns:
        f[P].
    """
    measure = DISTANCES[distance]
    if distance == "angular":
        frames = unit_length(frames)
    n_rows, n_columns = lengths[comparison.first], lengths[comparison.second]
    order = np.lexsort((n_columns, n_rows))
    result = torch.empty(len(order), dtype=frames.dtype, device=frames.device)
    for chunk in _chunks(order, n_rows, n_columns, frames.size(1)):
        rows = _gather(frames, starts[comparison.first[chunk]], n_rows[chunk])
        columns = _gather(frames, starts[comparison.second[chunk]], n_columns[chunk])
        cost = measure(rows, columns).to(frames.dtype)
        found = dtw_distance(
            cost,
            torch.from_numpy(n_rows[chunk]).to(frames.device),
            torch.from_numpy(n_columns[chunk]).to(frames.device),
        )
        result[torch.from_numpy(chunk).to(frames.device)] = found
    return result


def cell_errors(distances: Tensor, comparison: Comparison) -> FloatArray:
    """Return each cell's share of triples where x is closer to b than to a, ties counting half.

    Args:
        distances: f[P].
        comparison: the cells.

    Returns:
        f64[C] in 0..1.
    """
    table = torch.cat([distances, distances.new_full((1,), torch.inf)])
    errors = np.empty(comparison.n_cells)
    for batch in comparison.batches:
        # Sorting the distances to a lets one search count, for every b, the a below it and the a tied with
        # it; x itself stands at infinity, where it counts as neither.
        to_a = table[batch.x_to_a].sort(dim=-1).values
        to_b = table[batch.x_to_b].contiguous()
        below = torch.searchsorted(to_a, to_b, right=False)
        not_above = torch.searchsorted(to_a, to_b, right=True)
        n_a = (batch.x_to_a[0, 0] >= 0).sum()
        twice = (2 * n_a - below - not_above).sum(dim=(1, 2))
        n_triples = n_a * to_b.size(1) * to_b.size(2)
        errors[batch.cells] = (twice.double() / (2 * n_triples)).cpu().numpy()
    return errors


def _all(n_rows: int, n_columns: int) -> tuple[IntArray, IntArray]:
    i, j = np.indices((n_rows, n_columns)).reshape(2, -1)
    return i, j


def _chunks(order: IntArray, n_rows: IntArray, n_columns: IntArray, n_dims: int) -> Iterator[IntArray]:
    """Cut the pairs, sorted by length, so that no chunk holds more than `_MAX_NUMBERS` or `_MAX_PAIRS`."""
    start = 0
    while start < len(order):
        stop = min(start + _MAX_PAIRS, len(order))
        while True:
            height, width = int(n_rows[order[start:stop]].max()), int(n_columns[order[start:stop]].max())
            numbers = max((height + width) * n_dims, height * (height + width))
            fitting = max(1, _MAX_NUMBERS // numbers)
            if stop - start <= fitting:
                break
            stop = start + max(fitting, (stop - start) // 2)
        yield order[start:stop]
        start = stop


def _gather(frames: Tensor, starts: IntArray, lengths: IntArray) -> Tensor:
    """Stack tokens of different lengths: f[P, N, D]; beyond a token's end its last frame repeats."""
    steps = np.minimum(np.arange(int(lengths.max()))[None], lengths[:, None] - 1)
    return frames[torch.from_numpy(starts[:, None] + steps).to(frames.device)]
