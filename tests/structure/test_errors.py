"""Errors about input have codes, and their wording is on record."""

import re

from support.wording import GOLDEN, as_written, code_of, fault_calls

CODE = re.compile(r"[a-z_]+\.[a-z_]+")


def test_every_fault_has_a_code():
    """Written out, or made by an expression that says it."""
    without = [
        f"{place}: {code}"
        for place, call in fault_calls()
        if not ((code := code_of(call)) and (CODE.fullmatch(code) or "{" in code))
    ]
    assert not without, "\n".join(without)


def test_wording_is_on_record():
    """A changed message shows up in a review; ``python tests/support/wording.py`` records it."""
    assert GOLDEN.read_text(encoding="utf-8") == as_written()
