"""fairseq-vgs evaluate run: table, options, refusals. What is measured: tests/unit/evaluation."""

import numpy as np
import pytest
from support.abx_material import write_checkpoint, write_recordings
from support.tiny_folder import make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation import run_evaluation


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of two checkpoints, of which nothing is measured but the updates."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for updates in (7, 14):
        write_checkpoint(tmp_path / "run" / "checkpoints" / f"checkpoint_1_{updates}.pt")
    make_folder(tmp_path / "data", lengths={"test": [7000, 7300]})
    write_recordings(tmp_path / "abx")

    def pretend(checkpoint, measurement):
        recalls = {"speech_to_image_r10": 12.5, "image_to_speech_r10": 25.0}
        errors = {run_evaluation.ABX_KEYS[mode]: 1.0 + len(mode) for mode in measurement.abx_speakers}
        figures = {key: {"error": {"layer_1": 30.0, "layer_2": error}} for key, error in errors.items()}
        return {"schema_version": 1, "retrieval": recalls, **figures}, {"a": np.zeros(1)}

    monkeypatch.setattr(run_evaluation, "measure", pretend)
    return tmp_path / "run"


def evaluate(run, *options):
    places = ["--abx", str(run.parent / "abx"), "--abx-items", "phones.item"]
    return main(["evaluate", "run", str(run), str(run.parent / "data"), *places, *options])


def test_table_has_a_line_per_checkpoint(run, capsys):
    assert evaluate(run) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "update"
    assert [line.split() for line in lines] == [
        ["7", "12.5", "25.0", "7.00", "layer_2"],
        ["14", "12.5", "25.0", "7.00", "layer_2"],
    ]
    assert sorted(path.name for path in (run / "evaluation").iterdir()) == [
        "14.json",
        "14.npz",
        "7.json",
        "7.npz",
    ]


def test_other_files_in_the_folder_and_stale_figures_are_not_printed(run, capsys):
    assert evaluate(run) == 0
    (run / "evaluation" / "notes.json").write_text("[]")
    capsys.readouterr()
    assert evaluate(run, "--every", "14") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["update", "14"]


def test_across_speakers(run, capsys):
    assert evaluate(run, "--every", "14", "--abx-speakers", "across", "within") == 0
    assert "7.00" in capsys.readouterr().out  # the first of them, which here is as long a word
    figures = run_evaluation.read_figures(run / "evaluation" / "14.json")
    assert {"abx", "abx_across"} <= set(figures)
    assert set(figures["made_from"]) == {"checkpoint", "data", "abx", "abx_across"}
    with pytest.raises(SystemExit):
        evaluate(run, "--abx-speakers", "between")


def test_no_checkpoint_after_such_updates(run, capsys):
    assert evaluate(run, "--every", "5") != 0
    assert "must hold checkpoints after a multiple of 5 updates" in capsys.readouterr().err
