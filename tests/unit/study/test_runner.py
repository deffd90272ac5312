"""The runner with small scripts in the place of training and evaluation."""

import errno
import fcntl
import json
import re
import sys
import time

import pytest
import torch
from support.faults import raises_fault

from fairseq_vgs.checkpoints.runs import keep_epoch_checkpoints
from fairseq_vgs.files import atomic
from fairseq_vgs.study import launch, runner
from fairseq_vgs.study.plan import StudyFolder
from fairseq_vgs.study.runner import Slot, StudyError, StudyRunner
from fairseq_vgs.study.settings import StudySettings

# argv: folder of the run, updates to make, seconds per update, what to start from ("" for nothing)
TRAIN = """
import json, pathlib, sys, time
run, total, seconds, start = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
if start:
    assert pathlib.Path(start).is_file(), start
(run / "checkpoints").mkdir(parents=True, exist_ok=True)
made = [int(p.stem.rpartition("_")[2]) for p in (run / "checkpoints").glob("checkpoint_1_*.pt")]
for update in range(max(made, default=0) + 1, total + 1):
    time.sleep(seconds)
    with (run / "history.jsonl").open("a") as file:
        file.write(json.dumps({"split": "train", "update": update, "ssl_loss": 1 / update}) + "\\n")
    (run / "checkpoints" / f"checkpoint_1_{update}.pt").write_text(start)
"""
EVALUATE = """
import pathlib, sys
output = pathlib.Path(sys.argv[1])
output.mkdir(parents=True, exist_ok=True)
(output / "10.json").write_text("{}")
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Settings, folder, and small programs for training and evaluation; ``slow`` and ``broken`` name runs."""
    behaviour = {"broken": set(), "seconds": 0.0, "trained": []}

    def training_command(run, settings, *, data, folder, start, stop=None, on_gpu=False):
        until = run.max_update if stop is None else stop.max_update
        program = "raise SystemExit('no luck')" if run.name in behaviour["broken"] else TRAIN
        values = [str(folder.run), str(until), str(behaviour["seconds"]), str(start or "")]
        return [
            sys.executable,
            "-c",
            program,
            *values,
            "--config-dir",
            "c",
            "--config-name",
            run.primary,
            f"seed={run.seed}",
        ]

    def evaluation_command(run, settings, *, data, folder, untrained, device, words=None):
        return [sys.executable, "-c", EVALUATE, str(folder.evaluation)]

    def start_process(command, **where):
        if "--config-name" in command:
            behaviour["trained"].append(where["log"].parent.name)
        return original(command, **where)

    original = runner.start_process
    behaviour["command"] = training_command
    monkeypatch.setattr(runner, "start_process", start_process)
    monkeypatch.setattr(launch, "training_command", training_command)
    monkeypatch.setattr(launch, "evaluation_command", evaluation_command)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.02)
    # the scripts' checkpoints are named by their updates, and hold none
    monkeypatch.setattr(runner, "keep_epoch_checkpoints", lambda run, every, at=(): None)
    settings = StudySettings(
        data="d",
        whole_updates=7,
        first_updates=2,
        second_updates=5,
        evaluate_every=1,
        config_dir="c",
        scenarios=["w2v2", "vgs", "w2v2_then_vgs", "vgs_then_w2v2"],
        seeds=[1],
    )
    return settings, StudyFolder(tmp_path / "study"), behaviour


def start(study):
    settings, folder, _ = study
    return StudyRunner(settings, folder, [Slot(threads=1), Slot(threads=1)]).run()


def test_all_runs_are_trained_and_evaluated(study):
    _, folder, behaviour = study
    assert start(study) == {}
    assert sorted(behaviour["trained"]) == [
        "vgs-seed1",
        "vgs_then_w2v2-seed1",
        "w2v2-seed1",
        "w2v2_then_vgs-seed1",
    ]
    second = folder.run("w2v2_then_vgs-seed1")
    started_from = (second.run / "checkpoints" / "checkpoint_1_5.pt").read_text()
    assert started_from == str(folder.run("w2v2-seed1").run / "checkpoints" / "checkpoint_1_2.pt")
    for name in behaviour["trained"]:
        assert (folder.run(name).evaluation / "10.json").exists()


