"""What a study shows on a terminal."""

import io
import os

from fairseq_vgs.study import progress
from fairseq_vgs.study.progress import Progress, RunState


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_do_not_wrap_on_a_narrow_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((40, 24)))
    state = RunState("w2v2_then_vgs_plus-seed1", "train", 320, 640, "SSL 2.910 VGS 1.100")
    with Progress(total_updates=100, done_updates=0, n_slots=2) as shown:
        shown.show(10, [state, None])
        lines = [str(bar.desc) for bar in shown._bars[1:]]
    assert lines == [f"  {state}"[:39], "  idle"]
    assert lines[0].strip() in terminal.getvalue()
