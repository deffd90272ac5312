"""One recording or picture of a corpus, and why it may be unusable."""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_vgs.files.faults import Fault

SPEECH, PICTURES = "speech", "pictures"
_NOUNS = {SPEECH: "recording", PICTURES: "picture"}


@dataclass(frozen=True, slots=True)
class Medium:
    """One file: ``speech`` or ``pictures``, path below the corpus' root, name in the data folder, place."""

    kind: str
    path: str
    target: str
    place: str


@dataclass(frozen=True, slots=True)
class UnusableMedium:
    """Why a medium cannot be used: in a few words, in full, and as a code."""

    medium: Medium
    reason: str
    detail: str
    code: str

    def fault(self) -> Fault:
        """Return the fault to show."""
        medium = self.medium
        message = f"must be a usable {_NOUNS[medium.kind]}, got {self.detail}"
        step = "replace or remove it, or leave it out with --skip-bad"
        where = f"{medium.path}: " if medium.place else ""
        return Fault(medium.place or medium.path, f"{where}{message}; {step}", self.code)
