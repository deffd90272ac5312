"""From the error of every cell to one number, in the field's order of averaging.

Contexts (across speakers: contexts and x-speakers together), then speakers, then ordered phone pairs. The
order matters, since cells are not equally many everywhere.

Shapes: C cells, O ordered phone pairs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.metrics.abx.plan import AbxCells

FloatArray = npt.NDArray[np.float64]


def pair_errors(cells: AbxCells, cell_errors: FloatArray) -> FloatArray:
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


def collapsed_error(
    cells: AbxCells, cell_errors: FloatArray, *, pair_weights: FloatArray | None = None
) -> float | FloatArray:
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


def _means(values: FloatArray, group: npt.NDArray[np.int64]) -> FloatArray:
    means: FloatArray = np.bincount(group, weights=values) / np.bincount(group)
    return means
