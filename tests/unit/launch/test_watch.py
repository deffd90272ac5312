"""What a run shows, from a recorded history; signals and exit statuses, with a small program as training."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from fairseq_vgs.launch import watch
from fairseq_vgs.launch.history import RunHistory
from fairseq_vgs.launch.training import Training
from fairseq_vgs.launch.watch import RunBar, run_training

PROGRAM = """
import json, pathlib, signal, sys, time
run, end, status, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
stopped = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: stopped.append(number))
history = run / "history.jsonl"
done = len(history.read_text().splitlines()) if history.exists() else 0
print("[now][fairseq_vgs.tasks.x][WARNING] - mind this", flush=True)
if done >= end:
    print("[now][x][INFO] - the run is finished (update 3 of 3): nothing to do", flush=True)
for update in range(done + 1, end + 1):
    with history.open("a") as file:
        file.write(json.dumps({"split": "train", "update": update, "ssl_loss": 2.0, "vgs_loss": 1.0}) + "\\n")
    time.sleep(seconds)
    if stopped:
        sys.exit(128 + stopped[0])
if status:
    print("Error executing job with overrides: []\\ndata.tsv:3: is bad", file=sys.stderr)
sys.exit(status)
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def training(run, *, end=3, status=0, seconds=0.0):
    run.mkdir(exist_ok=True)
    script = run / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script), str(run), str(end), str(status), str(seconds)]
    return Training(command, run, end, (), environment={}, history="history.jsonl")


@pytest.fixture
def lines(caplog, monkeypatch):
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.02)
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def history_of(tmp_path, *records):
    path = tmp_path / "history.jsonl"
    with path.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return path


def train(update, ssl=2.0):
    return {"split": "train", "update": update, "ssl_loss": ssl, "vgs_loss": 1.0}


def valid(update, recall, split="valid"):
    recalls = {"speech_to_image_r10": recall, "image_to_speech_r10": recall + 1}
    return {"split": split, "update": update, "ssl_loss": 3.0, "vgs_loss": 1.5, **recalls}


def test_history_of_a_run_that_goes_on(tmp_path):
    history = RunHistory(history_of(tmp_path, train(1), train(2, 1.5)))
    assert history.read() == []
    assert (history.update, history.losses, history.best) == (2, "SSL 1.500 VGS 1.000", None)
    history_of(tmp_path, valid(2, 50.0), valid(2, 99.0, "valid2"), train(3), valid(3, 40.0))
    assert [(one.split, one.update) for one in history.read()] == [("valid", 2), ("valid2", 2), ("valid", 3)]
    assert (history.update, history.last.update, history.best.update) == (3, 3, 2)
    assert history.best.recalls == (50.0, 51.0)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"split": "train", "upd')
    assert history.read() == []
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('ate": 4, "ssl_loss": 1.0}\n')
    history.read()
    assert (history.update, history.losses) == (4, "SSL 1.000")


def test_recalls_of_few_pictures_are_not_shown(tmp_path):
    history = RunHistory(history_of(tmp_path, train(1), {**valid(1, 100.0), "retrieval_images": 6.0}))
    (validation,) = history.read()
    assert validation.recalls is None
    assert "R@10" not in str(validation)
    assert history.best is None


def test_bar_on_a_terminal(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(watch.sys, "stderr", terminal)
    history = RunHistory(history_of(tmp_path, train(80), valid(80, 12.5)))
    history.read()
    with RunBar(320, initial=0) as bar:
        bar.show(history)
        bar.say("update 80: it is validated")
    assert "80/320" in terminal.getvalue()
    assert "SSL 2.000 VGS 1.000 R@10 12.5 %" in terminal.getvalue()
    assert "update 80: it is validated\n" in terminal.getvalue()


def test_lines_without_a_terminal_tell_the_time_left(tmp_path, monkeypatch, lines):
    now = 1000.0
    monkeypatch.setattr(watch.sys, "stderr", io.StringIO())
    monkeypatch.setattr(watch.time, "monotonic", lambda: now)
    history = RunHistory(history_of(tmp_path, train(40)))
    history.read()
    with RunBar(100, initial=40) as bar:
        bar.show(history)  # at once: nothing to say yet
        now = 1060.0
        bar.show(history)
        history_of(tmp_path, train(50))
        history.read()
        now = 1120.0
        bar.show(history)  # 10 updates in 2 minutes, 50 are left
    assert lines() == [
        "update 40 of 100: SSL 2.000 VGS 1.000, time left unknown",
        "update 50 of 100: SSL 2.000 VGS 1.000, about 10 min left",
    ]


def test_a_run_that_ends_well_and_is_started_again(tmp_path, lines):
    run = tmp_path / "run"
    first = run_training(training(run))
    assert (first.status, first.history.update, first.was_finished, first.errors) == (0, 3, False, "")
    assert "warning: mind this" in lines()
    assert (run / "train.log").read_text().startswith("$ ")
    assert run_training(training(run)).was_finished


def test_a_run_that_fails_shows_its_own_words(tmp_path, lines):
    outcome = run_training(training(tmp_path / "run", status=1))
    assert (outcome.status, outcome.errors) == (1, "data.tsv:3: is bad")
    assert "data.tsv:3" in (tmp_path / "run" / "train.log").read_text()
    assert run_training(training(tmp_path / "run", end=4, status=77)).status == 77


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_handed_on_and_the_run_goes_on(tmp_path, number):
    """What is said of them is written by the loop, not by the handler, which may interrupt a write."""
    run, script = tmp_path / "run", tmp_path / "parent.py"
    command = training(run, end=2000, seconds=0.01).command
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom fairseq_vgs.launch.training import Training\n"
        "from fairseq_vgs.launch.watch import run_training\n"
        f"found = Training({command!r}, Path({str(run)!r}), 2000, (), {{}}, 'history.jsonl')\n"
        "import logging, traceback\n"
        "class Said(logging.StreamHandler):\n"
        "    def emit(self, record):\n"
        "        callers = {frame.name for frame in traceback.extract_stack()}\n"
        "        print(record.getMessage(), 'hand_on' in callers, file=sys.stderr)\n"
        "logging.basicConfig(level=logging.INFO, handlers=[Said()])\n"
        "sys.exit(run_training(found).status)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (run / "history.jsonl").exists():
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(parent.pid, number)
    expected = signal.SIGTERM if number is signal.SIGHUP else number
    said = parent.communicate(timeout=60)[1]
    assert parent.returncode == 128 + expected
    assert re.search(rf"^{signal.Signals(number).name}: .* again to stop at once False$", said, re.MULTILINE)
    before = len((run / "history.jsonl").read_text().splitlines())
    assert before < 2000
    assert run_training(training(run, end=before + 2)).history.update == before + 2
