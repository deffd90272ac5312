from __future__ import annotations

import argparse
import errno
import importlib
import keyword
import logging
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fairseq_vgs import __version__
from fairseq_vgs.checkpoints.load import CheckpointError
from fairseq_vgs.cli import check, main
from fairseq_vgs.evaluation.results import ResultsError
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.media.errors import refuse_sound
from fairseq_vgs.report.run_logs import TrainingLogError


@pytest.fixture(autouse=True)
def keep_log_level() -> Iterator[None]:
    logger = logging.getLogger("fairseq_vgs")
    level = logger.level
    yield
    logger.setLevel(level)


def run_with(monkeypatch: pytest.MonkeyPatch, run: Callable[[argparse.Namespace], int], *options: str) -> int:
    monkeypatch.setattr(check, "run", run)
    return main.main([*options, "check", "DATA"])


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize("name", main.SUBCOMMANDS)
def test_every_subcommand_has_the_same_shape(name: str) -> None:
    module = importlib.import_module(f"fairseq_vgs.cli.{name}{'_' if keyword.iskeyword(name) else ''}")
    assert main.SUBCOMMANDS[name]
    assert module.__doc__
    assert callable(module.run)


def test_help_lists_subcommands_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "examples:\n  fairseq-vgs " in out
    assert "exit status: 0 done, 1 data or run error, 2 wrong usage" in out
    for name in main.SUBCOMMANDS:
        assert f"\n    {name} " in out


@pytest.mark.parametrize("name", main.SUBCOMMANDS)
def test_every_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: fairseq-vgs {name} " in capsys.readouterr().out


def leaves(parser: Any) -> Iterator[Any]:
    """Yield the parsers of commands that have no further subcommands."""
    parser.complete()
    kinds = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for child in (child for kind in kinds for child in kind.choices.values()):
        yield from leaves(child)
    if not kinds:
        yield parser


STRICT = ("evaluate", "extract", "compare", "plot", "gallery", "study")
COMMANDS = {leaf.prog: leaf for leaf in leaves(main.build_parser()) if leaf.prog.split()[1] in STRICT}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_examples_of_itself(command: str) -> None:
    epilog = (COMMANDS[command].epilog or "").replace("\\\n", "")
    heading, *lines = epilog.partition("\n\n")[0].splitlines()
    assert heading == "examples:"
    assert lines
    for line in lines:
        assert line.startswith(f"  {command} ")
        words = shlex.split(line.partition(" | ")[0], comments=True)[1:]
        main.build_parser().parse_args(words)  # exits if there are no such options


ALL_COMMANDS = {leaf.prog: leaf for leaf in leaves(main.build_parser())}


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_no_command_takes_the_beginning_of_an_option(command: str) -> None:
    assert not ALL_COMMANDS[command].allow_abbrev


def test_the_beginning_of_an_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(["prepare", "pairs", "t.csv", "out", "--skip"])
    assert stop.value.code == 2
    assert "unrecognized arguments: --skip" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (["chekc", "DATA"], "did you mean check?"),
        (["evaluate", "retreival"], "did you mean retrieval?"),
        (["check", "DATA", "--jsn"], "unrecognized arguments: --jsn; did you mean --json?"),
        (["prepare", "pairs", "t.csv", "out", "--pakc", "zip"], "--pakc zip; did you mean --pack?"),
        (["prepare", "pairs", "t.csv", "out", "--pack", "zp"], "did you mean zip?"),
        (["prepare", "pairs", "t.csv", "out", "--valid-share", "2"], "got 2.0; give 0.1 for a tenth"),
        (["prepare", "pairs", "t.csv", "out", "--grid", "3"], "add --regions efficientnet"),
        (["plot", "training", "x.jsonl", "x.gif"], "choose a format by its suffix"),
    ],
    ids=str,
)
def test_wrong_usage_is_explained_briefly(
    arguments: list[str], end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: fairseq-vgs")
    assert f"{end} (see fairseq-vgs" in error


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fairseq-vgs {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["check"], ["check", "a", "b"], ["--what"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: fairseq-vgs" in captured.err


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_subcommands_status_is_returned(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    assert run_with(monkeypatch, lambda args: code) == code


def test_manifest_errors_are_their_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = FaultError([Fault("a.tsv:1", "x"), Fault("b.tsv:2", "y")])
    assert run_with(monkeypatch, raising(error)) == 1
    assert capsys.readouterr() == ("", "a.tsv:1: x\nb.tsv:2: y\n")


def test_many_faults_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    error = FaultError([Fault(f"a.tsv:{number}", "x") for number in range(1, 13)])
    assert run_with(monkeypatch, raising(error)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-2:], len(lines)) == ("a.tsv:1: x", ["a.tsv:12: x", "12 faults in all"], 13)


FREE_SPACE = "free space, raise the limit or choose another place, then run the same command again"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileExistsError("out.json: already exists; pass --force"), "out.json: already exists; pass --force"),
        (FileNotFoundError(2, "No such file or directory", "x"), "[Errno 2] No such file or directory: 'x'"),
        (KeyError("x"), "KeyError: 'x' (run again as fairseq-vgs --debug ... for the traceback)"),
        (RuntimeError("a\nb"), "RuntimeError: a b (run again as fairseq-vgs --debug ... for the traceback)"),
        (CheckpointError.at("a.pt", "is none; train one", "checkpoint.missing"), "a.pt: is none; train one"),
        (ResultsError.at("b.json", "is none; evaluate", "results.broken"), "b.json: is none; evaluate"),
        (TrainingLogError(Fault("c.log", "is none; train")), "c.log: is none; train"),
        (refuse_sound("a.wav", "sound.silent", "x"), "a.wav: audio must not be silent, got x; remove it"),
        (ValueError("x"), "ValueError: x (run again as fairseq-vgs --debug ... for the traceback)"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.npy"),
            f"a.npy: cannot be written (No space left on device); {FREE_SPACE}",
        ),
        (OSError(errno.EDQUOT, "Over quota"), f"cannot be written (Over quota); {FREE_SPACE}"),
        (OSError(), "OSError: no message (run again as fairseq-vgs --debug ... for the traceback)"),
    ],
)
def test_other_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    assert run_with(monkeypatch, raising(error)) == 1
    assert capsys.readouterr() == ("", f"{line}\n")


