"""The parser of all commands."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.spelling import did_you_mean
from fairseq_vgs.options import add_options

DEBUG_HELP = "log more, and show the whole traceback of an error"


class Parser(argparse.ArgumentParser):
    """Accept full option names only (an abbreviation may become ambiguous), and be filled when it is used.

    ``fill`` adds the arguments, once, before the parser parses or shows help, so that one command's help does
    not wait for the imports of others.
    """

    def __init__(
        self, *args: Any, fill: Callable[[argparse.ArgumentParser], None] | None = None, **settings: Any
    ) -> None:
        defaults = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*args, **{**defaults, **settings})
        # An option of every command; if absent, it keeps the value of the command before it.
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG_HELP)
        self._fill = fill
        self.late_words = ""
        """Name of a positional that takes words after the first option, too, which argparse does not know."""

    def complete(self) -> None:
        """Add the arguments once."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, see ``argparse.ArgumentParser.parse_known_args``."""
        self.complete()
        found, unknown = super().parse_known_args(args, namespace)
        if self.late_words:
            late = [word for word in unknown if not word.startswith("-")]
            setattr(found, self.late_words, [*(getattr(found, self.late_words) or ()), *late])
            unknown = [word for word in unknown if word.startswith("-")]
        if unknown:  # said here, where the options of the chosen command are known
            near = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Exit with status 2, a short usage and the message."""
        needed = [one for one in self._actions if one.required or not one.option_strings]
        formatter = self._get_formatter()
        formatter.add_usage(None, needed, [])
        usage = f"{formatter.format_help().rstrip()} [options]\n"
        self.exit(2, f"{usage}{self.prog}: error: {message} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices or ()))
            raise

    def format_help(self) -> str:
        """Return the help text."""
        self.complete()
        return super().format_help()


@contextmanager
def usage_errors(args: argparse.Namespace) -> Iterator[None]:
    """Report settings that cannot be used as wrong usage of the command; other errors pass."""
    try:
        yield
    except FaultError as error:
        if any(not code.startswith(("setting.", "plot.suffix")) for code in error.codes):
            raise
        args.usage_error("; ".join(map(str, error.faults)))


def add_module(subparsers: Any, name: str, summary: str, module: str) -> None:
    """Add a command that a module of this package describes, which is imported when the command is used.

    Its arguments are those of a dataclass ``Options`` or of ``add_arguments(parser)``. The help shows
    ``DESCRIPTION`` (default: the docstring) and ``EPILOG``. Its functions ``run``, ``prepare`` and ``table``
    become values of the parsed arguments.
    """

    def fill(parser: argparse.ArgumentParser) -> None:
        found = importlib.import_module(f"fairseq_vgs.cli.{module}")
        parser.description = getattr(found, "DESCRIPTION", found.__doc__)
        parser.epilog = getattr(found, "EPILOG", None)
        if hasattr(found, "add_arguments"):
            found.add_arguments(parser)
        elif hasattr(found, "Options"):
            add_options(parser, found.Options)
        functions = ("run", "prepare", "table")
        parser.set_defaults(**{one: getattr(found, one) for one in functions if hasattr(found, one)})

    subparsers.add_parser(name, help=summary, fill=fill)


def add_command(
    subparsers: Any,
    name: str,
    summary: str,
    *options: type[Any],
    description: str = "",
    examples: str = "",
    **defaults: Any,
) -> argparse.ArgumentParser:
    """Add a nested command whose options are fields of dataclasses.

    ``summary`` is its line in the list of commands; ``description`` (default: the summary) and ``examples``
    are at the top and end of its help; ``defaults`` are further values of the parsed arguments, such as the
    function to run. ``usage_error`` reports wrong usage.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, description=description or f"{summary[0].upper()}{summary[1:]}.", epilog=examples
    )
    for settings in options:
        add_options(parser, settings)
    parser.set_defaults(**defaults, usage_error=parser.error)
    return parser