def test_finished_study_runs_nothing_again(study):
    start(study)
    study[2]["trained"].clear()
    assert start(study) == {}
    assert study[2]["trained"] == []


def test_lost_evaluation_is_made_again_without_training(study):
    _, folder, behaviour = study
    start(study)
    behaviour["trained"].clear()
    folder.run("vgs-seed1").evaluated.unlink()
    (folder.run("vgs-seed1").evaluation / "10.json").unlink()
    assert start(study) == {}
    assert behaviour["trained"] == []
    assert (folder.run("vgs-seed1").evaluation / "10.json").exists()


def test_other_measurement_is_made_anew_without_training(study):
    settings, folder, behaviour = study
    start(study)
    behaviour["trained"].clear()
    for path in folder.path.rglob("10.json"):
        path.unlink()
    settings.split = "valid"
    assert start(study) == {}
    assert behaviour["trained"] == []
    assert (folder.run("vgs-seed1").evaluation / "10.json").exists()


@pytest.mark.parametrize("name", ["settings", "command", "evaluated"])
def test_files_that_were_cut_are_named(study, name):
    _, folder, _ = study
    start(study)
    run = folder.run("vgs-seed1")
    path = {"settings": folder.settings, "command": run.command, "evaluated": run.evaluated}[name]
    path.write_text(path.read_text()[:-5])
    with raises_fault("json.syntax", error=StudyError) as caught:
        start(study)
    assert str(path) in caught.value.faults[0].place


def test_failed_run_fails_what_starts_from_it_and_nothing_else(study):
    _, folder, behaviour = study
    behaviour["broken"].add("vgs-seed1")
    failures = start(study)
    assert set(failures) == {"vgs-seed1", "vgs_then_w2v2-seed1"}
    assert "no luck" in failures["vgs-seed1"]
    assert "vgs-seed1" in failures["vgs_then_w2v2-seed1"]
    assert folder.run("w2v2_then_vgs-seed1").evaluated.exists()
    behaviour["broken"].clear()
    assert start(study) == {}
    assert folder.run("vgs_then_w2v2-seed1").evaluated.exists()


def with_lr(study, monkeypatch, value):
    original = study[2]["command"]
    monkeypatch.setattr(launch, "training_command", lambda *a, **k: [*original(*a, **k), f"lr={value}"])


def test_other_settings_are_refused_for_runs_that_were_begun_or_finished(study, monkeypatch):
    _, folder, behaviour = study
    start(study)
    behaviour["trained"].clear()
    with_lr(study, monkeypatch, 2)
    folder.run("vgs-seed1").trained.unlink()
    settings = folder.settings.read_text()
    with raises_fault("study.settings", error=StudyError) as caught:
        start(study)
    assert "lr: not recorded before, 2 now" in str(caught.value)
    names = ("w2v2-seed1", "vgs-seed1", "w2v2_then_vgs-seed1", "vgs_then_w2v2-seed1")
    assert {fault.place for fault in caught.value.faults} == {str(folder.run(name).path) for name in names}
    assert set(caught.value.codes) == {"study.settings"}
    assert folder.settings.read_text() == settings
    assert "lr" not in json.loads(folder.run("vgs-seed1").command.read_text())


def test_finished_run_without_checkpoints_is_held_to_its_settings_too(study, monkeypatch):
    _, folder, _ = study
    start(study)
    for path in (folder.run("vgs-seed1").run / "checkpoints").iterdir():
        path.unlink()
    with_lr(study, monkeypatch, 2)
    with raises_fault("study.settings", str(folder.run("vgs-seed1").path), error=StudyError):
        start(study)


