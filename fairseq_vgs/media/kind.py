"""Recordings that were given as pictures, and pictures as recordings: named as what they are."""

from __future__ import annotations

from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.media.content import Source
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.pictures import is_picture
from fairseq_vgs.media.sound import inspect

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm",
)  # fmt: skip


def require_medium(source: str | Source) -> None:
    """Refuse a path that leads to no file.

    Raises:
        FaultError: ``file.missing``.
    """
    if isinstance(source, Path) and not source.is_file():
        got = "a folder" if source.is_dir() else "nothing there"
        expected, step = "must be a file", "check the path; of a folder, give its files"
        raise FaultError(fault(str(source), expected, got, step, code="file.missing"))


def given_picture(error: FaultError, source: Source, place: str, *, step: str) -> Fault | None:
    """Return the fault of a picture that cannot be decoded as a recording, since it is a picture."""
    if {"sound.unreadable", "sound.format"}.intersection(error.codes) and is_picture(source):
        return fault(place, "must be a recording", "a picture", step, code="media.kind")
    return None


def given_sound(error: FaultError, source: Source, place: str, *, step: str) -> Fault | None:
    """Return the fault of a recording that cannot be decoded as a picture, since it is a recording."""
    if "picture.unreadable" in error.codes and _is_sound(source):
        return fault(place, "must be a picture", "a recording", step, code="media.kind")
    return None


def _is_sound(source: Source) -> bool:
    try:
        inspect(source)
    except MediumError:
        return False
    return True
