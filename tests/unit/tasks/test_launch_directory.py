from pathlib import Path

from omegaconf import OmegaConf

from fairseq_vgs.tasks.settings import make_paths_absolute, resolve_from_launch


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


def test_paths_become_absolute_in_the_runs_configuration_too(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("PWD", str(tmp_path))
    run = OmegaConf.create({"task": {"data": "data", "other": None, "rest": "data"}})
    make_paths_absolute(run.task, ("data", "other"))
    assert run.task == {"data": str(tmp_path / "data"), "other": None, "rest": "data"}
    merged = OmegaConf.merge(run.task, {})
    merged.__dict__["_parent"] = run  # as fairseq's merge_with_parent
    run.task.data = merged.data = "data"
    make_paths_absolute(merged, ("data",))
    assert run.task.data == merged.data == str(tmp_path / "data")
