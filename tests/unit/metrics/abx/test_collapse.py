"""The order of averaging, which the number depends on."""

import numpy as np
import pytest

from fairseq_vgs.metrics.abx import AbxCells, collapsed_error, pair_errors

# Pair, speaker, context, error: two pairs, of which the first has two contexts by speaker 0 and one by 1.
ROWS = [(0, 0, 0, 0.1), (0, 0, 1, 0.5), (0, 1, 0, 0.9), (1, 0, 0, 0.4)]


def _cells(rows=ROWS):
    pair, speaker, context, _ = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    cells = AbxCells(
        pairs=(("a", "b"), ("b", "a")),
        speakers=("s", "t"),
        contexts=(("c", "c"), ("d", "d")),
        pair=pair,
        context=context,
        speaker=speaker,
        x_speaker=speaker,
        n_triples=np.full(len(rows), 2),
    )
    return cells, np.array([row[3] for row in rows])


def test_contexts_then_speakers_then_pairs():
    cells, errors = _cells()
    assert pair_errors(cells, errors) == pytest.approx([((0.1 + 0.5) / 2 + 0.9) / 2, 0.4])
    assert collapsed_error(cells, errors) == pytest.approx((0.6 + 0.4) / 2)
    # Not the mean of cells (0.475), nor speakers before contexts: ((0.1 + 0.9) / 2 + 0.5) / 2, then 0.45.
    assert collapsed_error(cells, errors) != pytest.approx(0.475)
    assert collapsed_error(cells, errors) != pytest.approx(0.45)


def test_the_order_of_cells_does_not_matter():
    cells, errors = _cells(ROWS[::-1])
    assert collapsed_error(cells, errors) == pytest.approx(0.5)


def test_errors_of_other_cells_are_refused():
    cells, errors = _cells()
    with pytest.raises(ValueError, match=r"cell_errors must have shape \(4,\), got \(3,\)"):
        collapsed_error(cells, errors[:3])
