"""A recorded loss trace: a change of the arithmetic, of the data order or of a default shows here.

After an intended change run ``VGS_RECORD_GOLDEN=1 python -m pytest tests/golden``, look at the difference and
commit it with the reason.
"""

import json
import os
from pathlib import Path

import pytest
from support.train import history, small_folder, train

GOLDEN = Path(__file__).with_name("vgs_plus_trace.json")
KEYS = (
    "loss",
    "ssl_contrastive",
    "ssl_diversity",
    "ssl_feature_penalty",
    "vgs_loss",
    "code_perplexity",
    "gnorm",
)
# Other processors and versions of torch round differently, and training amplifies it.
RELATIVE_TOLERANCE = 2e-3


def test_five_updates_of_vgs_plus(tmp_path):
    data = small_folder(tmp_path / "data")
    train(
        "vgs_plus", tmp_path / "run", f"task.data={data}", "optimization.max_update=5", "dataset.batch_size=8"
    )
    trace = {
        str(update): {key: record[key] for key in KEYS}
        for update, record in sorted(history(tmp_path / "run").items())
    }
    if os.environ.get("VGS_RECORD_GOLDEN"):
        GOLDEN.write_text(json.dumps(trace, indent=2) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert trace.keys() == golden.keys()
    for update, expected in golden.items():
        assert trace[update] == pytest.approx(expected, rel=RELATIVE_TOLERANCE), f"update {update}"
