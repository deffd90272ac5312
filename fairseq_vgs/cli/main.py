"""``fairseq-vgs``: parsing, logging, and errors as readable lines with exit codes.

Every subcommand is a module of this package with ``run(args) -> int``, see ``parser.add_module``. Only the
chosen module is imported, and it imports its heavy dependencies inside ``run``, so that ``--help`` is fast.
"""

from __future__ import annotations

import argparse
import keyword
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from fairseq_vgs import __version__
from fairseq_vgs.cli.parser import Parser, add_module

SUBCOMMANDS = {
    "check": "list all faults of a data folder",
    "prepare": "build a data folder from a corpus",
    "train": "train a scenario on a data folder with fairseq-hydra-train",
    "evaluate": "measure what a trained model has learned",
    "extract": "write layers and embeddings of a model as files",
    "compare": "compare the results of several runs",
    "plot": "draw losses, recalls, cooperation probes of training runs, phone ABX or words by layer",
    "gallery": "make an HTML page of queries and their answers",
    "demo": "speak and see pictures, show a picture and hear captions, in the browser",
    "import": "convert a checkpoint of other code",
    "export": "write a model as a folder that others load without fairseq",
    "configs": "print the folder of the training configurations",
    "study": "train scenarios x seeds, and compare them in tables, curves and verdicts",
}
EXIT_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 130, 128 + signal.SIGTERM

FAULTS_AT_A_GLANCE = 10
LOG_FORMAT = "%(levelname)s | %(name)s | %(message)s"
DESCRIPTION = "Visually grounded speech with fairseq: data, training, evaluation, plots."
EPILOG = """\
examples:
  fairseq-vgs prepare scenes --help
  fairseq-vgs check DATA
  fairseq-vgs check DATA --json --debug

exit status: 0 done, 1 data or run error, 2 wrong usage
"""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM was received; cleaned up like Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand with the arguments after the program's name, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # for characters that the terminal cannot encode
    args = build_parser().parse_args(argv)
    args.command = shlex.join(["fairseq-vgs", *(sys.argv[1:] if argv is None else argv)])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    logging.getLogger("torch").setLevel(logging.WARNING)  # it logs statistics when the interpreter exits
    logging.getLogger("fairseq_vgs").setLevel(logging.DEBUG if args.debug else logging.INFO)
    try:
        with _stopped_by_sigterm():
            code: int = args.run(args)
        # A closed pipe must show here, not when the interpreter exits.
        sys.stdout.flush()
    except TerminatedError:
        print("terminated", file=sys.stderr)
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone; Python must not complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except Exception as error:
        if args.debug:
            raise
        print(_describe(error), file=sys.stderr)
        return EXIT_ERROR
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands, which put their ``run`` into ``args.run``."""
    parser = Parser(prog="fairseq-vgs", description=DESCRIPTION, epilog=EPILOG)
    parser.set_defaults(debug=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    for name, summary in SUBCOMMANDS.items():
        add_module(subparsers, name, summary, f"{name}_" if keyword.iskeyword(name) else name)
    return parser


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, raise ``TerminatedError``, unless it is already handled."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker has nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clean-up
        raise TerminatedError

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _describe(error: Exception) -> str:
    from fairseq_vgs.files.atomic import FULL_DISK

    if isinstance(error, OSError) and error.errno in FULL_DISK:
        where = f"{error.filename}: " if error.filename else ""
        step = "free space, raise the limit or choose another place, then run the same command again"
        return f"{where}cannot be written ({error.strerror}); {step}"
    # Our errors and the operating system's explain themselves; others need their type.
    is_ours = type(error).__module__.partition(".")[0] == "fairseq_vgs"
    if (is_ours or isinstance(error, OSError)) and str(error):
        n_faults = len(getattr(error, "faults", ()))
        return f"{error}\n{n_faults:,} faults in all" if n_faults > FAULTS_AT_A_GLANCE else str(error)
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text} (run again as fairseq-vgs --debug ... for the traceback)"


if __name__ == "__main__":
    sys.exit(main())
