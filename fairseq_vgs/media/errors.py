"""Reasons why a recording or picture cannot be used: one table of codes for all readers of media."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fairseq_vgs.files.faults import Fault, FaultError


class Problem(NamedTuple):
    """A short reason, the expectation, and the next step."""

    reason: str
    expected: str
    next_step: str


REPLACE = "replace or remove it"
PROBLEMS = {
    "file.empty": Problem("empty file", "{noun} must not be empty", REPLACE),
    "file.unreadable": Problem("unreadable file", "{noun} must be readable", "check the file"),
    "sound.unreadable": Problem("unreadable speech", "{noun} must be readable", REPLACE),
    "sound.empty": Problem("empty speech", "{noun} must not be empty", REPLACE),
    "sound.format": Problem(
        "format whose length cannot be verified",
        "{noun} must be WAV, RF64, W64, AIFF, 8SVX, AU, CAF, NIST SPHERE, VOC, HTK, FLAC, Ogg or MP3",
        "convert it to FLAC",
    ),
    "sound.cut": Problem("speech that is cut short", "{noun} must be whole", "copy it again, or remove it"),
    "sound.length": Problem(
        "header with a wrong length", "length in the header must be true", "encode it again, or remove it"
    ),
    "sound.chained": Problem(
        "chained streams that differ", "streams in one file must have one rate and number of channels",
        "encode it again, or remove it",
    ),
    "sound.n_samples": Problem(
        "another length than listed", "n_samples must be the length of the audio",
        "copy the file again, or rebuild the list with fairseq-vgs prepare",
    ),
    "sound.sample_rate": Problem(
        "another sample rate than 16 kHz", "sample rate must be 16000 Hz", "resample it and list it again"
    ),
    "sound.rate_limits": Problem(
        "impossible sample rate", "sample rate must be from 1,000 to 1,000,000 Hz", "correct the header"
    ),
    "sound.channels": Problem("too many channels", "{noun} must have at most 64 channels", REPLACE),
    "sound.channels_cancel": Problem(
        "speech whose channels cancel out", "the average of all channels must not be silent",
        "keep one channel only",
    ),
    "sound.too_long": Problem("speech that is too long", "{noun} must be shorter", "cut it, or remove it"),
    "sound.not_finite": Problem(
        "speech with NaN or infinite samples", "samples must be finite", "encode it again, or remove it"
    ),
    "sound.silent": Problem("silent speech", "{noun} must not be silent", "remove it"),
    "picture.unreadable": Problem("unreadable picture", "{noun} must decode", REPLACE),
    "picture.cut": Problem("picture that ends early", "{noun} must be whole", "copy it again, or remove it"),
    "picture.too_large": Problem(
        "picture that is too large", "{noun} must have fewer pixels", "shrink it; no setting raises the limit"
    ),
    "picture.mode": Problem(
        "picture without a defined brightness", "{noun} must have 8 or 16 bits per channel",
        "save it as RGB or grey with 8 bits",
    ),
    "picture.size": Problem(
        "picture of another size than listed", "width and height must be those of the picture",
        "rebuild the table",
    ),
    "picture.invisible": Problem(
        "picture invisible on white", "{noun} must show something on white", REPLACE
    ),
}  # fmt: skip
_NOUNS = {"sound": "audio", "picture": "picture", "file": "file"}


def media_fault(place: str, code: str, got: str, *, expected: str = "") -> Fault:
    """Build the fault of a code of ``PROBLEMS``; ``expected`` replaces the expectation of the table."""
    problem = PROBLEMS[code]
    expected = expected or problem.expected.format(noun=_NOUNS[code.partition(".")[0]])
    return Fault(place, f"{expected}, got {got}; {problem.next_step}", code)


class MediumError(FaultError):
    """A recording or picture cannot be used; ``got`` is the value found, in words."""

    def __init__(self, faults: Fault | Iterable[Fault], got: str = "") -> None:
        super().__init__(faults)
        self.got = got

    @property
    def code(self) -> str:
        """Code of the first fault."""
        return self.faults[0].code

    @property
    def reason(self) -> str:
        """A few words, the same for every medium with this fault."""
        return PROBLEMS[self.code].reason

    @property
    def detail(self) -> str:
        """The reason and the value found."""
        return f"{self.reason} ({self.got})" if self.got else self.reason


class SoundError(MediumError):
    """A recording cannot be used."""


class PictureError(MediumError):
    """A picture cannot be used."""


def refuse_sound(place: str, code: str, got: str) -> SoundError:
    """Return the error of a recording."""
    return SoundError(media_fault(place, code, got), got)


def refuse_picture(place: str, code: str, got: str) -> PictureError:
    """Return the error of a picture."""
    return PictureError(media_fault(place, code, got), got)
