"""The parser of all commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from fairseq_vgs.options import add_options

DEBUG_HELP = "log more, and show the whole traceback of an error"


class Parser(argparse.ArgumentParser):
    """Takes options by their whole names alone, and gets its arguments when it is used.

    A beginning that is unique today, as in ``--skip``, may mean another option tomorrow. Parsers of
    subcommands are filled when theirs is the subcommand given, so that one command's help does not wait for
    what others import.

    Args:
        fill: Called once with the parser, before it parses or shows help; adds the arguments.
    """

    def __init__(
        self, *args: Any, fill: Callable[[argparse.ArgumentParser], None] | None = None, **settings: Any
    ) -> None:
        defaults = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*args, **{**defaults, **settings})
        # Of every command, where one adds it after an error; absent, it leaves what stood before it.
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG_HELP)
        self._fill = fill

    def complete(self) -> None:
        """Add the arguments, unless they are there."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, see `argparse.ArgumentParser.parse_known_args`."""
        self.complete()
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """Return the help text."""
        self.complete()
        return super().format_help()


def add_command(
    subparsers: Any,
    name: str,
    summary: str,
    *options: type[Any],
    description: str = "",
    examples: str = "",
    **defaults: Any,
) -> argparse.ArgumentParser:
    """Add a nested command.

    Args:
        subparsers: What ``add_subparsers`` returned.
        name: Of the command.
        summary: One line about it, for the list of commands.
        options: Dataclasses whose fields are its options.
        description: At the top of its help; the summary by default.
        examples: At the end of its help.
        defaults: More values for the parsed arguments, such as what to run.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, description=description or f"{summary[0].upper()}{summary[1:]}.", epilog=examples
    )
    for settings in options:
        add_options(parser, settings)
    parser.set_defaults(**defaults)
    return parser
