"""docs/scale.md holds the tables of benchmarks/scale.py; the simulation of loading against cases by hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import loading_simulation, million_pairs, scale
from fairseq_vgs.cli.main import main
from fairseq_vgs.manifest import read_pairs

DOCUMENT = Path(__file__).parents[3] / "docs" / "scale.md"


@pytest.mark.parametrize("table", [scale.weekend_table, scale.run_table, scale.disk_table])
def test_the_document_has_the_scripts_tables(table):
    assert "\n".join(table()) in DOCUMENT.read_text(encoding="utf-8")


def test_hours_by_hand():
    """A TFLOP per caption, 64 captions, 100 updates on 1,000 TFLOP/s at a half: 12.8 s."""
    gpu = scale.Gpu("one", 1000, 80)
    tflop = scale.MEASURED.tflop["VGS"]
    assert scale.hours("VGS", 100, gpu, 0.5) == pytest.approx(tflop * 12.8 / 3600)
    assert scale.hours("VGS", 100, gpu, 0.5, n_gpus=4) == pytest.approx(tflop * 12.8 / 3600 / 4 / 0.9)


def test_updates_are_those_of_the_recipe():
    assert scale.updates(70) == 647_640  # run_config=gpu_1
    assert sum(n for _, _, n in scale.plan()) == 9252 * (3 * 70 + 6 * 50)


@pytest.mark.parametrize(
    ("cost", "n_workers", "update", "share"),
    [
        (1.0, 1, 2.0, 0.0),  # twice as fast as needed
        (2.0, 1, 1.0, 0.5),  # every update waits as long as it takes
        (2.0, 2, 1.0, 0.0),
        (4.0, 2, 1.0, 0.5),
        (3.0, 2, 1.0, 1 / 3),  # 1.5 s per batch
    ],
)
def test_waiting_of_equal_batches(cost, n_workers, update, share):
    found = loading_simulation.waiting_share([cost], n_workers, update, 2000)
    assert found == pytest.approx(share, abs=0.01)


def test_batches_ahead_make_up_for_a_slow_one():
    """One batch of ten takes three updates; the others leave time to be ahead."""
    costs = [3.0, *[0.5] * 9]
    assert loading_simulation.waiting_share(costs, 4, 1.0, 2000) == 0.0
    assert loading_simulation.waiting_share(costs, 1, 1.0, 2000) > 0.0


def test_the_data_set_is_loaded_and_measured(tmp_path):
    dataset = loading_simulation.open_dataset(tmp_path / "data", 70, "FLAC")
    costs = loading_simulation.batch_costs(dataset, rounds=1)
    assert len(costs) == 1  # the other batch is not full
    assert np.isfinite(costs).all()
    found = loading_simulation.simulate(costs, update_ms=1e6)
    assert found["waiting_share_by_workers"]["1"] == 0.0


def test_the_pairs_of_a_large_folder_can_be_prepared(tmp_path, capsys):
    table = million_pairs.generate(tmp_path / "media", 100, seconds=0.1)
    assert million_pairs.split_sizes(100) == {"valid": 10, "test": 10, "train": 80}
    assert main(["prepare", "pairs", str(table), str(tmp_path / "data")]) == 0
    assert [len(read_pairs(tmp_path / f"data/{split}.pairs.tsv")) for split in ("train", "test")] == [80, 10]
    assert main(["check", str(tmp_path / "data")]) == 0
    assert capsys.readouterr().out.count("\n") == 4
