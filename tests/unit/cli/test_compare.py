"""fairseq-vgs compare: table, files, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.retrieval_folders import write_results

from fairseq_vgs.cli.main import main


@pytest.fixture
def folders(tmp_path):
    write_results(tmp_path / "a", noise=1.5)
    write_results(tmp_path / "b", noise=0.1)
    return [str(tmp_path / "a"), str(tmp_path / "b")]


def test_table_and_files(folders, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["compare", *folders, "--titles", "VGS", "VGS+", "--output", str(output)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "14 captions of 8 images" in captured.out
    assert "run minus VGS, % as percentage points [95 % interval, paired]" in captured.out
    assert captured.err.endswith(f"results: {output}\n")
    names = {f"comparison.{ending}" for ending in ("md", "tex", "csv", "json")}
    assert {path.name for path in output.iterdir()} == names
    assert main(arguments) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force", "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed == (output / "comparison.json").read_text(encoding="utf-8")
    content = json.loads(printed)
    assert content["provenance"]["command"].startswith("fairseq-vgs compare ")
    assert content["differences"]["VGS+"]["speech_to_image_r1"]["value"] > 0


def test_folder_of_results_and_long_paths(folders, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["compare", str(tmp_path), "--output", str(output), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {title: run["folder"] for title, run in content["runs"].items()} == {
        "a": folders[0],
        "b": folders[1],
    }
    assert f"\nb,{folders[1]},trained," in (output / "comparison.csv").read_text(encoding="utf-8")
    assert str(tmp_path) not in (output / "comparison.md").read_text(encoding="utf-8")


def test_certain_recalls_say_so(folders, capsys):
    assert main(["compare", *folders]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line, *_) = (line for line in lines if line.startswith("speech -> image, R@10"))  # of 8 images
    assert line.count("always 100 (k >= pool)") == 4  # two runs and their untrained models


def test_nothing_to_compare(tmp_path, capsys):
    assert main(["compare", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{tmp_path}: must be a folder with metrics.json")
    assert error.count("\n") == 1


def test_other_data(folders, capsys):
    path = Path(folders[1]) / "metrics.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["provenance"]["manifest"]["test.tsv"] = "other"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert main(["compare", *folders]) == 1
    error = capsys.readouterr().err
    assert "--allow-different-data" in error
    assert "--debug" not in error
    assert main(["compare", *folders, "--allow-different-data"]) == 0
    out = capsys.readouterr().out
    assert "so no differences" in out
    assert "run minus" not in out
