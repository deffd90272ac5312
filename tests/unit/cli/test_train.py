"""fairseq-vgs train: what is tried before the first update, and one line for what Hydra refuses."""

from __future__ import annotations

import pytest
from support.faults import raises_fault
from support.tiny_folder import make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.configs import embedded_data
from fairseq_vgs.launch import watch
from fairseq_vgs.launch.history import RunHistory

DATA = str(embedded_data())


@pytest.mark.parametrize(
    ("word", "code", "place", "meant"),
    [
        ("model.vgs_layr=2", "setting.unknown", "model.vgs_layr", "model.vgs_layer?"),
        ("optimization.max_updat=3", "setting.unknown", "optimization.max_updat", "optimization.max_update?"),
        ("mdel=small", "setting.unknown", "mdel", "model?"),
        ("run_config=gpu_2", "setting.choice", "run_config", "gpu_"),
        ("optimization.max_update=abc", "setting.refused", "optimization.max_update", "'abc'"),
        ("model.vgs_layer=99", "setting.value", "model.vgs_layer", "99"),
        ("model.encoder_attention_heads=7", "setting", "model", ""),
    ],
)
def test_a_dry_run_finds_impossible_settings(word, code, place, meant, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", DATA, "--dry-run", word]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = [line for line in said.err.splitlines() if place in line]
    assert meant in line
    if code != "setting":
        with raises_fault(code, place):
            main(["train", DATA, "--dry-run", word, "--debug"])
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_the_command_of_a_possible_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", DATA, "--dry-run", "model.vgs_layer=1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "fairseq-hydra-train" in line
    assert "model.vgs_layer=1" in line


def test_a_dry_run_reads_the_data(tmp_path, capsys):

    folder = make_folder(
        tmp_path / "data", lengths={"train": [6000, 6300], "valid": [6000, 6000]}, n_images=2
    )
    pairs = folder.pairs("train")
    pairs.write_text(pairs.read_text(encoding="utf-8") + "broken\n", encoding="utf-8")
    assert main(["train", str(folder.path), "--dry-run"]) == 1
    assert "train.pairs.tsv:4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "raw", "said"),
    [
        (
            "model.vgs_layr=2",
            "Could not override 'model.vgs_layr'.\nKey 'vgs_layr' is not in struct",
            "vgs_layer?",
        ),
        ("model.vgs_layer=1", "Segmentation fault\nof something else", "of something else"),
    ],
)
def test_an_error_of_hydra_becomes_a_line_that_names_the_setting(
    word, raw, said, tmp_path, monkeypatch, capsys
):
    """Other errors stay as they are."""
    outcome = watch.Outcome(1, RunHistory(tmp_path / "none"), raw, was_finished=False)
    monkeypatch.setattr(watch, "run_training", lambda _training: outcome)
    assert main(["train", DATA, "--output", str(tmp_path / "run"), word]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert "is not in struct" not in err
