"""How a run begins, ends and resumes: by the genuine command."""

import os
import shutil
import signal
import time

import pytest
from support.train import Forked, environment, history, run_command, train, train_command

LAST = "checkpoint_last.pt"


@pytest.fixture(scope="module")
def overrides(small_data):
    return [f"task.data={small_data}", "dataset.batch_size=6", "optimization.max_update=4"]


@pytest.fixture(scope="module")
def finished(overrides, tmp_path_factory):
    """A run of four updates, an epoch."""
    run = tmp_path_factory.mktemp("finished")
    train("vgs_plus", run, *overrides)
    return run


def short(environment_of_run):
    """Without the traceback that Hydra leaves out."""
    return {name: value for name, value in environment_of_run.items() if name != "HYDRA_FULL_ERROR"}


@pytest.fixture
def start():
    """Start a run; one that is still going when the test ends is killed."""
    started = []

    def run_of(run, *overrides):
        command = train_command("vgs_plus", run, *overrides)
        started.append(Forked(command, short(environment()), merged=True))
        return started[-1]

    yield run_of
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for_update(run, process, update):
    deadline = time.monotonic() + 120
    while not (run / "history.jsonl").exists() or len(history(run)) < update:
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_finished_run_started_again_does_nothing(finished, overrides, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.suffix in {".pt", ".jsonl"}}
    done = train("vgs_plus", run, *overrides)
    assert "the run is finished (update 4 of optimization.max_update=4)" in done.stdout + done.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_is_not_continued_with_another_loss(finished, overrides, tmp_path):
    """As after a change of the defaults; the message says what continues it."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    others = ["optimization.max_update=5", "criterion.vgs_loss=infonce", "model.dropout=0.0"]
    done = train("vgs_plus", run, *overrides, *others, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"{run / 'checkpoints'}: " in last and "hydra.run.dir" in last
    began = ["criterion.vgs_loss=masked_margin", "model.dropout=0.1", "optimization.max_update=4"]
    assert [word for word in began if f" {word}" not in last] == []
    assert max(history(run)) == 4
    train("vgs_plus", run, *overrides, *others, *began[:2])
    assert max(history(run)) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stopped_run_saves_and_resumes_with_the_same_losses(start, number, finished, overrides, tmp_path):
    """The signal reaches the data workers as well, as from a scheduler or a terminal."""
    process = start(tmp_path, *overrides)
    wait_for_update(tmp_path, process, 2)
    os.killpg(process.pid, number)
    printed = process.communicate(timeout=120)[0].rstrip()
    if process.returncode != 0:  # else it had finished
        assert process.returncode == 128 + number
        assert printed.splitlines()[-1].split(" - ")[-1].startswith(f"stopped by {number.name} after update")
        assert "Traceback" not in printed
        assert (tmp_path / "checkpoints" / LAST).exists()
    train("vgs_plus", tmp_path, *overrides)
    for split in ("train", "valid"):
        actual, expected = history(tmp_path, split), history(finished, split)
        losses = [{update: record["loss"] for update, record in part.items()} for part in (actual, expected)]
        assert losses[0] == losses[1]
    assert (tmp_path / "checkpoints" / "checkpoint_best.pt").exists()


def test_a_folder_belongs_to_one_run_at_a_time(start, overrides, tmp_path):
    first = start(tmp_path, *overrides, "optimization.max_update=100000")
    wait_for_update(tmp_path, first, 1)
    recorded = {path: path.read_bytes() for path in (tmp_path / ".hydra").iterdir()}
    second = start(tmp_path, *overrides)
    printed = second.communicate(timeout=120)[0]
    assert second.returncode == 1
    assert "another run is training in this folder" in printed
    assert "Traceback" not in printed
    assert {path: path.read_bytes() for path in (tmp_path / ".hydra").iterdir()} == recorded
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    train("vgs_plus", tmp_path, *overrides)  # nothing of the killed one is in the way
    assert not (tmp_path / "checkpoints" / ".lock").exists()


def test_every_job_of_a_sweep_has_a_best_checkpoint(overrides, tmp_path):
    command = train_command("vgs_plus", tmp_path, *overrides[:2], "optimization.max_update=2")
    command[1:1] = ["-m"]
    command += ["criterion.alpha_values=[0.0],[1.0]", f"hydra.sweep.dir={tmp_path}"]
    done = run_command(command, environment())
    assert done.returncode == 0, done.stderr[-3000:]
    for job in ("0", "1"):
        assert (tmp_path / job / "checkpoints" / "checkpoint_best.pt").exists()


def test_gradients_that_are_not_finite_name_update_and_items(start, finished, overrides, tmp_path):
    """The last good checkpoint stays, and no traceback hides the line."""
    run = shutil.copytree(finished, tmp_path / "run")
    before = (run / "checkpoints" / LAST).read_bytes()
    process = start(run, *overrides[:2], "optimization.max_update=9", "optimization.lr=[1e30]")
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    line = next(line for line in printed.splitlines() if line.startswith("update "))
    assert "train.tsv:" in line
    assert "optimization.lr" in line
    assert "Traceback" not in printed
    assert (run / "checkpoints" / LAST).read_bytes() == before


def test_a_fault_of_the_data_is_one_line(start, small_data, overrides, tmp_path):
    """Found by a data worker."""
    data = shutil.copytree(small_data, tmp_path / "data")
    audio = data / "train.tsv"
    lines = audio.read_text(encoding="utf-8").splitlines()
    lines[1] = f"{lines[1].split(chr(9))[0]}\t999999"
    audio.write_text("\n".join(lines) + "\n", encoding="utf-8")
    process = start(tmp_path / "run", f"task.data={data}", *overrides[1:])
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert any(line.startswith("train.tsv:2 ") for line in printed.splitlines()[-4:]), printed[-2000:]
    assert "Traceback" not in printed


def test_the_average_of_the_weights_is_kept_and_resumed(overrides, tmp_path):
    train("vgs_plus", tmp_path, *overrides[:2], "optimization.max_update=1", "ema.store_ema=true")
    done = train("vgs_plus", tmp_path, *overrides[:2], "optimization.max_update=2", "ema.store_ema=true")
    assert "Loaded checkpoint" in done.stdout + done.stderr
