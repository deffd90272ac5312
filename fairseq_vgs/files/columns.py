"""Kinds of table columns: how each is parsed, checked and rendered.

Parsers raise ``ValueError`` whose message is the expectation, such as ``must be a positive integer``.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fairseq_vgs.files.location import split_entry

# Plain digits only: int() also takes '1_000', ' 7' and digits of other scripts, which few readers do.
_MAX_DIGITS = 18
_DIGITS = re.compile(rf"[0-9]{{1,{_MAX_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in the header, and text to value and back."""

    name: str
    parse: Callable[[str], Any]
    render: Callable[[Any], str]


def parse_all(column: Column, texts: tuple[str, ...]) -> Sequence[Any]:
    """Parse many fields of a column, faster than ``column.parse`` one by one, with the same result."""
    all_plain = _ALL_PLAIN.get(column.parse)
    values = None if all_plain is None else all_plain(texts)
    return [column.parse(text) for text in texts] if values is None else values


def _parse_trimmed(text: str) -> str:
    # fairseq strips lines, so a path with surrounding blanks would be a different path there.
    if text != text.strip():
        raise ValueError("must not begin or end with blanks")
    return text


def _parse_identifier(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return _parse_trimmed(text)


def _parse_media_path(text: str) -> str:
    split_entry(_parse_identifier(text))
    return text


def _parse_optional_media_path(text: str) -> str:
    return _parse_media_path(text) if text else text


def _parse_positive_integer(text: str) -> int:
    if _DIGITS.fullmatch(text) is None or int(text) == 0:
        raise ValueError("must be a positive integer")
    return int(text)


def _parse_row_number(text: str) -> int:
    if _DIGITS.fullmatch(text) is None:
        raise ValueError("must be a row number, an integer from 0 on")
    return int(text)


def _parse_share(text: str) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text and text == text.strip() else math.nan
    except ValueError:
        value = math.nan
    # NaN fails this comparison, too.
    if not 0.0 <= value <= 1.0:
        raise ValueError("must be a number in [0, 1]")
    return value


# Each of these returns the values if all texts are plain, otherwise None.


def _all_trimmed(texts: tuple[str, ...]) -> Sequence[str] | None:
    return texts if tuple(map(str.strip, texts)) == texts else None


def _all_identifiers(texts: tuple[str, ...]) -> Sequence[str] | None:
    return _all_trimmed(texts) if all(texts) else None


def _all_plain_paths(texts: tuple[str, ...]) -> Sequence[str] | None:
    """Archive entries (with colons), absolute paths and paths with ``..`` are not plain."""
    joined = "\n" + "\n".join(texts)
    odd = any(mark in joined for mark in (":", "..", "\n/", "\0"))
    lower = joined.lower()
    return None if odd or ".zip" in lower or ".tar" in lower else _all_identifiers(texts)


def _all_row_numbers(texts: tuple[str, ...]) -> Sequence[int] | None:
    joined = "".join(texts)
    if not (joined.isascii() and joined.isdigit() and all(texts) and max(map(len, texts)) <= _MAX_DIGITS):
        return None
    return list(map(int, texts))


def _all_positive_integers(texts: tuple[str, ...]) -> Sequence[int] | None:
    values = _all_row_numbers(texts)
    return values if values is not None and min(values) > 0 else None


def _all_shares(texts: tuple[str, ...]) -> Sequence[float] | None:
    joined = "".join(texts)
    # float() accepts surrounding blanks, underscores and nan; ASCII blanks other than space are unprintable.
    if not (joined.isascii() and joined.isprintable()) or any(mark in joined for mark in " _nN"):
        return None
    try:
        values = list(map(float, texts))
    except ValueError:
        return None
    return values if min(values) >= 0.0 and max(values) <= 1.0 else None


_ALL_PLAIN: dict[Callable[[str], Any], Callable[[tuple[str, ...]], Sequence[Any] | None]] = {
    str: lambda texts: texts,
    _parse_trimmed: _all_trimmed,
    _parse_identifier: _all_identifiers,
    _parse_media_path: _all_plain_paths,
    _parse_optional_media_path: _all_plain_paths,
    _parse_positive_integer: _all_positive_integers,
    _parse_row_number: _all_row_numbers,
    _parse_share: _all_shares,
}


def _render_text(value: Any) -> str:
    # ValueError, as for any bad field, so that callers can collect them all.
    if not isinstance(value, str):
        raise ValueError("must be text")
    # The format has no quoting.
    if any(c in value for c in "\t\n\r\0"):
        raise ValueError("must not contain tabs, line ends or NUL")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("must be text that UTF-8 can hold") from None
    return value


def _render_integer(value: Any) -> str:
    try:
        return str(operator.index(value))
    except TypeError:
        raise ValueError("must be an integer") from None


def _render_number(value: Any) -> str:
    try:
        # repr gives the shortest text that reads back as the same number; float() strips numpy types.
        return repr(float(value))
    except (TypeError, ValueError):
        raise ValueError("must be a number") from None


identifier = partial(Column, parse=_parse_identifier, render=_render_text)
"""A column of text that is not empty and has no blanks around it."""
optional = partial(Column, parse=_parse_trimmed, render=_render_text)
"""A column of text that may be empty but has no blanks around it."""
free_text = partial(Column, parse=str, render=_render_text)
"""A column of any text without tabs and line ends."""
media_path = partial(Column, parse=_parse_media_path, render=_render_text)
"""A column of paths or archive entries below a root."""
optional_media_path = partial(Column, parse=_parse_optional_media_path, render=_render_text)
"""A column like ``media_path`` whose fields may be empty."""
positive_integer = partial(Column, parse=_parse_positive_integer, render=_render_integer)
row_number = partial(Column, parse=_parse_row_number, render=_render_integer)
"""A column of integers from 0 on."""
share = partial(Column, parse=_parse_share, render=_render_number)
"""A column of numbers from 0 to 1."""
