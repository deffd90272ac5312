"""Phone ABX equals fastabx on recorded figures (`record_abx_fastabx.py`)."""

import json
from pathlib import Path

import pytest
import torch
from support.abx_material import random_material

from fairseq_vgs.metrics.abx import abx_scores

GOLDEN = json.loads(Path(__file__).with_name("abx_fastabx.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", GOLDEN["figures"], ids=lambda case: "-".join(map(str, case.values())))
def test_equals_fastabx(case):
    items, drawn = random_material(**GOLDEN["material"])
    features = {}
    for file, frames in drawn.items():
        found = torch.from_numpy(frames)
        if case["distance"] == "kl_symmetric":
            found = found.softmax(-1)
        if case["distance"] == "identical":
            found = found.argmax(-1, keepdim=True)
        features[file] = {"drawn": found.float()}
    condition = {key: case[key] for key in ("speaker", "context", "distance")}
    result = abx_scores(features, items, max_size_group=None, max_x_across=None, **condition)["drawn"]
    assert 0.05 < case["error"] < 0.45  # neither easy nor at chance, where a fault would not show
    assert result.error == pytest.approx(case["error"], abs=1e-6)
