"""fairseq-vgs gallery."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.retrieval_folders import write_media_folder, write_results
from support.tiny_checkpoint import save_tiny
from support.tiny_folder import make_folder

from fairseq_vgs.checkpoints import open as checkpoints
from fairseq_vgs.cli.main import main


@pytest.fixture
def folders(tmp_path):
    write_results(tmp_path / "results")
    return [str(tmp_path / "results"), str(write_media_folder(tmp_path / "data")), str(tmp_path / "out")]


def test_page_is_written_and_named(folders, tmp_path, capsys):
    assert main(["gallery", *folders, "--queries", "4"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "out" / "index.html")
    assert "no plot on the page" in captured.err
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert text.count("<article") == 8
    assert "plot-" not in text
    assert main(["gallery", *folders]) == 1
    assert "--force" in capsys.readouterr().err


def test_plot_beside_the_results_goes_onto_the_page(folders, tmp_path, capsys):
    Image.new("RGB", (30, 20)).save(tmp_path / "results" / "training.png")
    assert main(["gallery", *folders]) == 0
    assert "media/plot-" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "no plot" not in capsys.readouterr().err


def test_refusals(folders, tmp_path, capsys):
    assert main(["gallery", str(tmp_path / "nothing"), *folders[1:]]) == 1
    assert "run fairseq-vgs evaluate retrieval" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["gallery", *folders, "--queries", "0"])
    assert stop.value.code == 2


@pytest.fixture
def evaluated(tmp_path):
    """Results of a tiny model on a folder that can be opened with its settings."""
    data = make_folder(tmp_path / "set", lengths={"test": [6000 + 300 * number for number in range(6)]}).path
    checkpoint = save_tiny(tmp_path / "checkpoint_best.pt", task={"image_input": "regions"})
    results = tmp_path / "results"
    command = ["evaluate", "retrieval", str(checkpoint), str(data), "--output", str(results)]
    assert main([*command, "--baseline", "none"]) == 0
    return checkpoint, [str(results), str(data), str(tmp_path / "out")]


def test_heat_maps_come_from_the_checkpoint_that_was_evaluated(evaluated, tmp_path, capsys):
    checkpoint, arguments = evaluated
    page = tmp_path / "out" / "index.html"
    assert main(["gallery", *arguments, "--queries", "3"]) == 0
    assert "no heat maps" not in capsys.readouterr().err
    assert 3 <= page.read_text(encoding="utf-8").count('<figure class="heat') <= 6
    assert main(["gallery", *arguments, "--no-heat-maps", "--force"]) == 0
    assert "<figure" not in page.read_text(encoding="utf-8")
    assert list(page.parent.glob("media/heat-*")) == []

    moved = checkpoint.rename(tmp_path / "moved.pt")
    capsys.readouterr()
    assert main(["gallery", *arguments, "--force"]) == 0
    assert "note: no heat maps on the page;" in capsys.readouterr().err
    assert main(["gallery", *arguments, "--force", "--checkpoint", str(moved)]) == 0
    assert '<figure class="heat' in page.read_text(encoding="utf-8")

    other = Path(tmp_path / "other.pt")
    other.write_bytes(b"another")
    assert main(["gallery", *arguments, "--force", "--checkpoint", str(other)]) == 1
    assert "other.pt: must be the checkpoint of" in capsys.readouterr().err


def test_models_that_read_text_have_no_heat_maps(evaluated, tmp_path, capsys, monkeypatch):
    checkpoint, arguments = evaluated
    loaded = checkpoints.open_checkpoint(checkpoint)
    settings = {**loaded.config["model"], "caption_encoder": "text"}
    of_text = replace(loaded, config={**loaded.config, "model": settings})
    monkeypatch.setattr(checkpoints, "open_checkpoint", lambda _path: of_text)
    assert main(["gallery", *arguments, "--queries", "1"]) == 0
    assert "reads text, not speech" in capsys.readouterr().err
    assert "<script" not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
