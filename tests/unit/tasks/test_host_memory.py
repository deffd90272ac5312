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


MEMORY = """
import os, sys, torch
from fairseq_vgs.tasks.host import keep_freed_memory, return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

before = resident()
assert keep_freed_memory()
blocks = [torch.ones(10_000_000) for _ in range(8)]
kept = blocks.pop()  # what lies above the freed blocks
del blocks
print(resident() - before)
return_freed_memory()
print(resident() - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")


def printed_by(code: str, *arguments: str) -> list[int]:
    output = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    return [int(line) for line in output.splitlines()]


@glibc
def test_large_blocks_are_reused():
    """Five times 160 MB anew: a fault per page of 4 KiB, unless the block is kept."""
    assert printed_by(FAULTS, "leave")[0] > 5000
    assert printed_by(FAULTS, "keep")[0] < 500


@glibc
def test_data_workers_do_not_inherit_what_was_freed():
    """320 MB, of which 40 MB are still in use."""
    kept, returned = printed_by(MEMORY)
    assert kept > 300_000_000
    assert returned < 80_000_000


def test_other_c_libraries_are_left_alone(monkeypatch):
    from fairseq_vgs.tasks import host

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert host.keep_freed_memory() is False
