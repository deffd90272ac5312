"""Spellings of one path: accents as characters of their own or combined, and the backslashes of Windows.

Most programs write an accented letter as one character (NFC); names of files that come from macOS often have
a letter and a combining character instead (NFD). Linux takes the two for different names.
"""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path


def spelling_key(name: str) -> str:
    r"""Return what all spellings of a name or relative path have in common.

    >>> spelling_key("Zoe\u0308\\1.wav") == spelling_key("Zoë/1.wav")
    True
    """
    if name.isascii() and "\\" not in name:
        return name
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def on_disk(root: Path, path: str) -> str:
    """Return a relative path as the disk spells it; as it is where it exists, or no single file fits."""
    if (path.isascii() and "\\" not in path) or os.path.lexists(root / path):
        return path
    found: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        folder = root.joinpath(*found)
        name = part
        if part in ("", ".", "..") or not os.path.lexists(folder / part):
            names = _names_in(folder).get(spelling_key(part), ())
            if len(names) != 1:
                return path
            name = names[0]
        found.append(name)
    return "/".join(found)


def _names_in(folder: Path) -> Mapping[str, tuple[str, ...]]:
    try:
        return _listed(str(folder), folder.stat().st_mtime_ns)
    except OSError:
        return {}


@functools.lru_cache(maxsize=64)
def _listed(folder: str, changed: int) -> Mapping[str, tuple[str, ...]]:  # noqa: ARG001 - part of the key
    names: dict[str, tuple[str, ...]] = {}
    for path in Path(folder).iterdir():
        key = spelling_key(path.name)
        names[key] = (*names.get(key, ()), path.name)
    return names
