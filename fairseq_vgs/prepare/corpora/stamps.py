"""Finds pictures, recordings and captions in an unpacked Tux Paint stamps package.

Layout: ``<dir>/<NAME>.png`` or ``.svg``; ``NAME_desc_LL.ogg`` holds the caption spoken in language LL
(``NAME_desc.ogg``: English); ``NAME.txt`` holds the English caption on line 1, then one
``LL.utf8=caption`` line per language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault

PACKAGE_FOLDER = Path("usr/share/tuxpaint/stamps")
SYMBOLS_FOLDER = "symbols"
ENGLISH = "en"
PICTURE_SUFFIXES = (".png", ".svg")  # where both exist the PNG is the finished picture
SPEECH_SUFFIXES = (".ogg", ".wav")
LANGUAGE_PATTERN = re.compile(r"[a-z]{2,3}(_[A-Z]{2})?(@[a-z]+)?")


@dataclass(frozen=True)
class Stamp:
    """One picture with its caption spoken in one language.

    ``stamp_id`` is the picture's path below the stamps folder without suffix; ``english`` and ``text`` are
    the caption in English and in the language of the recording (empty where the package lacks it).
    """

    stamp_id: str
    picture: Path
    speech: Path
    english: str
    text: str


@dataclass
class Exclusions:
    """What was left out, by reason."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, item: str) -> None:
        """Notes one excluded item."""
        self.by_reason.setdefault(reason, []).append(item)

    def summary(self) -> dict[str, dict[str, object]]:
        """Returns count and sorted items of every reason, for ``summary.json``."""
        return {
            reason: {"count": len(items), "items": sorted(items)}
            for reason, items in sorted(self.by_reason.items())
        }


def find_stamps_folder(folder: Path) -> Path:
    """Returns the stamps folder of an unpacked package, whether given itself or the package's root.

    Raises:
        FaultError: there is no such folder, or no picture in it.
    """
    candidate = folder / PACKAGE_FOLDER
    found = candidate if candidate.is_dir() else folder
    if not found.is_dir() or not any(any(found.rglob(f"*{suffix}")) for suffix in PICTURE_SUFFIXES):
        message = (
            "must be the unpacked package tuxpaint-stamps-default, got a folder without pictures or none; "
            "unpack it with dpkg-deb -x PACKAGE.deb FOLDER and name that FOLDER"
        )
        raise FaultError(Fault(str(folder), message))
    return found


def caption_key(caption: str) -> str:
    """Returns the caption without case, punctuation and extra spaces: equal keys mean the same caption."""
    kept = "".join(character if character.isalnum() else " " for character in caption.casefold())
    return " ".join(kept.split())


def read_captions(path: Path) -> dict[str, str]:
    """Returns the captions of a ``NAME.txt`` by language code; English under ``en``.

    Raises:
        UnicodeDecodeError: the file is not UTF-8.
    """
    first, *others = path.read_text(encoding="utf-8-sig").splitlines() or [""]
    captions = {}
    for line in others:
        key, separator, text = line.partition("=")
        if separator and key.endswith(".utf8"):
            captions[key.removesuffix(".utf8").strip()] = text.strip()
    captions[ENGLISH] = first.strip()
    return captions


def _speech_ending(language: str) -> str:
    return "_desc" if language == ENGLISH else f"_desc_{language}"


def _existing(stem: Path, suffixes: Iterable[str]) -> Path | None:
    candidates = (stem.with_name(stem.name + suffix) for suffix in suffixes)
    return next((path for path in candidates if path.is_file()), None)


def scan_stamps(
    folder: Path, language: str, *, include_symbols: bool, svg: bool
) -> tuple[tuple[Stamp, ...], Exclusions]:
    """Lists every picture that has a recording in the language, and what was left out.

    Args:
        folder: the stamps folder itself.
        language: language code as the package spells it, such as ``ru`` or ``pt_BR``.
        include_symbols: also take letters, digits, coins and the like.
        svg: whether SVG drawings can be rendered; if not they are left out.

    Raises:
        FaultError: the language code is malformed, or no picture has a recording in it.
    """
    if not LANGUAGE_PATTERN.fullmatch(language):
        raise FaultError(
            fault(
                "--language", "must be a code such as ru or pt_BR", language, "see the package's file names"
            )
        )
    exclusions = Exclusions()
    stamps = []
    ending = _speech_ending(language)
    with_picture = set()
    for stem in sorted(
        {path.with_suffix("") for path in folder.rglob("*") if path.suffix in PICTURE_SUFFIXES}
    ):
        stamp_id = stem.relative_to(folder).as_posix()
        speech = _existing(stem.with_name(stem.name + ending), SPEECH_SUFFIXES)
        with_picture.add(speech)
        stamp = _read_stamp(stem, stamp_id, speech, language)
        if isinstance(stamp, str):
            exclusions.add(stamp, stamp_id)
        elif not include_symbols and stamp_id.split("/")[0] == SYMBOLS_FOLDER:
            exclusions.add("symbol (letters, digits, coins, ...; taken with --include-symbols)", stamp_id)
        elif stamp.picture.suffix == ".svg" and not svg:
            exclusions.add("SVG drawing, and rsvg-convert is not installed", stamp_id)
        else:
            stamps.append(stamp)
    for suffix in SPEECH_SUFFIXES:
        for path in set(folder.rglob(f"*{ending}{suffix}")) - with_picture:
            exclusions.add("speech without a picture", path.relative_to(folder).as_posix())
    if not stamps:
        left_out = ", ".join(f"{len(items)} x {reason}" for reason, items in exclusions.by_reason.items())
        message = f"must hold usable pictures with speech, NAME{ending}.ogg, got none ({left_out})"
        languages = ", ".join(sorted(_languages(folder))) or "none"
        raise FaultError(Fault(str(folder), f"{message}; choose another --language (there: {languages})"))
    return tuple(stamps), exclusions


def _languages(folder: Path) -> set[str]:
    """Return the languages in the names of recordings, ``NAME_desc_LL.ogg``."""
    speech = (path.name for suffix in SPEECH_SUFFIXES for path in folder.rglob(f"*_desc_*{suffix}"))
    return {name.partition(".")[0].rpartition("_desc_")[2] for name in speech}


def _read_stamp(stem: Path, stamp_id: str, speech: Path | None, language: str) -> Stamp | str:
    """Returns the stamp, or the reason why there is none."""
    picture = _existing(stem, PICTURE_SUFFIXES)
    captions_path = stem.with_name(stem.name + ".txt")
    if speech is None or picture is None:
        return "no speech in this language"
    try:
        captions = read_captions(captions_path)
    except FileNotFoundError:
        return "no caption file"
    except UnicodeDecodeError:
        return "caption file is not UTF-8"
    # Splits are told apart by the English caption: without one, leakage could not be ruled out.
    if not caption_key(captions[ENGLISH]):
        return "no English caption"
    return Stamp(stamp_id, picture, speech, captions[ENGLISH], captions.get(language, ""))
