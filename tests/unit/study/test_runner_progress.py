"""What a study shows on a terminal."""

import io
import json
import logging
import os

from fairseq_vgs.study import runner
from fairseq_vgs.study.runner import Progress, RunState, read_position


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_do_not_wrap_on_a_narrow_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(runner.sys, "stderr", terminal)
    monkeypatch.setattr(runner.shutil, "get_terminal_size", lambda: os.terminal_size((40, 24)))
    state = RunState("w2v2_then_vgs_plus-seed1", "train", 320, 640, "SSL 2.910 VGS 1.100")
    with Progress(total_updates=100, done_updates=0, n_slots=2) as shown:
        shown.show(10, [state, None])
        lines = [str(bar.desc) for bar in shown._bars[1:]]
    assert lines == [f"  {state}"[:39], "  idle"]
    assert lines[0].strip() in terminal.getvalue()


def test_time_left_follows_from_the_updates_of_this_start(monkeypatch, caplog):
    now = 1000.0
    monkeypatch.setattr(runner.sys, "stderr", io.StringIO())
    monkeypatch.setattr(runner.time, "monotonic", lambda: now)
    caplog.set_level(logging.INFO)
    with Progress(total_updates=100, done_updates=40, n_slots=1) as shown:
        shown.show(30, [RunState("vgs-seed1", "train", 10, 70, "VGS 1.100")])
        now = 1030.0
        shown.show(30, [None])  # within a minute of the last line
        now = 1120.0
        shown.show(30, [RunState("vgs-seed1", "train", 20, 70)])  # 10 updates in 2 minutes, 50 are left
    assert [record.getMessage() for record in caplog.records] == [
        "40 of 100 updates, time left unknown",
        "  vgs-seed1: train, update 10/70 VGS 1.100",
        "50 of 100 updates, about 10 min left",
        "  vgs-seed1: train, update 20/70",
    ]


def test_position_is_the_last_whole_record_of_training(tmp_path):
    history = tmp_path / "history.jsonl"
    assert read_position(history) == (0, "")
    records = [
        {"split": "train", "update": update, "ssl_loss": 4.0, "pad": "x" * 99} for update in range(1, 200)
    ]
    records.append({"split": "train", "update": 200, "ssl_loss": 2.5, "vgs_loss": 1.25, "lr": 0.1})
    records.append({"split": "valid", "update": 200, "ssl_loss": 9.0})
    history.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"split": "train", "upd')
    assert read_position(history) == (200, "SSL 2.500 VGS 1.250")
    history.write_text(json.dumps({"split": "valid", "update": 5}) + "\n")
    assert read_position(history) == (0, "")
