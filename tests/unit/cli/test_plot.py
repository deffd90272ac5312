"""fairseq-vgs plot training, and plot probes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairseq_vgs.cli.main import main
from fairseq_vgs.tasks.history import TrainingHistory


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "history.jsonl"
    history = TrainingHistory(path)
    for update in (1, 2, 3, 2, 3):  # resumed once
        history.append("train", update, {"loss": 6.0 / update})
    return path


def test_picture_and_table_are_written_and_named(log, tmp_path, capsys):
    output = tmp_path / "plots" / "training.png"
    assert main(["plot", "training", str(log), str(output)]) == 0
    captured = capsys.readouterr()
    assert captured.out.split() == [str(output), str(output.with_suffix(".csv"))]
    assert "resumed 1 times" in captured.err
    assert output.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("suffix", "start"), [(".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_suffix_chooses_the_format(log, tmp_path, suffix, start):
    output = tmp_path / f"training{suffix}"
    assert main(["plot", "training", str(log), str(output)]) == 0
    assert output.read_bytes().startswith(start)


def test_recall_of_several_runs(tmp_path, capsys):
    logs = [str(tmp_path / name / "history.jsonl") for name in ("a", "b")]
    for path in logs:
        history = TrainingHistory(Path(path))
        history.append("valid", 4, {"speech_to_image_r1": 5.0})
    output = tmp_path / "recall.png"
    assert main(["plot", "recall", *logs, str(output), "--titles", "VGS", "VGS+"]) == 0
    assert capsys.readouterr().out.split() == [str(output), str(output.with_suffix(".csv"))]
    assert "VGS+,4,5.0" in output.with_suffix(".csv").read_text(encoding="utf-8")
    assert main(["plot", "recall", *logs, str(tmp_path / "other.png"), "--titles", "one"]) == 1
    assert "must be 2 different titles" in capsys.readouterr().err


def test_probes(tmp_path, capsys):
    probes, output = tmp_path / "probes.jsonl", tmp_path / "probes.png"
    probes.write_text('{"update": 0, "gradient_cosine": {"layer_1": 0.5}, "cka": {"layer_1": 1.0}}\n')
    assert main(["plot", "probes", str(probes), str(output)]) == 0
    assert capsys.readouterr().out.split() == [str(output), str(output.with_suffix(".csv"))]
    assert output.read_bytes().startswith(b"\x89PNG")
    assert main(["plot", "probes", str(tmp_path / "absent.jsonl"), str(tmp_path / "x.png")]) == 1
    assert "absent.jsonl: log must be readable" in capsys.readouterr().err


def test_refusals(log, tmp_path, capsys):
    output = tmp_path / "training.png"
    assert main(["plot", "training", str(log), str(output)]) == 0
    assert main(["plot", "training", str(log), str(output)]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["plot", "training", str(log), str(output), "--force"]) == 0
    with pytest.raises(SystemExit) as stop:
        main(["plot", "training", str(log), str(tmp_path / "training.jpg")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "must end in .png, .pdf, .svg" in error
    assert "--debug" not in error
    assert main(["plot", "training", str(tmp_path / "absent.jsonl"), str(tmp_path / "x.png")]) == 1
    assert "absent.jsonl: log must be readable" in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["plot", "training", "--help"])
    assert "fairseq-vgs plot training" in capsys.readouterr().out
