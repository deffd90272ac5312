import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def test_processes_die_with_a_killed_parent(tmp_path):
    """kill -9 of the parent must not leave training behind that writes into its folders."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import pathlib, sys, time\n"
        "from fairseq_vgs.launch.process import start_process\n"
        "lock = open(sys.argv[1] + '/lock', 'a')\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "log = pathlib.Path(sys.argv[1]) / 'log'\n"
        "child = start_process(command, log=log, environment={}, kept_open=[lock.fileno()])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the training process outlived its parent")
