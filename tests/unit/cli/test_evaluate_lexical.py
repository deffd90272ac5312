"""fairseq-vgs evaluate lexical: table, files, refusals, on words of the embedded set at several speeds."""

import csv
import json

import pytest
from support.abx_material import write_checkpoint

from fairseq_vgs.cli.main import main

SIZES = ["--objects", "6", "--train-scenes", "1", "--valid-scenes", "0", "--test-scenes", "4"]


def test_table_files_and_refusals(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "checkpoint_best.pt")
    words, output = tmp_path / "words", tmp_path / "out"
    scenes = ["prepare", "scenes", str(words), *SIZES, "--pictures-per-scene", "1", "1", "--captions", "3"]
    assert main(scenes) == 0
    command = ["evaluate", "lexical", str(checkpoint), str(words), "--output", str(output)]
    capsys.readouterr()
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "12 recordings of 4 words" in table
    for row in ("layer_0", "layer_3", "mfcc", "chance"):
        assert f"\n{row} " in table
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["counts"] == {"tokens": 12, "words": 4, "single_tokens": 0}
    figures = {name: model["metrics"] for name, model in metrics["models"].items()}
    # 2 of the 8 recordings of other folds
    assert all(
        figure["chance"] == pytest.approx(25) for layers in figures.values() for figure in layers.values()
    )
    assert figures["mfcc"]["mfcc"]["value"] > 25
    assert figures["trained"]["layer_2"] != figures["untrained"]["layer_2"]
    with (output / "words.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    mean = sum(float(row["mfcc/mfcc"]) for row in rows) / 4
    assert 100 * mean == pytest.approx(figures["mfcc"]["mfcc"]["value"])

    assert main(command) == 1
    assert "already exists; pass --force" in capsys.readouterr().err
    table = words / "test.pairs.tsv"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([*lines[:-1], lines[-1] + ", two"]) + "\n", encoding="utf-8")
    assert main([*command, "--force"]) == 1
    assert "test.tsv:13: recording must be one word by test.pairs.tsv" in capsys.readouterr().err
