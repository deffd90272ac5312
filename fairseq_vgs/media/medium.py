"""One recording or picture of a corpus on its way into a data folder, and why it may not get there."""

from __future__ import annotations

import io
from dataclasses import dataclass

from fairseq_vgs.files.faults import Fault
from fairseq_vgs.media.inspection import open_picture, picture_problems

SPEECH, PICTURES = "speech", "pictures"
_NOUNS = {SPEECH: "recording", PICTURES: "picture"}


class MediumError(ValueError):
    """A recording or picture cannot be used.

    Attributes:
        reason: a few words, the same for all that have this fault.
    """

    def __init__(self, reason: str, found: str = "") -> None:
        super().__init__(f"{reason} ({found})" if found else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Medium:
    """One file to work on.

    Attributes:
        kind: ``speech`` or ``pictures``.
        path: below the corpus' root.
        target: its name in the data folder, if it gets one.
        place: where the corpus lists it.
    """

    kind: str
    path: str
    target: str
    place: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a medium cannot be used: in a few words, and in full."""

    medium: Medium
    reason: str
    detail: str

    def fault(self) -> Fault:
        """Returns the fault to show."""
        medium = self.medium
        message = f"must be a usable {_NOUNS[medium.kind]}, got {self.detail}"
        step = "replace or remove it, or leave it out with --skip-bad"
        where = f"{medium.path}: " if medium.place else ""
        return Fault(medium.place or medium.path, f"{where}{message}; {step}")


def measure_picture(content: bytes) -> tuple[int, int]:
    """Returns width and height of a picture in pixels as stored, having decoded it to its end.

    Raises:
        MediumError: the file is empty or no picture that is read here.
    """
    if not content:
        raise MediumError("empty file")
    try:
        with open_picture(io.BytesIO(content)) as picture:
            width, height = picture.size
    except Exception:  # noqa: BLE001 - said below, in the words of the checker
        width = height = 0
    for problem in picture_problems(content, width=width, height=height):
        raise MediumError("unreadable picture", problem.partition(", got ")[2].rpartition(";")[0])
    return width, height
