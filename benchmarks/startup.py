"""Measure the CPU seconds of commands that do no work: help, version, wrong usage.

    python benchmarks/startup.py [--repeats 5]

Prints the least CPU time (user and system) of each command, and its ratio to an empty Python program.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

MODULE = ["-m", "fairseq_vgs.cli.main"]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import fairseq_vgs": ["-c", "import fairseq_vgs"],
    "fairseq-vgs --help": [*MODULE, "--help"],
    "fairseq-vgs --version": [*MODULE, "--version"],
    "fairseq-vgs --what": [*MODULE, "--what"],
    "fairseq-vgs evaluate retrieval --help": [*MODULE, "evaluate", "retrieval", "--help"],
    "fairseq-vgs prepare --help": [*MODULE, "prepare", "--help"],
    "fairseq-vgs prepare spokencoco --help": [*MODULE, "prepare", "spokencoco", "--help"],
    "fairseq-vgs extract --help": [*MODULE, "extract", "--help"],
    "fairseq-vgs study --help": [*MODULE, "study", "--help"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """Run Python with the arguments; return the seconds of CPU that it took."""
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    repeats = parser.parse_args().repeats
    empty = 0.0
    print(f"{'command':<40}{'CPU s':>8}{'ratio':>8}")
    for name, arguments in COMMANDS.items():
        seconds = min(cpu_seconds(arguments) for _ in range(repeats))
        empty = empty or seconds
        print(f"{name:<40}{seconds:>8.3f}{seconds / empty:>8.1f}")


if __name__ == "__main__":
    main()