def test_second_phases_are_held_to_where_they_started(study):
    settings, folder, _ = study
    start(study)
    settings.first_updates = 3
    with raises_fault(
        "study.settings", str(folder.run("vgs_then_w2v2-seed1").path), error=StudyError
    ) as caught:
        start(study)
    assert "start: w2v2-seed1 after 2 updates before, w2v2-seed1 after 3 updates now" in str(caught.value)
    places = [fault.place for fault in caught.value.faults]
    assert str(folder.run("vgs-seed1").path) not in places  # base runs are the same


def test_run_of_an_older_version_is_refused_for_what_it_did_not_record(study):
    _, folder, _ = study
    start(study)
    command = folder.run("vgs-seed1").command
    command.write_text(json.dumps({k: v for k, v in json.loads(command.read_text()).items() if k != "start"}))
    with raises_fault("study.settings", error=StudyError) as caught:
        start(study)
    assert "start: not recorded before, random weights now" in str(caught.value)


def test_replaced_data_is_refused_and_a_new_test_split_measured_anew(study, tmp_path):
    settings, folder, behaviour = study
    settings.data = str(tmp_path / "data")
    for name in ("train.tsv", "valid.tsv", "test.tsv"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text("first")
    start(study)
    behaviour["trained"].clear()
    (folder.run("vgs-seed1").evaluation / "10.json").unlink()
    (tmp_path / "data" / "test.tsv").write_text("second")
    assert start(study) == {}
    assert behaviour["trained"] == []
    assert (folder.run("vgs-seed1").evaluation / "10.json").exists()
    (tmp_path / "data" / "train.tsv").write_text("second")
    with raises_fault("study.settings", error=StudyError) as caught:
        start(study)
    assert re.search(r"train\.tsv: [0-9a-f]{64} before, [0-9a-f]{64} now", str(caught.value))


@pytest.fixture
def preparing(study, monkeypatch):
    """The study of `study`, whose data is what its prepare says."""
    settings, folder, _ = study
    settings.prepare, settings.data = ["one"], "{output}/data"

    def prepare_command(arguments):
        program = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(); "
        program += "(p / 'train.tsv').write_text(sys.argv[2])"
        return [sys.executable, "-c", program, str(folder.path / "data"), *arguments]

    monkeypatch.setattr(launch, "prepare_command", prepare_command)
    return study


def test_other_preparation_is_refused_once_the_data_is_there(preparing):
    settings, folder, behaviour = preparing
    behaviour["broken"] |= {"vgs-seed1", "w2v2-seed1"}
    start(preparing)  # no run saves a checkpoint
    settings.prepare = ["two"]
    with raises_fault("study.prepare", str(folder.path / "data"), error=StudyError) as caught:
        start(preparing)
    assert len(caught.value.faults) == 1
    assert "'one' before, 'two' now" in str(caught.value)
    assert json.loads(folder.settings.read_text())["prepare"] == ["one"]


def test_data_that_is_made_again_must_be_the_same(preparing):
    settings, folder, _ = preparing
    assert start(preparing) == {}
    train = folder.path / "data" / "train.tsv"
    train.unlink()
    train.parent.rmdir()
    settings.prepare = ["two"]
    with raises_fault("study.settings", error=StudyError) as caught:
        start(preparing)
    assert "prepare: one before, two now" in str(caught.value)
    assert not train.exists()


def test_training_that_ends_early_has_failed(study, monkeypatch):
    _, folder, _ = study
    original = study[2]["command"]

    def shorter(run, *args, **values):
        command = original(run, *args, **values)
        return ["3" if part == "7" and run.name == "vgs-seed1" else part for part in command]

    monkeypatch.setattr(launch, "training_command", shorter)
    failures = start(study)
    assert set(failures) == {"vgs-seed1", "vgs_then_w2v2-seed1"}
    assert (
        "checkpoint after update 7, got checkpoint_1_1.pt, checkpoint_1_2.pt, checkpoint_1_3.pt"
        in (failures["vgs-seed1"])
    )
    assert "optimization.stop_time_hours" in failures["vgs-seed1"]
    assert not folder.run("vgs-seed1").trained.exists()


def test_lost_start_says_what_there_is_and_what_to_remove(study):
    _, folder, _ = study
    study[0].scenarios = ["vgs"]
    start(study)
    base = folder.run("vgs-seed1")
    (base.run / "checkpoints" / "checkpoint_1_2.pt").unlink()
    study[0].scenarios = ["vgs", "vgs_then_w2v2"]
    reason = start(study)["vgs_then_w2v2-seed1"]
    assert "checkpoint_*_2.pt: must exist for vgs_then_w2v2-seed1 to start from, got checkpoint_1_1.pt, " in (
        reason
    )
    assert f"remove {base.path} and run the study again" in reason


def test_settings_may_be_corrected_before_the_first_checkpoint(study, monkeypatch):
    _, folder, behaviour = study
    behaviour["broken"].add("vgs-seed1")
    study[0].scenarios = ["vgs"]
    assert set(start(study)) == {"vgs-seed1"}
    behaviour["broken"].clear()
    with_lr(study, monkeypatch, 2)
    assert start(study) == {}
    assert json.loads(folder.run("vgs-seed1").command.read_text())["lr"] == "2"


def test_base_that_was_only_left_is_trained_to_its_end_when_it_joins(study):
    settings, folder, behaviour = study
    settings.scenarios = ["vgs_then_w2v2"]
    assert start(study) == {}
    checkpoints = folder.run("vgs-seed1").run / "checkpoints"
    assert not (checkpoints / "checkpoint_1_3.pt").exists()
    behaviour["trained"].clear()
    settings.scenarios = ["vgs", "vgs_then_w2v2"]
    assert start(study) == {}
    assert set(behaviour["trained"]) == {"vgs-seed1"}
    assert (checkpoints / "checkpoint_1_7.pt").exists()
    history = folder.run("vgs-seed1").history
    updates = [json.loads(line)["update"] for line in history.read_text().splitlines()]
    assert updates == [1, 2, 3, 4, 5, 6, 7]


def test_training_goes_on_although_the_last_checkpoint_is_cut_off(study):
    _, folder, behaviour = study
    start(study)
    behaviour["trained"].clear()
    run = folder.run("vgs-seed1")
    run.trained.unlink()
    (run.run / "checkpoints" / "checkpoint_1_7.pt").unlink()
    last = run.run / "checkpoints" / "checkpoint_last.pt"
    last.write_bytes(b"PK")
    assert start(study) == {}
    assert behaviour["trained"] != []
    assert not last.exists()


def test_training_killed_before_its_mark_makes_no_further_update(study):
    _, folder, _ = study
    start(study)
    run = folder.run("vgs-seed1")
    before = run.history.read_text()
    run.trained.unlink()
    run.evaluated.unlink()
    assert start(study) == {}
    assert run.trained.exists()
    assert run.history.read_text() == before


def test_training_killed_after_an_epochs_last_checkpoint_makes_no_further_update(study, monkeypatch):
    _, folder, _ = study
    start(study)
    run = folder.run("vgs-seed1")
    before = run.history.read_text()
    run.trained.unlink()
    (run.run / "checkpoints" / "checkpoint_1_7.pt").unlink()
    state = {"model": {"w": torch.zeros(2)}, "cfg": {}, "optimizer_history": [{"num_updates": 7}]}
    torch.save(state, run.run / "checkpoints" / "checkpoint1.pt")
    monkeypatch.setattr(runner, "keep_epoch_checkpoints", keep_epoch_checkpoints)
    assert start(study) == {}
    assert (run.run / "checkpoints" / "checkpoint_1_7.pt").is_file()
    assert run.history.read_text() == before


def test_broken_epoch_checkpoint_fails_its_run(study, monkeypatch):
    _, folder, _ = study
    start(study)
    run = folder.run("w2v2_then_vgs-seed1")
    run.trained.unlink()
    (run.run / "checkpoints" / "checkpoint1.pt").write_bytes(b"x")
    monkeypatch.setattr(runner, "keep_epoch_checkpoints", keep_epoch_checkpoints)
    failures = start(study)
    assert set(failures) == {"w2v2_then_vgs-seed1"}
    assert "checkpoint1.pt" in failures["w2v2_then_vgs-seed1"]


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")])
def test_checkpoints_that_cannot_be_looked_at_fail_their_run_alone(study, monkeypatch, error):
    _, folder, behaviour = study
    broken = folder.run("vgs-seed1").run / "checkpoints"

    def mend(path, *, start_over):
        if path == broken:
            raise error

    monkeypatch.setattr(runner, "mend_checkpoints", mend)
    failures = start(study)
    assert set(failures) == {"vgs-seed1", "vgs_then_w2v2-seed1"}
    assert failures["vgs-seed1"]
    assert sorted(behaviour["trained"]) == ["w2v2-seed1", "w2v2_then_vgs-seed1"]


def test_time_left_does_not_count_updates_of_an_earlier_start(study, monkeypatch):
    history = study[1].run("vgs-seed1").history
    history.parent.mkdir(parents=True)
    history.write_text(json.dumps({"split": "train", "update": 3}) + "\n")
    shown = {}

    def progress(**numbers):
        shown.update(numbers)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "Progress", progress)
    with pytest.raises(KeyboardInterrupt):
        start(study)
    assert shown == {"total_updates": 7 + 7 + 5 + 5, "done_updates": 3, "n_slots": 2}


