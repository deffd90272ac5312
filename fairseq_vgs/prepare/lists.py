"""Lists as corpora publish them: lines, JSON, and the id lists of splits, verified by their SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.tables import read_lines

# Published lists, a folder for each corpus.
SPLIT_LISTS = Path(__file__).parent / "corpora" / "splits"
UNPACK_AGAIN = "unpack the corpus again, or correct the file"
# The largest published file has 0.2 GB.
MAX_JSON_BYTES = 1 << 31


def read_corpus_lines(path: Path) -> tuple[list[tuple[str, str]], list[Fault]]:
    """Return the lines that are not blank, each with its place, and what is wrong with the file."""
    if not path.is_file() or not path.stat().st_size:
        got = "got an empty file" if path.is_file() else "got none"
        return [], [
            Fault(
                str(path),
                f"must be a file of the corpus, {got}; unpack the corpus again",
                code="file.missing",
            )
        ]
    lines, faults = read_lines(path)
    placed = [
        (line, f"{path.name}:{number}") for number, line in enumerate(lines, start=1) if line is not None
    ]
    return [(line, place) for line, place in placed if line.strip()], faults


def list_hash(names: Iterable[str]) -> str:
    """Return the SHA-256 of a list as a file has it: a name a line, each ended by LF."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def read_published(path: Path, sha256: str) -> list[str]:
    """Return the names of a published list.

    Blanks around names, empty lines and CRLF are of no account.

    Raises:
        FaultError: the list cannot be read, or is another one.
    """
    lines, faults = read_corpus_lines(path)
    if faults:
        raise FaultError(faults)
    names = [line.strip() for line, _ in lines]
    if (found := list_hash(names)) != sha256:
        expected = f"must be the published list of SHA-256 {sha256}"
        step = "take the list that comes with the package"
        raise FaultError(fault(str(path), expected, found, step, code="corpus.checksum"))
    return names


def read_entries(path: Path, list_name: str) -> Iterator[tuple[int, Any]]:
    """Yield index and value of every entry of a JSON object's list; its other fields are passed over.

    Raises:
        FaultError: The file cannot be read, is no such JSON, or lacks the list.
    """
    content = _read_json(path)
    entries = content.get(list_name) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        expected = f"must be an object with the list {list_name!r}, got none"
        raise FaultError(Fault(path.name, f"{expected}; {UNPACK_AGAIN}", "json.list"))
    yield from enumerate(entries)


def _read_json(path: Path) -> Any:
    size = path.stat().st_size if path.is_file() else 0
    if size > MAX_JSON_BYTES:
        expected = f"must be at most {MAX_JSON_BYTES:,} bytes"
        raise FaultError(fault(str(path), expected, size, UNPACK_AGAIN, code="json.size"))
    try:
        with path.open(encoding="utf-8-sig") as file:
            return json.load(file, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise FaultError(Fault(str(path), f"file is missing; {UNPACK_AGAIN}", "file.missing")) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FaultError(
            Fault(str(path), f"cannot be read ({reason}); check the file", "file.read")
        ) from error
    except UnicodeDecodeError as error:
        raise FaultError(Fault(path.name, f"must be UTF-8 text; {UNPACK_AGAIN}", "file.encoding")) from error
    except json.JSONDecodeError as error:
        got = error.doc[error.pos : error.pos + 40] or "the end"
        place = f"{path.name}: character {error.pos + 1}"
        raise FaultError(
            fault(place, f"must be JSON ({error.msg})", got, UNPACK_AGAIN, code="json.syntax")
        ) from error
    except (ValueError, RecursionError) as error:
        raise FaultError(
            Fault(path.name, f"must be JSON ({error}); {UNPACK_AGAIN}", "json.syntax")
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class TextFields:
    """The fields of one kind of entry that hold text.

    Args:
        what: what the entries are, for messages.
        required: fields that every entry must have.
        filled: those of them that must not be empty.
        optional: fields that are taken where they are text.
        passed_over: further fields that are known.
    """

    def __init__(
        self,
        what: str,
        *,
        required: Sequence[str],
        filled: Sequence[str] = (),
        optional: Sequence[str] = (),
        passed_over: Sequence[str] = (),
    ) -> None:
        self._what = what
        self._required = tuple(required)
        self._filled = frozenset(filled)
        self._optional = tuple(optional)
        self._known = frozenset((*required, *optional, *passed_over))
        self.unknown: Counter[str] = Counter()

    def take(self, entry: Any, place: str, faults: list[Fault]) -> tuple[str, ...] | None:
        """Return the required fields, then the optional ones; None where it had to add faults."""
        if not isinstance(entry, dict):
            faults.append(
                fault(place, f"{self._what} must be an object", entry, UNPACK_AGAIN, code="corpus.entry")
            )
            return None
        if not entry.keys() <= self._known:
            self.unknown.update(entry.keys() - self._known)
        found = len(faults)
        for name in self._required:
            if name not in entry:
                faults.append(
                    Fault(
                        place,
                        f"{self._what} must have the field {name!r}; {UNPACK_AGAIN}",
                        code="corpus.entry",
                    )
                )
            elif problem := _problem(entry[name], filled=name in self._filled):
                faults.append(
                    fault(place, f"{name} {problem}", entry[name], UNPACK_AGAIN, code="corpus.entry")
                )
        if len(faults) > found:
            return None
        optional = (entry.get(name, "") for name in self._optional)
        return (
            *(entry[name] for name in self._required),
            *(value if _problem(value) is None else "" for value in optional),
        )

    def note(self) -> str | None:
        """Return a sentence about the fields that nobody knows, or None."""
        if not self.unknown:
            return None
        names = ", ".join(f"{name!r} ({count:,})" for name, count in sorted(self.unknown.items()))
        return f"{self._what}: unknown fields were passed over: {names}"


def _problem(value: Any, *, filled: bool = False) -> str | None:
    if not isinstance(value, str) or (filled and not value):
        return "must be text that is not empty" if filled else "must be text"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "must be text that UTF-8 can hold"
    return None
