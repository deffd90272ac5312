"""Errors told by the code and the place of their faults; the wording is in ``tests/golden/wording.json``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fairseq_vgs.files.faults import FaultError


@contextmanager
def raises_fault(
    code: str, place: str | None = None, *, error: type[FaultError] = FaultError
) -> Iterator[pytest.ExceptionInfo[FaultError]]:
    """Expect an error with a fault of this code, at a place that ends with this text.

    Places end rather than equal, because tests work in temporary folders.
    """
    with pytest.raises(error) as caught:
        yield caught
    found = [(fault.code, fault.place) for fault in caught.value.faults]
    matching = [at for known, at in found if known == code]
    assert matching, f"expected a fault {code}, got {found}"
    assert place is None or any(at.endswith(place) for at in matching), f"expected {place}, got {matching}"
