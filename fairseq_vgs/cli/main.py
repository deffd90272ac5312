"""``fairseq-vgs``: parsing, logging, and errors as readable lines with exit codes.

Every subcommand is a module of this package with ``NAME``, ``HELP``, ``add_arguments(parser)`` and
``run(args) -> int``; what it needs beyond the standard library it imports inside ``run``.
"""

from __future__ import annotations

import argparse
import importlib
import keyword
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any

from fairseq_vgs import __version__
from fairseq_vgs.files.atomic import FULL_DISK

SUBCOMMANDS = ("check", "prepare", "evaluate", "extract", "compare", "plot", "gallery", "import", "study")
EXIT_DONE, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
EXIT_TERMINATED = 128 + signal.SIGTERM

FAULTS_AT_A_GLANCE = 10
LOG_FORMAT = "%(levelname)s | %(name)s | %(message)s"
DEBUG_HELP = "log more, and show the whole traceback of an error"
DESCRIPTION = (
    "Visually grounded speech with fairseq: data, evaluation, plots. Training is fairseq-hydra-train."
)
EPILOG = """\
examples:
  fairseq-vgs prepare scenes --help
  fairseq-vgs check DATA
  fairseq-vgs check DATA --json --debug

exit status: 0 done, 1 data or run error, 2 wrong usage
"""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM has come: as after Ctrl-C, what was begun is cleaned up."""


class Parser(argparse.ArgumentParser):
    """Takes options by their whole names alone, and so do the parsers of all subcommands.

    A beginning that is unique today, as in ``--skip``, may mean another option tomorrow.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **settings})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code.

    Args:
        argv: Arguments without the program's name; the process's own by default.
    """
    _print_any_character()
    args = build_parser().parse_args(argv)
    args.command = shlex.join(["fairseq-vgs", *(sys.argv[1:] if argv is None else argv)])
    _log_to_stderr(debug=args.debug)
    try:
        with _stopped_by_sigterm():
            code: int = args.run(args)
        # Results still in the buffer meet a closed pipe here, not at the interpreter's exit.
        sys.stdout.flush()
    except TerminatedError:
        print("terminated", file=sys.stderr)
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python must not complain about it when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except Exception as error:
        if args.debug:
            raise
        print(_describe(error), file=sys.stderr)
        return EXIT_ERROR
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands; a chosen one's ``run`` is left in ``args.run``."""
    parser = Parser(
        prog="fairseq-vgs",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help=DEBUG_HELP)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    for name in SUBCOMMANDS:
        module = load_subcommand(name)
        subparser = subparsers.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # Also here, where one adds it after an error; absent, it leaves the global one as it is.
        subparser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG_HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def load_subcommand(name: str) -> ModuleType:
    """Import the module of a subcommand; one named after a keyword of Python ends in an underscore."""
    return importlib.import_module(f"fairseq_vgs.cli.{name}{'_' if keyword.iskeyword(name) else ''}")


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM, which schedulers send, raise ``TerminatedError``, unless somebody else handles it."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker, which has nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        signal.signal(number, signal.SIG_IGN)  # a second one must not cut the cleaning up short
        raise TerminatedError

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        where = f"{error.filename}: " if error.filename else ""
        step = "free space, raise the limit or choose another place, then run the same command again"
        return f"{where}cannot be written ({error.strerror}); {step}"
    # Our own errors and the operating system's speak for themselves; of others, the type is half the message.
    is_ours = type(error).__module__.partition(".")[0] == "fairseq_vgs"
    if (is_ours or isinstance(error, OSError)) and str(error):
        n_faults = len(getattr(error, "faults", ()))
        return f"{error}\n{n_faults:,} faults in all" if n_faults > FAULTS_AT_A_GLANCE else str(error)
    hint = "run again as fairseq-vgs --debug ... for the traceback"
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text} ({hint})"


def _log_to_stderr(*, debug: bool) -> None:
    # Does nothing where fairseq, when imported, has set up logging to stderr already.
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    logging.getLogger("fairseq_vgs").setLevel(logging.DEBUG if debug else logging.INFO)


def _print_any_character() -> None:
    # File names and captions may hold what the terminal's encoding cannot: print an escape then.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
