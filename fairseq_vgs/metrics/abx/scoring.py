"""Compute the distances of all token pairs, each cell's error, and one number from them.

Errors are averaged in the field's order: contexts (across speakers: contexts and x-speakers together), then
speakers, then ordered phone pairs. The order matters, since cells are not equally many everywhere.

Shapes: C cells, P token pairs, O ordered phone pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from fairseq_vgs.arrays import F64, I64
from fairseq_vgs.metrics.abx import dtw_numba
from fairseq_vgs.metrics.abx.distances import DISTANCES
from fairseq_vgs.metrics.abx.dtw import dtw_distance
from fairseq_vgs.metrics.abx.layout import Bundle, CellSide, Layout
from fairseq_vgs.metrics.abx.plan import AbxCells

_MAX_WARPED = 1 << 20  # frame distances of the token pairs that are warped together
_PAIRS_WORTH_A_BAND = 2048
_PAIRS_WORTH_COMPILING = 1 << 19  # reading what numba compiled costs 0.7 s and 100 MB, compiling it 3 s
_MAX_COMPARED = 1 << 22  # distances of the cells that are scored together


def paths_may_tie(frames: Tensor, numbers: I64) -> bool:
    """Tell whether f[frames, D] with some numbers repeat or are whole, as units and one-hot vectors are.

    Then different paths cost exactly the same, and a token pair's distance depends on which of the two is x:
    see ``dtw_distance``. The paths of other features tie by chance at most.
    """
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[frames.element_size()]
    generator, limits = torch.Generator().manual_seed(1), torch.iinfo(torch.int64)
    weights = torch.randint(limits.min, limits.max, (frames.shape[1],), generator=generator)
    weights = weights.to(frames.device)
    codes, is_whole = [], True
    for some in _on(frames, numbers).split(max(1, _MAX_COMPARED // frames.shape[1])):
        rows = frames[some] + 0.0  # minus zero becomes zero
        is_whole = is_whole and bool((rows == rows.round()).all())
        # Sums overflow, and are the same for the same bits in any order.
        codes.append((rows.view(bits).long() * weights).sum(dim=1))
    return is_whole or len(torch.unique(torch.cat(codes))) < len(numbers)


def token_distances(frames: Mapping[str, Tensor], layout: Layout, *, distance: str) -> dict[str, Tensor]:
    """Compute the DTW distance of every token pair in every layer, on the device of its frames.

    Args:
        frames: layer -> f[frames, D], prepared as the distance wants it.
        layout: what to compute, and where it goes.
        distance: name of a frame distance.

    Returns:
        layer -> f[``Layout.n_distances``]; infinite where a token would meet itself.
    """
    distances = {name: layer.new_full((layout.n_distances,), torch.inf) for name, layer in frames.items()}
    worth = len(frames) * layout.n_distances >= _PAIRS_WORTH_COMPILING
    kernel = dtw_numba.load_kernel() if worth else None
    for bundle in layout.bundles():
        chunks = list(_chunks(bundle))
        for name, layer in frames.items():
            table = _frame_distances(layer, layout, bundle, distance=distance)
            for chunk in chunks:
                found = _warp(table, bundle, chunk, kernel)
                for places in (bundle.place[chunk], bundle.mirrored[chunk]):
                    distances[name][_on(table, places)] = found
    return distances


def cell_errors(distances: Mapping[str, Tensor], layout: Layout) -> dict[str, F64]:
    """Return f64[C] for each layer: shares of triples where x is closer to b than to a, ties counting half.

    ``distances``: layer -> f[``Layout.n_distances``].
    """
    errors = {name: np.empty(len(layout.sizes)) for name in distances}
    for cells in _alike(layout.sizes):
        n_a, n_b, n_x = layout.sizes[cells[0]].tolist()
        to_a = _places(layout.to_a, cells, n_x, n_a)
        to_b = _places(layout.to_b, cells, n_x, n_b)
        for name, table in distances.items():
            # Sorting the distances to a lets one search count, for every b, the a below it and the a tied
            # with it; x itself is at infinity, where it counts as neither.
            known = table[_on(table, to_a)].sort(dim=-1).values
            asked = table[_on(table, to_b)]
            below = torch.searchsorted(known, asked, right=False)
            not_above = torch.searchsorted(known, asked, right=True)
            n_compared = torch.isfinite(known).sum(dim=(1, 2)) * n_b
            twice = 2 * n_compared - (below + not_above).sum(dim=(1, 2))
            errors[name][cells] = (twice.double() / (2 * n_compared)).cpu().numpy()
    return errors


def pair_errors(cells: AbxCells, cell_errors: F64) -> F64:
    """Average f64[C] errors within ordered phone pairs: f64[O], in the order of ``cells.pairs``."""
    if cell_errors.shape != cells.pair.shape:
        raise ValueError(f"cell_errors must have shape {cells.pair.shape}, got {cell_errors.shape}")
    keys, of_cell = np.unique(np.stack([cells.pair, cells.speaker]), axis=1, return_inverse=True)
    return _means(_means(cell_errors, of_cell.reshape(-1)), keys[0])


def collapsed_error(cells: AbxCells, cell_errors: F64) -> float:
    """Average f64[C] errors to one number."""
    return float(pair_errors(cells, cell_errors).mean())


def _means(values: F64, group: I64) -> F64:
    means: F64 = np.bincount(group, weights=values) / np.bincount(group)
    return means


def _frame_distances(frames: Tensor, layout: Layout, bundle: Bundle, *, distance: str) -> Tensor:
    measure = DISTANCES[distance]
    numbers = _on(frames, layout.frames)
    table = frames.new_empty(bundle.n_frame_distances)
    start = 0
    for block in bundle.blocks:
        rows = frames.index_select(0, numbers[block.rows])
        columns = rows if block.is_square else frames.index_select(0, numbers[block.columns])
        stop = start + len(rows) * len(columns)
        table[start:stop].view(len(rows), len(columns)).copy_(measure.between(rows, columns))
        start = stop
    return measure.finish(table)


def _chunks(bundle: Bundle) -> Iterator[I64]:
    """Sort pairs by their lengths and cut them so that few frame distances are looked at in vain."""
    n_bands = math.isqrt(len(bundle.offset) // _PAIRS_WORTH_A_BAND) + 1
    for band in np.array_split(np.argsort(bundle.n_rows, kind="stable"), n_bands):
        yield from _cut(bundle, band[np.argsort(bundle.n_columns[band], kind="stable")])


def _cut(bundle: Bundle, order: I64) -> Iterator[I64]:
    start = 0
    while start < len(order):
        stop = len(order)
        while True:
            height = int(bundle.n_rows[order[start:stop]].max())
            width = int(bundle.n_columns[order[start:stop]].max())
            fitting = max(1, _MAX_WARPED // (height * (height + width)))
            if stop - start <= fitting:
                break
            stop = start + max(fitting, (stop - start) // 2)
        yield order[start:stop]
        start = stop


def _warp(table: Tensor, bundle: Bundle, chunk: I64, kernel: dtw_numba.Kernel | None) -> Tensor:
    n_rows, n_columns = bundle.n_rows[chunk], bundle.n_columns[chunk]
    if kernel is not None and table.device.type == "cpu":
        found = kernel(table.numpy(), bundle.offset[chunk], bundle.width[chunk], n_rows, n_columns)
        return torch.from_numpy(found)
    i, j = np.arange(n_rows.max())[:, None, None], np.arange(n_columns.max())[None, :, None]
    # Beyond a pair's own frames this reads those of others, which no path of the pair goes through.
    places = np.minimum(bundle.offset[chunk] + i * bundle.width[chunk] + j, len(table) - 1)
    return dtw_distance(table[_on(table, places)], _on(table, n_rows), _on(table, n_columns))


def _alike(sizes: I64) -> Iterator[I64]:
    """Yield numbers of cells whose groups are of the same sizes, not too many at once."""
    _, kind = np.unique(sizes, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    order = np.argsort(kind, kind="stable")
    for cells in np.split(order, np.flatnonzero(np.diff(kind[order])) + 1):
        n_a, n_b, n_x = sizes[cells[0]].tolist()
        block = max(1, _MAX_COMPARED // (n_x * (n_a + n_b)))
        yield from (cells[start : start + block] for start in range(0, len(cells), block))


def _places(side: CellSide, cells: I64, n_i: int, n_j: int) -> I64:
    offset, step_i, step_j = (part[cells, None, None] for part in (side.offset, side.step_i, side.step_j))
    return offset + np.arange(n_i)[:, None] * step_i + np.arange(n_j) * step_j


def _on(like: Tensor, numbers: I64) -> Tensor:
    return torch.from_numpy(numbers).to(like.device)
