"""Read the lists that corpora publish: lines, JSON, and id lists of splits, verified by SHA-256."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.tables import read_lines
from fairseq_vgs.files.texts import read_json
from fairseq_vgs.prepare.corpus import encoding_problem

logger = logging.getLogger(__name__)

# Published lists, a folder for each corpus.
SPLIT_LISTS = Path(__file__).parent / "corpora" / "splits"
UNPACK_AGAIN = "unpack the corpus again, or correct the file"
# The largest published file has 0.2 GB.
MAX_JSON_BYTES = 1 << 31


def read_corpus_lines(path: Path) -> tuple[list[tuple[str, str]], list[Fault]]:
    """Return the non-blank lines with their places, and the faults of the file."""
    if not path.is_file() or not path.stat().st_size:
        got = "got an empty file" if path.is_file() else "got none"
        message = f"must be a file of the corpus, {got}; unpack the corpus again"
        return [], [Fault(str(path), message, "file.missing")]
    lines, faults = read_lines(path)
    placed = ((line, f"{path.name}:{number}") for number, line in enumerate(lines, start=1) if line)
    return [(line, place) for line, place in placed if line.strip()], faults


def list_hash(names: Iterable[str]) -> str:
    """Return the SHA-256 of a list written one name per line, each ended by LF."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def read_published(path: Path, sha256: str) -> list[str]:
    """Return the names of a published list; blanks around names, empty lines and CRLF do not matter.

    Raises:
        FaultError: The list cannot be read, or differs from the published one.
    """
    lines, faults = read_corpus_lines(path)
    raise_any(faults)
    names = [line.strip() for line, _ in lines]
    if (found := list_hash(names)) != sha256:
        expected = f"must be the published list of SHA-256 {sha256}"
        step = "take the list that comes with the package"
        raise FaultError(fault(str(path), expected, found, step, code="corpus.checksum"))
    return names


def read_entries(path: Path, list_name: str, faults: list[Fault]) -> Iterator[tuple[str, Any]]:
    """Yield place and value of every entry of a JSON object's list.

    A file that cannot be read, is not such JSON, or lacks the list yields nothing and adds its fault.
    """
    try:
        content = _read_json(path)
    except FaultError as error:
        faults.extend(error.faults)
        return
    entries = content.get(list_name) if isinstance(content, dict) else None
    if isinstance(entries, list):
        for index, entry in enumerate(entries):
            yield f"{path.name}: {list_name}[{index}]", entry
    else:
        message = f"must be an object with the list {list_name!r}, got none; {UNPACK_AGAIN}"
        faults.append(Fault(path.name, message, "json.list"))


def _read_json(path: Path) -> Any:
    size = path.stat().st_size if path.is_file() else 0
    if size > MAX_JSON_BYTES:
        expected = f"must be at most {MAX_JSON_BYTES:,} bytes"
        raise FaultError(fault(str(path), expected, size, UNPACK_AGAIN, code="json.size"))
    return read_json(path, UNPACK_AGAIN, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@dataclass
class TextFields:
    """Text fields of one kind of entry, which messages call ``what``.

    Entries must have the required fields, the ``filled`` ones not empty; optional fields are read if they are
    text; those passed over are known, too.
    """

    what: str
    required: Sequence[str]
    filled: Sequence[str] = ()
    optional: Sequence[str] = ()
    passed_over: Sequence[str] = ()
    unknown: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Gather the known fields."""
        self._known = frozenset((*self.required, *self.optional, *self.passed_over))

    def take(self, entry: Any, place: str, faults: list[Fault]) -> tuple[str, ...] | None:
        """Return the required fields, then the optional ones; on faults, add them and return None."""
        if not isinstance(entry, dict):
            expected = f"{self.what} must be an object"
            faults.append(fault(place, expected, entry, UNPACK_AGAIN, code="corpus.entry"))
            return None
        if not entry.keys() <= self._known:
            self.unknown.update(entry.keys() - self._known)
        found = len(faults)
        for name in self.required:
            if name not in entry:
                message = f"{self.what} must have the field {name!r}; {UNPACK_AGAIN}"
                faults.append(Fault(place, message, "corpus.entry"))
            elif problem := _problem(entry[name], filled=name in self.filled):
                expected = f"{name} {problem}"
                faults.append(fault(place, expected, entry[name], UNPACK_AGAIN, code="corpus.entry"))
        if len(faults) > found:
            return None
        optional = (entry.get(name, "") for name in self.optional)
        texts = (value if _problem(value) is None else "" for value in optional)
        return *(entry[name] for name in self.required), *texts

    def log_unknown(self) -> None:
        """Log the unknown fields, if there were any."""
        if self.unknown:
            names = ", ".join(f"{name!r} ({count:,})" for name, count in sorted(self.unknown.items()))
            logger.warning("%s: unknown fields were skipped: %s", self.what, names)


def _problem(value: Any, *, filled: bool = False) -> str | None:
    if not isinstance(value, str) or (filled and not value):
        return "must be text that is not empty" if filled else "must be text"
    return encoding_problem(value)