@pytest.mark.parametrize("arguments", [["--debug", "check", "DATA"], ["check", "DATA", "--debug"]])
def test_debug_shows_the_traceback_and_logs_more(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(check, "run", raising(RuntimeError("boom")))
    with pytest.raises(RuntimeError, match="boom"):
        main.main(arguments)
    assert logging.getLogger("fairseq_vgs").level == logging.DEBUG


def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with(monkeypatch, raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_ends_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(args: argparse.Namespace) -> int:
        with atomic_write(tmp_path / "x") as file:
            try:
                file.write("half")
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(30)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)  # a second one does not stop the cleaning up
        return 0

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert run_with(monkeypatch, run) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "terminated\n"
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_handlers_of_others_and_other_threads_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: list[object] = []

    def run(args: argparse.Namespace) -> int:
        handlers.append(signal.getsignal(signal.SIGTERM))
        return 0

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run_with, monkeypatch, run).result() == 0
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run_with(monkeypatch, run) == 0
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert handlers == [signal.SIG_DFL, signal.SIG_IGN]


def test_sigterm_ends_forked_workers_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        fork = multiprocessing.get_context("fork")
        begun = fork.Event()
        worker = fork.Process(target=lambda: (begun.set(), time.sleep(30)))
        worker.start()
        assert begun.wait(10)
        worker.terminate()
        worker.join(10)
        return 0 if worker.exitcode == -signal.SIGTERM else 1

    assert run_with(monkeypatch, run) == 0


def run_process(*arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "fairseq_vgs.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, check=False, **kwargs)


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(".\nсова.wav\t800\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run_process("check", str(tmp_path), env=environment)
    assert done.returncode == 1
    assert done.stdout.startswith(b"train.tsv:2: ")
    assert b"\\u0441\\u043e\\u0432\\u0430.wav" in done.stdout
    assert b"Traceback" not in done.stderr


def test_a_reader_that_leaves_early(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(".\n" + "".join(f"{n}.wav\t800\n" for n in range(5000)))
    program = f'"{sys.executable}" -m fairseq_vgs.cli.main check "{tmp_path}" | head -n 1'
    done = subprocess.run(["bash", "-c", program], capture_output=True, check=False)
    assert done.stdout.startswith(b"train.tsv:2: ")
    assert b"BrokenPipe" not in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "evaluate retrieval absent.pt absent --output {}",
        "compare absent absent --output {}",
        "plot training absent {}/figure.png",
        "gallery absent absent {} --no-heat-maps",
        "extract absent.pt absent --output {}",
        "import wav2vec2 absent {}/start.pt",
        "import fast-vgs absent {}/start.pt",
    ],
)
def test_an_output_is_tried_before_the_work(tmp_path, capsys, command):
    """Inputs are missing, too: they are not read before."""
    (tmp_path / "file").touch()
    assert main.main(command.format(tmp_path / "file" / "output").split()) == 1
    assert "must be a folder that can be written" in capsys.readouterr().err
