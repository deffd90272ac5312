"""Where results go unless the user says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.abx_material import write_checkpoint, write_recordings
from support.faults import raises_fault

from fairseq_vgs.checkpoints import places
from fairseq_vgs.checkpoints.places import results_folder
from fairseq_vgs.cli.main import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/best.pt").write_bytes(b"x")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def make_read_only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    real = os.access  # chmod does not stop root
    monkeypatch.setattr(places.os, "access", lambda path, mode: folder not in Path(path).parents
                        and Path(path) != folder and real(path, mode))  # fmt: skip


def chosen(model: Path, name: str, *, within: bool = False) -> Path:
    return results_folder(model, name, within=within)[0]


def test_next_to_a_model_of_ones_own(run: Path) -> None:
    best = run / "checkpoints/best.pt"
    assert chosen(best, "best_abx") == run / "checkpoints/best_abx"
    assert chosen(run, "evaluation", within=True) == run / "evaluation"
    assert chosen(run / "gone/best.pt", "best_abx") == run / "gone/best_abx"
    assert results_folder(best, "best_abx")[1] == ""


def test_never_next_to_one_that_is_read_only(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_read_only(monkeypatch, run)
    place, note = results_folder(run / "checkpoints/best.pt", "best_abx")
    assert place == Path("results/my run-best_abx")
    assert str(run / "checkpoints") in note and str(place) in note and "--output" in note
    assert chosen(run, "evaluation", within=True) == Path("results/my run-evaluation")


def test_nor_to_one_of_another_user(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places.os, "geteuid", lambda: run.stat().st_uid + 1)
    assert chosen(run / "checkpoints/best.pt", "best_abx") == Path("results/my run-best_abx")


@pytest.mark.parametrize("shared", ["lib/site-packages/pkg", "dist-packages", ".cache/huggingface/hub"])
def test_nor_to_one_that_programs_share(tmp_path: Path, shared: str) -> None:
    model = tmp_path / shared / "model"
    model.mkdir(parents=True)
    for name in (places.EXPORTED_CONFIG, places.EXPORTED_WEIGHTS):
        (model / name).write_text("x")
    assert chosen(model, "model_abx") == Path("results/model_abx")


def test_results_of_another_model_are_not_replaced(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_read_only(monkeypatch, run)
    best, other = run / "checkpoints/best.pt", run.parent / "other run/best.pt"
    for folder, name in (("my run-best_abx", "metrics.json"), ("my run-evaluation", "20/abx/metrics.json")):
        path = Path("results") / folder / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"checkpoint": {"path": str(best)}}))
    assert chosen(best, "best_abx") == Path("results/my run-best_abx")
    assert chosen(run, "evaluation", within=True) == Path("results/my run-evaluation")
    for path in Path("results").rglob("metrics.json"):
        path.write_text(json.dumps({"checkpoint": {"path": str(other)}}))
    with raises_fault("output.not_ours", "my run-best_abx"):
        chosen(best, "best_abx")
    with raises_fault("output.not_ours", "my run-evaluation"):
        chosen(run, "evaluation", within=True)


def test_an_evaluation_follows_the_rule(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    best = write_checkpoint(run / "checkpoints/best.pt")
    data = write_recordings(tmp_path / "data")
    make_read_only(monkeypatch, run)
    before = sorted(run.rglob("*"))
    assert main(["evaluate", "abx", str(best), str(data), "--baseline", "none", "--layers", "1"]) == 0
    place = Path("results/my run-best_abx_within_within")
    assert (place / "metrics.json").is_file()
    assert capsys.readouterr().err.count(str(place)) == 2  # the note, and where they went
    assert sorted(run.rglob("*")) == before
    command = ["evaluate", "abx", str(best), str(data), "--baseline", "none", "--layers", "1"]
    assert main([*command, "--output", str(tmp_path / "chosen")]) == 0
    assert (tmp_path / "chosen/metrics.json").is_file()
    assert "note:" not in capsys.readouterr().err
