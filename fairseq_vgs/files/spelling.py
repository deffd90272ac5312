"""Spellings of one path: accents as characters of their own or combined, and the backslashes of Windows.

Most programs write an accented letter as one character (NFC); names of files that come from macOS often have
a letter and a combining character instead (NFD). Linux takes the two for different names.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

# of recordings and their labels, but not what else follows a dot in a name
_ENDING = re.compile(
    r"\.(wav|flac|ogg|oga|opus|mp3|m4a|aiff?|aifc|au|snd|w64|rf64|caf|sph|nist|textgrid|lab|txt)$",
    re.IGNORECASE,
)


def spelling_key(name: str) -> str:
    r"""Return what all spellings of a name or relative path have in common.

    >>> spelling_key("Zoe\u0308\\1.wav") == spelling_key("Zoë/1.wav")
    True
    """
    if name.isascii() and "\\" not in name:
        return name
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like another one, or "" if none is."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the one that is probably meant, if any is."""
    near = nearest(name, known)
    return f"; did you mean {near}?" if near else ""


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


class PathNames:
    """Find relative paths by their names: whole, or by their last parts; endings such as .wav do not matter.

    >>> names = PathNames(["rec/anna/1.wav", "rec/bob/1.wav", "rec/bob/2.wav"])
    >>> names.find("bob/1"), names.find("2"), names.find("1")
    (['rec/bob/1.wav'], ['rec/bob/2.wav'], ['rec/anna/1.wav', 'rec/bob/1.wav'])
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._whole: dict[str, list[str]] = defaultdict(list)
        self._by_last: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self._whole[_without_ending(path)].append(path)
        for key in self._whole:
            self._by_last[key.rpartition("/")[2]].append(key)

    def find(self, name: str) -> list[str]:
        """Return the paths that a name fits: the one that it is, or all that end in it."""
        key = spelling_key(name)
        if key not in self._whole and key.rpartition("/")[2] not in self._by_last:
            key = _without_ending(name)
        whole = self._whole.get(key, [])
        if name in self._whole.get(_without_ending(name), []):
            return [name]
        last = self._by_last.get(key.rpartition("/")[2], ())
        return whole or [path for other in last if other.endswith(f"/{key}") for path in self._whole[other]]


def _without_ending(path: str) -> str:
    return _ENDING.sub("", spelling_key(path))
