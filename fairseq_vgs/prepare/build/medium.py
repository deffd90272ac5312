"""One recording or picture of a corpus on its way into a data folder, and why it may not get there."""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_vgs.files.faults import Fault

SPEECH, PICTURES = "speech", "pictures"
_NOUNS = {SPEECH: "recording", PICTURES: "picture"}


@dataclass(frozen=True, slots=True)
class Medium:
    """One file to work on.

    Attributes:
        kind: ``speech`` or ``pictures``.
        path: Below the corpus' root.
        target: Its name in the data folder, if it gets one.
        place: Where the corpus lists it.
    """

    kind: str
    path: str
    target: str
    place: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a medium cannot be used: in a few words, in full, and by a code."""

    medium: Medium
    reason: str
    detail: str
    code: str = ""

    def fault(self) -> Fault:
        """Return the fault to show."""
        medium = self.medium
        message = f"must be a usable {_NOUNS[medium.kind]}, got {self.detail}"
        step = "replace or remove it, or leave it out with --skip-bad"
        where = f"{medium.path}: " if medium.place else ""
        return Fault(medium.place or medium.path, f"{where}{message}; {step}", self.code)
