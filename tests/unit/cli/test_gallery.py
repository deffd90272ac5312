"""fairseq-vgs gallery."""

from __future__ import annotations

import pytest
from PIL import Image
from support.retrieval_folders import write_media_folder, write_results

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
    assert "run fairseq-vgs evaluate retrieval first" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["gallery", *folders, "--queries", "0"])
    assert stop.value.code == 2
