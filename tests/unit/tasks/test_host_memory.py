"""Freed memory stays with the process; run in one of its own, since the setting cannot be undone."""

import os
import platform
import subprocess
import sys

import pytest

from fairseq_vgs.launch.process import memory_environment

FAULTS = """
import resource, torch
from fairseq_vgs.tasks.host import keep_freed_memory

def least_faults():
    for _ in range(3):
        torch.ones(40_000_000)
    rounds = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(2):
            torch.ones(40_000_000)
        rounds.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(rounds)

print(least_faults())
assert keep_freed_memory()
print(least_faults())
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
UPDATES = """
import os, random, sys, torch
from fairseq_vgs.tasks.host import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

torch.set_num_threads(1)
keep_freed_memory()
draw = random.Random(1)
long_lived = [torch.ones(1) for _ in range(500)]
before = resident()
for update in range(24):
    length, kept = draw.randint(60, 100), []
    for layer in range(60):
        kept.append(torch.empty(500 * length * (1 + layer % 7)).fill_(1))
        torch.empty(3000 * length).fill_(1)
        long_lived[draw.randrange(500)] = torch.ones(1)
    while kept:
        torch.empty(50 * length * len(kept)).fill_(1)
        kept.pop()
print(resident() - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")


def printed_by(code: str, **variables: str) -> list[int]:
    output = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, **variables},
    ).stdout
    return [int(line) for line in output.splitlines()]


@glibc
def test_large_blocks_are_reused():
    """Allocating 160 MB twice takes a fault per page, unless the block is kept.

    The least of four rounds counts: a small allocation inside the freed block makes the heap grow once more.
    """
    left, kept = printed_by(FAULTS)
    assert left > 2000
    assert kept < 500


@glibc
def test_data_workers_do_not_inherit_what_was_freed():
    """320 MB, of which 40 MB are still in use."""
    kept, returned = printed_by(MEMORY)
    assert kept > 300_000_000
    assert returned < 80_000_000


@glibc
def test_batches_of_different_lengths_do_not_grow_the_heap():
    """An update holds at most 48 MB of tensors."""
    (grown,) = printed_by(UPDATES, **memory_environment())
    assert grown < 100_000_000


def test_tunables_of_the_user_win(monkeypatch):
    """Of two values of a tunable glibc takes the later one."""
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=3")
    tunables = memory_environment()["GLIBC_TUNABLES"].split(":")
    assert tunables[0] == "glibc.malloc.tcache_count=0"
    assert tunables[-1] == "glibc.malloc.tcache_count=3"


def test_other_c_libraries_are_left_alone(monkeypatch):
    from fairseq_vgs.tasks import host

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert host.keep_freed_memory() is False
