"""Command-line options from dataclasses: one declaration gives the field, its default, help and check.

```python
@dataclass(frozen=True)
class Settings:
    split: str = option("test", help="split of DATA")
    layers: tuple[int, ...] | None = option(None, help="only these layers", metavar="N")

add_options(parser, Settings)
settings = read_options(parser.parse_args(), Settings)
```

Supported annotations: ``str``, ``int``, ``float``, ``bool``, ``Path``, ``Literal[...]``, ``tuple[T, ...]``,
tuples of fixed length such as ``tuple[int, int]``, and ``T | None``. A ``bool`` that defaults to true and is
named ``--no-...`` is switched off by that option. Only the standard library is needed, to keep ``--help``
fast.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from fairseq_vgs.files.faults import FaultError, fault

_KEY = "fairseq_vgs.option"
Settings = TypeVar("Settings")
Number = TypeVar("Number", int, float)


def positive(text: str) -> int:
    """Parse a whole number from 1 on."""
    return _above(0, int, text, "a whole number, at least 1")


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    return _above(0.0, float, text, "above 0")


def _above(bound: Number, kind: Callable[[str], Number], text: str, expected: str) -> Number:
    with contextlib.suppress(ValueError):
        value = kind(text)
        if bound < value < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"must be {expected}, got {text!r}")


def refuse_unknown(name: str, value: str, known: Collection[str]) -> None:
    """Refuse an option's value that is none of the known ones.

    Raises:
        FaultError: ``setting.value``.
    """
    if value not in known:
        expected = f"must be one of {', '.join(known)}"
        raise FaultError(fault(name, expected, value, "choose one", code="setting.value"))


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,  # noqa: A002 - argparse's word
    name: str | None = None,
    metavar: str | tuple[str, ...] | None = None,
    choices: Collection[Any] | None = None,
    parse: Callable[[str], Any] | None = None,
    positional: bool = False,
    repeated: bool = False,
    exclusive: str = "",
    needed: bool = False,
) -> Any:
    """Declare a dataclass field that is also an option.

    Args:
        default: default of the field and the option; without one the option is required.
        help: what it does, in lower case; the default is appended.
        name: option string if it is not ``--field-name``; separate several by spaces.
        metavar: name of the value in usage lines.
        choices: allowed values; those of ``Literal`` need not be repeated.
        parse: converts text to a value where the annotation does not say how.
        positional: make it a positional argument.
        repeated: give a tuple as ``--x A --x B`` instead of ``--x A B``.
        exclusive: name of a group of options of which at most one may be given.
        needed: whether one option of that group is required.
    """
    declared = types.SimpleNamespace(
        help=help,
        name=name,
        metavar=metavar,
        choices=choices,
        parse=parse,
        positional=positional,
        repeated=repeated,
        exclusive=exclusive,
        needed=needed,
    )
    return dataclasses.field(default=default, metadata={_KEY: declared})


def add_options(
    parser: argparse._ActionsContainer, settings: type[Any], *, leave_out: Collection[str] = ()
) -> None:
    """Add an option for every dataclass field that was declared with ``option``.

    Args:
        parser: a parser or an argument group.
        settings: the dataclass.
        leave_out: fields that the command sets itself.
    """
    sets: dict[str, argparse._ActionsContainer] = {}
    for field in dataclasses.fields(settings):
        if _KEY in field.metadata and field.name not in leave_out:
            flags, given = _argument(field, _annotation(settings, field.name))
            target, declared = parser, field.metadata[_KEY]
            if name := declared.exclusive:
                if name not in sets:
                    sets[name] = parser.add_mutually_exclusive_group(required=declared.needed)
                target = sets[name]
            target.add_argument(*flags, **given)


def read_options(args: argparse.Namespace, settings: type[Settings], **given: Any) -> Settings:
    """Build a dataclass from the result of a parser with its options; ``given`` values override them."""
    values = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        if _KEY in field.metadata and hasattr(args, field.name):
            value = getattr(args, field.name)
            values[field.name] = tuple(value) if isinstance(value, list) else value
            if value is None and isinstance(field.default, tuple):
                values[field.name] = field.default
    return settings(**{**values, **given})


def _argument(field: dataclasses.Field[Any], annotation: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments of ``add_argument`` for one field."""
    declared = field.metadata[_KEY]
    kind, many = _unwrap(annotation)
    length = _fixed_length(annotation)
    is_required = field.default is dataclasses.MISSING
    default = None if is_required else field.default
    keywords: dict[str, Any] = {"help": _help(declared.help, default), "default": default}
    if kind is bool and default and (declared.name or "").startswith("--no-"):
        keywords["action"] = "store_false"
    elif kind is bool:
        keywords["action"] = argparse.BooleanOptionalAction if default else "store_true"
    else:
        choices = declared.choices
        if typing.get_origin(kind) is typing.Literal:
            choices = choices or typing.get_args(kind)
            kind = type(typing.get_args(kind)[0])
        keywords |= {"type": declared.parse or kind, "choices": choices, "metavar": declared.metavar}
        # argparse would extend a default that is a list; `read_options` replaces None by the default
        keywords["default"] = None if many else default
    if declared.positional:
        several, one = ("+", None) if is_required else ("*", "?")
        keywords |= {"nargs": several if many else one, "metavar": declared.metavar or field.name.upper()}
        return [field.name], {key: value for key, value in keywords.items() if value is not None}
    if length:
        keywords |= {"nargs": length}
    elif many:
        keywords |= {"action": "append"} if declared.repeated else {"action": "extend", "nargs": "+"}
    keywords |= {"dest": field.name, "required": is_required}
    names = (declared.name or f"--{field.name.replace('_', '-')}").split()
    return names, {key: value for key, value in keywords.items() if value is not None or key == "default"}


def _annotation(settings: type[Any], name: str) -> Any:
    """Evaluate one field's annotation only: others may use names that are imported for type checkers."""
    owner = next(base for base in settings.__mro__ if name in inspect.get_annotations(base))
    given = types.SimpleNamespace(__annotations__={name: inspect.get_annotations(owner)[name]})
    return typing.get_type_hints(given, globalns=vars(sys.modules[owner.__module__]))[name]


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    """Return the type of one value, and whether the option takes several."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


def _fixed_length(annotation: Any) -> int:
    """Return the length of a fixed-length tuple annotation, else 0."""
    types_ = typing.get_args(annotation) if typing.get_origin(annotation) is tuple else ()
    return 0 if Ellipsis in types_ else len(types_)


def _help(text: str, default: Any) -> str:
    if default is None or default == "" or default == () or isinstance(default, bool) or "default:" in text:
        return text
    shown = " ".join(str(value) for value in default) if isinstance(default, tuple) else f"{default}"
    return f"{text} (default: {shown.replace('%', '%%')})"
