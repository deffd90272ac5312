"""One run at a time uses a folder, and advice names it."""

import fcntl
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from support.faults import raises_fault

from fairseq_vgs.compat.run_folder import LOCK, give_back, same_command, take


def test_a_folder_that_another_run_uses_is_refused(tmp_path):
    with (tmp_path / LOCK).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with raises_fault("output.busy", str(tmp_path)):
            take(tmp_path)
    take(tmp_path)
    with (tmp_path / LOCK).open("a") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    give_back()
    assert not list(tmp_path.iterdir())


def test_another_run_of_the_same_process_takes_its_own_folder(tmp_path):
    (tmp_path / "1").mkdir()
    take(tmp_path)
    take(tmp_path / "1")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    give_back()


def settings_of_hydra(output, *overrides, num="???"):
    return OmegaConf.create(
        {
            "hydra": {
                "runtime": {"output_dir": str(output)},
                "overrides": {"hydra": list(overrides)},
                "job": {"num": num},
                "sweep": {"subdir": "${hydra.job.num}"},
            }
        }
    )


@pytest.mark.parametrize("spawned", [False, True])
@pytest.mark.parametrize(
    ("overrides", "num", "expected"),
    [
        ([], "???", " with hydra.run.dir=/data/runs/1"),
        (["hydra.run.dir=/data/runs/1"], "???", ""),
        (["hydra.run.dir=/data/runs/${now:%S}"], "???", " with hydra.run.dir=/data/runs/1"),
        (["hydra.run.dir=/data/runs/1"], 1, " with hydra.sweep.dir=/data/runs"),
        (["hydra.sweep.dir=/data/runs"], 1, ""),
    ],
)
def test_the_same_command_names_the_folder(spawned, overrides, num, expected, tmp_path, monkeypatch):
    settings = settings_of_hydra("/data/runs/1", *overrides, num=num)
    if spawned:  # by fairseq, for one of several GPUs: Hydra is unknown there
        (tmp_path / ".hydra").mkdir()
        OmegaConf.save(settings.copy(), tmp_path / ".hydra" / "hydra.yaml")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    else:
        monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
        monkeypatch.setattr(HydraConfig, "get", lambda: settings.hydra)
    assert same_command() == f"run the same command again{expected}"


def test_a_program_without_hydra_is_started_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HydraConfig, "instance", lambda: SimpleNamespace(cfg=None))
    assert same_command() == "run the same command again"
