"""From the error of every cell to one number, in the field's order of averaging.

Contexts (across speakers: contexts and x-speakers together), then speakers, then ordered phone pairs. The
order matters, since cells are not equally many everywhere.

Shapes: C cells, O ordered phone pairs.
"""

from __future__ import annotations

import numpy as np

from fairseq_vgs.arrays import F64, I64
from fairseq_vgs.evaluation.metrics.abx.plan import AbxCells


def pair_errors(cells: AbxCells, cell_errors: F64) -> F64:
    """Average within ordered phone pairs: over contexts (and x-speakers), then speakers.

    Args:
        cells: what the cells are.
        cell_errors: f64[C] shares in 0..1.

    Returns:
        f64[O], in the order of ``cells.pairs``.
    """
    if cell_errors.shape != cells.pair.shape:
        raise ValueError(f"cell_errors must have shape {cells.pair.shape}, got {cell_errors.shape}")
    keys, of_cell = np.unique(np.stack([cells.pair, cells.speaker]), axis=1, return_inverse=True)
    by_speaker = _means(cell_errors, of_cell.reshape(-1))
    return _means(by_speaker, keys[0])


def collapsed_error(cells: AbxCells, cell_errors: F64, *, pair_weights: F64 | None = None) -> float | F64:
    """Average all the way.

    Args:
        cells: what the cells are.
        cell_errors: f64[C] shares in 0..1.
        pair_weights: f64[O], or f64[N, O] for N resamples: how often each ordered phone pair counts; once if
            None.

    Returns:
        A share in 0..1, or f64[N] of them.
    """
    errors = pair_errors(cells, cell_errors)
    if pair_weights is None:
        return float(errors.mean())
    weighted = pair_weights @ errors / pair_weights.sum(axis=-1)
    return float(weighted) if pair_weights.ndim == 1 else weighted


def _means(values: F64, group: I64) -> F64:
    means: F64 = np.bincount(group, weights=values) / np.bincount(group)
    return means
