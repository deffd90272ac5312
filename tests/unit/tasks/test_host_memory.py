"""Freed memory stays with the process; run in one of its own, since the setting cannot be undone."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from fairseq_vgs.tasks.host import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):
    torch.ones(40_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(40_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    output = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    return int(output.splitlines()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_large_blocks_are_reused():
    """Five times 160 MB anew: a fault per page of 4 KiB, unless the block is kept."""
    assert page_faults("leave") > 5000
    assert page_faults("keep") < 500


def test_other_c_libraries_are_left_alone(monkeypatch):
    from fairseq_vgs.tasks import host

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert host.keep_freed_memory() is False
