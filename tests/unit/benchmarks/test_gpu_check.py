"""The parts of benchmarks/gpu_check.py run on a CPU; what they measure is not looked at."""

import json
import sys
from argparse import Namespace

import pytest
import torch

from benchmarks import gpu_check


@pytest.fixture
def args(tmp_path):
    return Namespace(output=tmp_path, device="cpu", parts=["nccl"])


def test_limits_add_up_to_eight_minutes():
    assert gpu_check.LIMITS.keys() == gpu_check.PARTS.keys()
    assert sum(gpu_check.LIMITS.values()) <= 480


def test_differences_are_relative():
    assert gpu_check.relative(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0])) == pytest.approx(0.1)


def test_a_comparison_of_the_cpu_with_itself_is_exact_in_f32(args):
    found = gpu_check.correct(args)
    assert set(found["f32"]) == {
        "SSL loss",
        "VGS loss",
        "gradients",
        "speech embeddings",
        "picture embeddings",
    }
    assert max(found["f32"].values()) < 1e-5
    assert 0 < max(found["as trained"].values()) < gpu_check.TOLERANCES["as trained"]


def test_a_difference_fails(args, monkeypatch):
    monkeypatch.setitem(gpu_check.TOLERANCES, "as trained", 1e-9)
    with pytest.raises(AssertionError, match="as trained"):
        gpu_check.correct(args)


def test_a_scenario_trains(monkeypatch):
    monkeypatch.setattr(gpu_check, "N_UPDATES", 2)
    assert gpu_check._ten_updates("w2v2_then_vgs", "cpu")["updates"] == 2


def test_parts_that_fail_or_hang_do_not_stop_the_others(tmp_path):
    with (tmp_path / "log").open("w") as log:
        assert gpu_check._status([sys.executable, "-c", ""], log, 60) == "good"
        assert gpu_check._status([sys.executable, "-c", "exit(3)"], log, 60).startswith("failed (3)")
        hanging = [sys.executable, "-c", "import time; time.sleep(60)"]
        assert gpu_check._status(hanging, log, 1) == "stopped after 1 s"


def test_errors_are_read_of_all_layers(tmp_path):
    layers = {"layer_0": {"value": 41.0, "unit": "%"}, "layer_1": {"value": 12.5, "unit": "%"}}
    metrics = {"models": {"trained": {"metrics": layers}}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert gpu_check.abx_errors(tmp_path) == [41.0, 12.5]


def test_the_table_has_a_row_per_value():
    parts = {"speed": {"status": "good", "seconds": 3.2, "found": {"ours": {"GiB": 1.234}, "n": 2}}}
    table = gpu_check.table({"parts": parts, "machine": "a machine"}).splitlines()
    assert table[2:] == [
        "| speed | good | 3 s |", "| | ours: GiB | 1.23 |", "| | n | 2 |", "", "a machine",
    ]  # fmt: skip


def test_a_failed_part_gives_status_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "_status", lambda *_: "failed (1), see the log")
    assert gpu_check.main([str(tmp_path), "--device", "cpu", "--parts", "nccl"]) == 1
    assert "| nccl | failed (1)" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu_check.json").read_text())["parts"]["nccl"]["status"] != "good"
