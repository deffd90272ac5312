"""Errors told by the code and the place of their faults; the wording is in ``tests/golden/wording.json``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.manifest.check import inspect_folder


@contextmanager
def raises_fault(
    code: str, place: str | None = None, *, error: type[FaultError] = FaultError
) -> Iterator[pytest.ExceptionInfo[FaultError]]:
    """Expect an error with a fault of this code, at this place.

    What stands before it may be left out in whole words, because tests work in temporary folders.
    """
    with pytest.raises(error) as caught:
        yield caught
    found = [(fault.code, fault.place) for fault in caught.value.faults]
    matching = [at for known, at in found if known == code]
    assert matching, f"expected a fault {code}, got {found}"
    assert place is None or any(_is_at(at, place) for at in matching), f"expected {place}, got {matching}"


def _is_at(at: str, place: str) -> bool:
    """Return whether a place is the named one, whole: ``1.tsv:3`` is not ``11.tsv:3``."""
    before = at.removesuffix(place)
    whole = not before or not place[0].isalnum() or not (before[-1].isalnum() or before[-1] == "_")
    return at.endswith(place) and whole


def check_folder(folder: Path, **options: Any) -> list[Fault]:
    """Return every fault of a data folder."""
    return inspect_folder(folder, **options).faults
