"""Warped distances of many pairs at once, against a table filled and walked back cell by cell."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import abx_loops

from fairseq_vgs.metrics.abx.dtw import dtw_distance


def _one(costs):
    cost = torch.tensor(costs, dtype=torch.float64)
    n, m = cost.shape
    return float(dtw_distance(cost[:, :, None], torch.tensor([n]), torch.tensor([m])))


@pytest.mark.parametrize(
    ("costs", "distance"),
    [
        ([[0.7]], 0.7),
        ([[1.0, 2.0, 3.0]], 2.0),  # one way only: 6 / 3
        ([[1.0, 9.0], [9.0, 1.0]], 1.0),  # 2 / 2
        ([[1.0, 1.0], [9.0, 1.0]], 1.0),  # the diagonal: 2 / 2
        ([[0.0, 0.0], [0.0, 6.0]], 3.0),  # three ways of cost 6: the diagonal, 2 cells
        ([[5.0, 0.0, 0.0], [0.0, 9.0, 3.0]], 8 / 3),  # corner and up of the last cell are both 5: three cells
        # The last cell's left (2, 2) and up (1, 3) are both 0, its corner 9. Left: (0, 0), (1, 1), (2, 2) and
        # the end, 4 cells; up would be 5.
        ([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0], [0.0, 0.0, 0.0, 6.0]], 1.5),
    ],
)
def test_by_hand(costs, distance):
    assert _one(costs) == pytest.approx(distance, abs=1e-15)
    assert abx_loops.dtw(costs) == pytest.approx(distance, abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_loops_ties_included(data):
    values = st.sampled_from([0.0, 1.0, 2.0]) | st.floats(0, 2)
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4))
    tables = [
        data.draw(st.lists(st.lists(values, min_size=m, max_size=m), min_size=n, max_size=n))
        for n, m in shapes
    ]
    height, width = max(n for n, _ in shapes), max(m for _, m in shapes)
    cost = torch.full((height, width, len(shapes)), 7.0, dtype=torch.float64)
    for number, ((n, m), table) in enumerate(zip(shapes, tables, strict=True)):
        cost[:n, :m, number] = torch.tensor(table, dtype=torch.float64)
    n_rows, n_columns = (torch.tensor(sizes) for sizes in zip(*shapes, strict=True))
    found = dtw_distance(cost, n_rows, n_columns)
    assert found.tolist() == pytest.approx([abx_loops.dtw(table) for table in tables], abs=1e-12)
