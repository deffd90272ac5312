"""Errors about input have codes, and their wording is on record."""

import re

from support.wording import GOLDEN, as_written, messages

CODE = re.compile(r"[a-z_]+\.[a-z_0-9]+")


def test_every_fault_has_a_code():
    """Written out, or that of a fault which is passed on."""
    without = [
        f"{message.place}: {message.code}"
        for message in messages()
        if not message.forwards and not CODE.fullmatch(message.code or "")
    ]
    assert not without, "\n".join(without)


def test_wording_is_on_record():
    """A changed message shows up in a review; ``python tests/support/wording.py`` records it."""
    assert GOLDEN.read_text(encoding="utf-8") == as_written()