def test_updates_of_runs_that_wait_to_go_on_count_as_made(study, monkeypatch):
    for name in ("vgs-seed1", "w2v2-seed1"):
        history = study[1].run(name).history
        history.parent.mkdir(parents=True)
        history.write_text(json.dumps({"split": "train", "update": 3}) + "\n")
    shown = []

    def show(self, finished_updates, states):
        shown.append((self._initial, finished_updates, [state and state.done for state in states]))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.Progress, "show", show)
    study[2]["seconds"] = 5.0
    settings, folder, _ = study
    with pytest.raises(KeyboardInterrupt):
        StudyRunner(settings, folder, [Slot(threads=1)]).run()
    assert shown == [(6, 3, [3])]


def test_two_studies_do_not_run_in_one_folder(study):
    _, folder, _ = study
    folder.path.mkdir()
    with folder.lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with raises_fault("output.busy", str(folder.path)):
            start(study)


def test_a_study_runs_where_files_cannot_be_locked(study, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(atomic.fcntl, "flock", refuse)
    assert start(study) == {}


def test_interrupted_study_stops_its_processes_and_goes_on_later(study, monkeypatch):
    _, folder, behaviour = study
    behaviour["seconds"] = 0.2
    n_shown = 0

    def show(self, finished_updates, states):
        nonlocal n_shown
        n_shown += 1
        if any(state is not None and state.name == "w2v2-seed1" and state.done >= 2 for state in states):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner.Progress, "show", show)
        with pytest.raises(KeyboardInterrupt):
            start(study)
    assert n_shown > 1
    time.sleep(0.5)
    history = folder.run("w2v2-seed1").history
    n_lines = len(history.read_text().splitlines())
    assert 2 <= n_lines < 7
    time.sleep(0.5)
    assert len(history.read_text().splitlines()) == n_lines  # nothing goes on in the background
    behaviour["seconds"] = 0.0
    assert start(study) == {}
    updates = [json.loads(line)["update"] for line in history.read_text().splitlines()]
    assert updates == [1, 2, 3, 4, 5, 6, 7]
