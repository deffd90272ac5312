from pathlib import Path

from fairseq_vgs.tasks.launch_directory import resolve_from_launch


def test_absolute_paths_stay(tmp_path):
    assert resolve_from_launch(tmp_path / "x") == tmp_path / "x"
    assert resolve_from_launch("~/x") == Path.home() / "x"


def test_relative_paths_start_where_the_command_was_started(tmp_path, monkeypatch):
    launch, run_dir = tmp_path / "launch", tmp_path / "run"
    (launch / "data").mkdir(parents=True)
    run_dir.mkdir()
    monkeypatch.chdir(run_dir)  # as Hydra does; the shell's PWD stays
    monkeypatch.setenv("PWD", str(launch))
    assert resolve_from_launch("data") == launch / "data"
    assert resolve_from_launch("absent") == launch / "absent"
    (run_dir / "here").mkdir()
    assert resolve_from_launch("here") == run_dir / "here"
    monkeypatch.delenv("PWD")
    assert resolve_from_launch("absent") == run_dir / "absent"
