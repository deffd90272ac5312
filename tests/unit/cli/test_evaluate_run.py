"""fairseq-vgs evaluate run: table, options, refusals. What is measured: tests/unit/evaluation."""

import numpy as np
import pytest
from support.abx_material import write_checkpoint, write_recordings
from support.tiny_folder import make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation import over_training as run_evaluation

COUNTS = {"cells": 3, "triples": 6, "no_frame": 2}
MFCC_COUNTS = {"cells": 4, "triples": 8, "no_frame": 0}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of two checkpoints, of which nothing is measured but the updates."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for updates in (7, 14):
        write_checkpoint(tmp_path / "run" / "checkpoints" / f"checkpoint_1_{updates}.pt")
    make_folder(tmp_path / "data", lengths={"test": [7000, 7300]})
    write_recordings(tmp_path / "abx")

    def pretend(checkpoint, measurement):
        names = [f"{way}_r{k}" for way in ("speech_to_image", "image_to_speech") for k in (1, 5, 10)]
        retrieval = {"pool": {"captions": 16, "images": 8}, **dict.fromkeys(names, 12.5)}
        retrieval["chance"] = {**dict.fromkeys(names, 6.25), "speech_to_image_r10": 100.0}
        counts = COUNTS
        figures = {"schema_version": 1, "retrieval": retrieval}
        for mode in measurement.abx_speakers if measurement.abx else ():
            error = {"layer_1": 30.0, "layer_2": 1.0 + len(mode)}
            figures[run_evaluation.ABX_KEYS[mode]] = {"error": error, "counts": counts}
        return figures, {"a": np.zeros(1)}

    monkeypatch.setattr(run_evaluation, "measure", pretend)
    monkeypatch.setattr(run_evaluation, "_mfcc", lambda _: (5.5, MFCC_COUNTS))
    return tmp_path / "run"


def evaluate(run, *options):
    places = ["--abx", str(run.parent / "abx"), "--items", "phones.item"]
    return main(["evaluate", "run", str(run), str(run.parent / "data"), *places, *options])


def rows(capsys):
    """The table's rows by their first word."""
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    return {line.split()[0]: line.split()[1:] for line in table}


def test_table_has_checkpoints_baselines_and_chance(run, capsys):
    assert evaluate(run, "--seed", "4") == 0
    out, err = capsys.readouterr()
    heading, table, note = out.split("\n\n")
    assert heading.startswith("recall in %, split test: 16 captions (s) of 8 images (i)\nphone ABX error")
    assert heading.endswith("of the best transformer layer's output (layer_1 on), chosen on these items")
    assert [line.split() for line in table.splitlines()] == [
        [
            "update",
            "s->i",
            "R@1",
            "R@5",
            "R@10",
            "i->s",
            "R@1",
            "R@5",
            "R@10",
            "ABX",
            "within",
            "best",
            "layer",
        ],
        ["untrained", "(seed", "4)", *["12.5"] * 6, "7.00", "layer_2"],
        ["7", *["12.5"] * 6, "7.00", "layer_2"],
        ["14", *["12.5"] * 6, "7.00", "layer_2"],
        ["MFCC", *["-"] * 6, "5.50"],
        ["chance", "6.2", "6.2", "100.0", "6.2", "6.2", "6.2", "50.00"],
    ]
    assert note == (
        "note: speech -> image R@10: k >= pool: always 100 %\n"
        "note: MFCC has 4 ABX cells, the model 3 (2 and 0 items without a frame): not the same items\n"
    )
    assert err.endswith(f"results: {run / 'evaluation'}\n")
    assert {path.name for path in (run / "evaluation").iterdir()} == {
        f"{updates}.{ending}" for updates in (0, 7, 14) for ending in ("json", "npz")
    }


def test_without_baseline_and_without_abx(run, capsys):
    assert main(["evaluate", "run", str(run), str(run.parent / "data"), "--baseline", "none"]) == 0
    table = rows(capsys)
    assert list(table) == ["update", "7", "14", "chance"]
    assert len(table["7"]) == 6
    assert not (run / "evaluation" / "0.json").exists()


def test_results_of_something_else_are_replaced_by_force_only(run, capsys):
    assert evaluate(run) == 0
    without = ["evaluate", "run", str(run), str(run.parent / "data"), "--baseline", "none"]
    capsys.readouterr()
    assert main(without) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "7.json: already exists, and was made from something else" in captured.err
    assert "(abx: measured, now none)" in captured.err
    assert "2 of 2 results are such; pass --force" in captured.err
    assert "abx" in run_evaluation.read_figures(run / "evaluation" / "7.json")
    assert main([*without, "--force"]) == 0
    assert "abx" not in run_evaluation.read_figures(run / "evaluation" / "7.json")


def test_other_files_in_the_folder_and_stale_figures_are_not_printed(run, capsys):
    assert evaluate(run) == 0
    (run / "evaluation" / "notes.json").write_text("[]")
    capsys.readouterr()
    assert evaluate(run, "--every", "14") == 0
    assert list(rows(capsys)) == ["update", "untrained", "14", "MFCC", "chance"]


def test_across_speakers(run, capsys):
    assert evaluate(run, "--every", "14", "--abx-speakers", "across", "within") == 0
    table = rows(capsys)
    assert table["14"][6:] == ["7.00", "layer_2", "7.00", "layer_2"]
    assert table["chance"][6:] == ["50.00", "50.00"]
    figures = run_evaluation.read_figures(run / "evaluation" / "14.json")
    assert {"abx", "abx_across"} <= set(figures)
    assert set(figures["made_from"]) == {"checkpoint", "data", "abx", "abx_across"}
    with pytest.raises(SystemExit):
        evaluate(run, "--abx-speakers", "between")


def test_no_checkpoint_after_such_updates(run, capsys):
    assert evaluate(run, "--every", "5") != 0
    assert "must hold checkpoints after a multiple of 5 updates" in capsys.readouterr().err


def test_item_file_is_named_as_in_evaluate_abx(run, capsys):
    command = ["evaluate", "run", str(run), str(run.parent / "data"), "--abx", str(run.parent / "abx")]
    assert main(command) == 0  # the only one
    assert "phones.item" in capsys.readouterr().out
    (run.parent / "abx" / "other.item").write_text((run.parent / "abx" / "phones.item").read_text())
    assert main(command) == 1
    assert "must hold one item file" in capsys.readouterr().err
    for option in ("--items", "--abx-items"):
        assert main([*command, option, "other.item", "--force"]) == 0
        assert "other.item" in capsys.readouterr().out
