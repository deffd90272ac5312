"""A corpus' plain text files, and the id lists of published splits, verified by their SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.tables import read_lines


def read_corpus_lines(path: Path) -> tuple[list[tuple[str, str]], list[Fault]]:
    """Returns the lines that are not blank, each with its place, and what is wrong with the file."""
    if not path.is_file() or not path.stat().st_size:
        got = "got an empty file" if path.is_file() else "got none"
        return [], [Fault(str(path), f"must be a file of the corpus, {got}; unpack the corpus again")]
    lines, faults = read_lines(path)
    placed = [
        (line, f"{path.name}:{number}") for number, line in enumerate(lines, start=1) if line is not None
    ]
    return [(line, place) for line, place in placed if line.strip()], faults


def list_hash(names: Iterable[str]) -> str:
    """Returns the SHA-256 of a list as a file has it: a name a line, each ended by LF."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def read_published(path: Path, sha256: str) -> list[str]:
    """Returns the names of a published list.

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
        raise FaultError(fault(str(path), expected, found, "take the list of manifests/splits"))
    return names
