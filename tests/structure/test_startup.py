"""Help, versions and wrong usage answer at once: they import nothing heavy."""

import subprocess
import sys

import pytest

HEAVY = (
    "fairseq",
    "matplotlib",
    "numpy",
    "omegaconf",
    "pandas",
    "PIL",
    "pyarrow",
    "scipy",
    "soundfile",
    "torch",
    "transformers",
)
CODE = """
import argparse, sys
from fairseq_vgs.cli import main

def check(parser, done):
    parser.format_help()
    heavy = sorted(set({heavy}) & set(sys.modules) - done)
    if heavy:
        print(parser.prog, "imports", *heavy)
    done |= set(heavy)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                check(child, done)

check(main.build_parser(), set())
try:
    main.main({arguments})
except SystemExit as stop:
    print("exit", stop.code, sorted(set({heavy}) & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--version"], 0), (["prepare", "scenes", "--what"], 2), (["nonsense"], 2)]
)
def test_the_way_to_help_imports_nothing_heavy(arguments, code):
    """Of any command: all parsers are filled, one after the other."""
    text = CODE.format(heavy=HEAVY, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == [f"exit {code} []"], done.stdout + done.stderr


def test_help_on_prepare_imports_no_numpy_either():
    command = [sys.executable, "-X", "importtime", "-m", "fairseq_vgs.cli.main", "prepare", "items", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "fairseq_vgs.alignments.items" in done.stderr
    assert " numpy" not in done.stderr
