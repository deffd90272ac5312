"""The parser of all commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


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
