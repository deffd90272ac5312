"""What a study shows on a terminal."""

import io
import logging
import os

from fairseq_vgs.study import runner
from fairseq_vgs.study.runner import Progress, RunState


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
