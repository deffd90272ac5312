"""``fairseq-vgs study`` where nothing is run, and arguments that argparse has to refuse."""

import json
from pathlib import Path

import pytest

from fairseq_vgs.cli.main import main
from fairseq_vgs.study import page
from fairseq_vgs.study.check import start_of
from fairseq_vgs.study.launch import training_command
from fairseq_vgs.study.markers import mark, measured_on, run_identity
from fairseq_vgs.study.plan import StudyFolder, plan_runs
from fairseq_vgs.study.read import read_settings

EXAMPLES = Path(__file__).parents[3] / "examples" / "vgs"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["study", "s.yaml", "--processes", "0"], "at least 1, got '0'"),
        (["study", "s.yaml", "--gpus", ""], "numbers of GPUs such as 0,1, got ''"),
        (["study", "s.yaml", "--gpus", "0,"], "got '0,'"),
        (["evaluate", "run", "RUN", "DATA", "--every", "0"], "at least 1, got '0'"),
        (["evaluate", "run", "RUN", "DATA", "--every", "x"], "at least 1, got 'x'"),
    ],
)
def test_wrong_numbers_are_usage_errors(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


STUDY = """
config_dir: {examples}
data: "{{output}}/data"
prepare: [scenes, "{{output}}/data"]
scenarios: [vgs, vgs_then_w2v2]
seeds: [1]
whole_updates: 70
first_updates: 20
second_updates: 50
evaluate_every: 10
overrides: [run_config=gpu_1]
"""


@pytest.fixture
def study(tmp_path):
    """A study file, and the folder that it is to have."""
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(examples=EXAMPLES))
    return path, StudyFolder(tmp_path / "out")


def test_dry_run_prints_what_a_start_is_called_and_what_stays_on_disk(study, capsys):
    path, folder = study
    assert main(["study", str(path), "--output", str(folder.path), "--dry-run", "--gpus", "0"]) == 0
    printed = capsys.readouterr().out
    assert "/vgs-seed1/run/checkpoints/checkpoint_*_20.pt" in printed
    assert "common.cpu=false" in printed
    assert "# 12 checkpoints stay on disk" in printed
    assert f"# not checked: {folder.path / 'data'}" in printed
    assert not folder.path.exists()


def test_a_start_has_its_name_once_it_is_there(study):
    path, folder = study
    run = plan_runs(read_settings(path))[1]
    start = folder.run("vgs-seed1").run / "checkpoints" / "checkpoint_3_20.pt"
    assert start_of(run, folder) == start.with_name("checkpoint_*_20.pt")
    start.parent.mkdir(parents=True)
    start.touch()
    assert start_of(run, folder) == start


def test_arguments_that_prepare_refuses_are_named_before_anything_runs(study, capsys):
    path, folder = study
    path.write_text(path.read_text().replace("prepare: [scenes,", "prepare: [scenes, --obejcts,"))
    assert main(["study", str(path), "--output", str(folder.path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{path}: prepare must be")
    assert "--obejcts" in said
    assert not folder.path.exists()


def begin(folder, path):
    """Write what a study leaves that has trained and evaluated its base run."""
    settings = read_settings(path)
    run = plan_runs(settings)[0]
    run_folder = folder.run(run.name)
    folder.path.mkdir()
    folder.settings.write_text(json.dumps(settings.as_json()))
    command = training_command(run, settings, data=folder.path / "data", folder=run_folder, start=None)
    run_folder.path.mkdir(parents=True)
    run_folder.command.write_text(json.dumps(run_identity(command, run, settings, {})))
    mark(run_folder.trained, run)
    mark(run_folder.evaluated, run, on=measured_on(settings, folder))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("[run_config=gpu_1]", "[run_config=cpu]", "run_config: gpu_1 before, cpu now"),
        ("whole_updates: 70", "whole_updates: 80", "total_num_update: 70 before, 80 now"),
        ('scenes, "', 'scenes, --seed, "7", "', "prepare: scenes '{output}/data' before, scenes --seed 7"),
        ("seeds: [1]", "seeds: [1]\nsplit: valid", "split: test before, valid now"),
    ],
)
def test_report_only_refuses_settings_that_the_runs_do_not_have(study, capsys, before, after, said):
    path, folder = study
    begin(folder, path)
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    assert main(["study", str(path), "--output", str(folder.path), "--report-only"]) == 1
    assert said in capsys.readouterr().err
    assert not (folder.path / "report.html").exists()


def test_report_only_accepts_a_moved_study_without_its_data(study, monkeypatch):
    path, folder = study
    begin(folder, path)
    moved = folder.path.rename(folder.path.with_name("moved"))
    monkeypatch.setattr(page, "write_all", lambda results, where: where / "report.html")
    assert main(["study", str(path), "--output", str(moved), "--report-only"]) == 0
