"""Read small text and JSON files: UTF-8, and one fault for each way in which a file is something else.

Only the standard library is imported.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fairseq_vgs.files.faults import FaultError, fault

SAVE_AS_UTF_8 = "save it as UTF-8"


def utf_16(content: bytes) -> str:
    """Return ``UTF-16LE`` or ``UTF-16BE`` if that is the encoding of a text, ``""`` otherwise.

    Without a byte order mark it shows in the zeros, which then are every other byte of ASCII characters.
    """
    head = content[:1024]
    for name, mark, high, low in (
        ("UTF-16LE", codecs.BOM_UTF16_LE, head[1::2], head[::2]),
        ("UTF-16BE", codecs.BOM_UTF16_BE, head[::2], head[1::2]),
    ):
        has_zeros = 0 in high and 4 * high.count(0) >= len(high) and 0 not in low
        if head.startswith(mark) or (has_zeros and len(content) % 2 == 0):
            return name
    return ""


def refuse_utf_16(content: bytes, place: str, *, error: type[FaultError] = FaultError) -> None:
    """Refuse text in UTF-16, with or without its byte order mark.

    Raises:
        FaultError: ``file.encoding``.
    """
    if name := utf_16(content):
        raise error.at(place, f"must be UTF-8 text, got {name}; {SAVE_AS_UTF_8}", "file.encoding")


def decode_text(content: bytes, place: str, *, error: type[FaultError] = FaultError) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        FaultError: ``file.encoding``, at the first line that is something else.
    """
    refuse_utf_16(content, place, error=error)
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as problem:
        n_before = content[: problem.start].count(b"\n")
        line = content.split(b"\n", n_before + 1)[n_before]
        at = f"{place}:{n_before + 1}"
        found = fault(at, "must be UTF-8 text", line, SAVE_AS_UTF_8, code="file.encoding")
        raise error(found) from problem


def read_text(path: Path, step: str, *, error: type[FaultError] = FaultError) -> str:
    """Read a UTF-8 file; messages end with the next step.

    Raises:
        FaultError: ``file.missing``, ``file.unreadable`` or ``file.encoding``, as an ``error``.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise error.at(path, f"must be there, got no file; {step}", "file.missing") from None
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise error.at(path, f"cannot be read ({reason}); check the file", "file.unreadable") from problem
    return decode_text(content, str(path), error=error)


def read_json(path: Path, step: str, *, error: type[FaultError] = FaultError, **decoder: Any) -> Any:
    """Read a JSON file; ``decoder`` holds further arguments of ``json.loads``.

    Raises:
        FaultError: ``json.syntax``, or those of ``read_text``, as an ``error``.
    """
    text = read_text(path, step, error=error)
    try:
        return json.loads(text, **decoder)
    except json.JSONDecodeError as problem:
        got = problem.doc[problem.pos : problem.pos + 40] or "the end"
        place = f"{path}: character {problem.pos + 1}"
        found = fault(place, f"must be JSON ({problem.msg})", got, step, code="json.syntax")
        raise error(found) from problem
    except (ValueError, RecursionError) as problem:
        raise error.at(path, f"must be JSON ({problem}); {step}", "json.syntax") from problem


def read_object(
    path: Path,
    step: str,
    *,
    required: Collection[str] = (),
    error: type[FaultError] = FaultError,
    **decoder: Any,
) -> dict[str, Any]:
    """Read a JSON file that holds an object with the required keys.

    Raises:
        FaultError: ``json.kind``, ``json.key``, or those of ``read_json``, as an ``error``.
    """
    content = read_json(path, step, error=error, **decoder)
    if not isinstance(content, dict):
        raise error(fault(str(path), "must be a JSON object", content, step, code="json.kind"))
    if missing := [key for key in required if key not in content]:
        expected = f"must have the keys {', '.join(missing)}"
        raise error(fault(str(path), expected, sorted(content), step, code="json.key"))
    return content
