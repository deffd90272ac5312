"""A corpus as its lists describe it, and the faults such lists may have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from fairseq_vgs.files.faults import Fault, fault
from fairseq_vgs.files.location import split_entry
from fairseq_vgs.files.spelling import on_disk

SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
RESERVED_SPLITS = ("images", "regions")
RESERVED_ENDINGS = (".pairs", ".utterances")
SPEECH, PICTURES = "speech", "pictures"  # kinds of media, and their folders
_NOUNS = {SPEECH: "recording", PICTURES: "picture"}


@dataclass(frozen=True, slots=True)
class Caption:
    """One recording of a corpus; its speaker and text may be empty.

    Attributes:
        audio: POSIX path below ``Corpus.audio_root``, unique; also the id in the audio list (with another
            suffix if the recording is converted).
        split: ``train``, ``valid``, ``test`` or a further name such as ``test_seen``.
        image: Id of the picture it describes; empty for speech alone.
        place: Where the corpus lists it: ``SpokenCOCO_train.json: data[17].captions[2]``.
    """

    audio: str
    split: str
    image: str = ""
    speaker: str = ""
    text: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: id, POSIX path below ``Corpus.image_root``, group of equal ones, where it is listed."""

    image_id: str
    path: str
    group: str = ""
    place: str = ""


Item = TypeVar("Item", Caption, Picture)


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


@dataclass(frozen=True)
class Corpus:
    """A corpus as its lists describe it; captions are in the order of the audio lists.

    Attributes:
        pictures: Empty for speech alone, or if region features replace them.
        excluded: Names that the reader left out, by reason.
        checksums: SHA-256 of published lists that were verified, by name.
    """

    name: str
    audio_root: Path
    image_root: Path
    captions: Sequence[Caption]
    pictures: Sequence[Picture] = ()
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)

    @property
    def roots(self) -> dict[str, Path]:
        """The base folder of each kind of media."""
        return {SPEECH: self.audio_root, PICTURES: self.image_root}

    @property
    def media(self) -> dict[str, list[Medium]]:
        """Recordings and pictures, by kind."""
        return {
            SPEECH: [Medium(SPEECH, item.audio, item.audio, item.place) for item in self.captions],
            PICTURES: [Medium(PICTURES, item.path, item.path, item.place) for item in self.pictures],
        }


def as_on_disk(corpus: Corpus) -> Corpus:
    """Return the corpus with the paths of its media as the disk spells them."""
    captions = [_respelt(item, "audio", corpus.audio_root) for item in corpus.captions]
    pictures = [_respelt(item, "path", corpus.image_root) for item in corpus.pictures]
    return replace(corpus, captions=captions, pictures=pictures)


def _respelt(item: Item, name: str, root: Path) -> Item:
    listed = getattr(item, name)
    if listed.isascii() and "\\" not in listed:  # nearly all
        return item
    found = listed if path_problem(listed) else on_disk(root, listed)
    return item if found == listed else replace(item, **{name: found})


@dataclass
class Exclusions:
    """Items left out, by reason."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, item: str) -> None:
        """Add one excluded item."""
        self.by_reason.setdefault(reason, []).append(item)

    def listing(self) -> str:
        """Return counts and reasons in one line, for messages."""
        return "; ".join(f"{len(items)}: {reason}" for reason, items in self.by_reason.items())

    def summary(self) -> dict[str, dict[str, object]]:
        """Return count and sorted items of every reason, for ``summary.json``."""
        return {
            reason: {"count": len(items), "items": sorted(items)}
            for reason, items in sorted(self.by_reason.items())
        }


def corpus_faults(corpus: Corpus, *, needs_splits: bool) -> Iterator[Fault]:
    """Yield everything that the tables of a data folder could not hold or tell apart."""
    yield from _root_faults(corpus)
    if not corpus.captions:
        message = f"{corpus.name}: must list recordings, got none; check the folder"
        yield Fault(str(corpus.audio_root), message, "recording.missing")
    known = {picture.image_id for picture in corpus.pictures}
    names = UniqueNames("recording", "remove one of the two (a second picture needs a copy of it)")
    splits = set[str]()
    for caption in corpus.captions:
        place = caption.place or caption.audio
        yield from names.faults(caption.audio, place)
        yield from _path_faults("audio", caption.audio, place)
        if known and caption.image and caption.image not in known:
            expected, step = "image must be one of the corpus' pictures", "correct the list"
            yield fault(place, expected, caption.image, step, code="picture.unknown")
        if not known and caption.image:
            yield from _image_id_faults(caption.image, place)
        # Other characters that a table cannot hold are replaced by blanks there.
        for what, content in (("speaker", caption.speaker), ("text", caption.text)):
            if problem := encoding_problem(content):
                yield fault(place, f"{what} {problem}", content, "correct the list", code="text.encoding")
        if caption.split not in splits and (caption.split or needs_splits):
            splits.add(caption.split)
            if problem := split_problem(caption.split):
                expected, step = f"split {problem}", "train, valid and test are usual"
                yield fault(place, expected, caption.split, step, code="split.name")
    ids = UniqueNames("image id")
    for picture in corpus.pictures:
        place = picture.place or picture.path
        yield from ids.faults(picture.image_id, place)
        yield from _image_id_faults(picture.image_id, place)
        yield from _path_faults("picture", picture.path, place)


def _path_faults(what: str, path: str, place: str) -> Iterator[Fault]:
    if problem := path_problem(path):
        yield fault(place, f"{what} path {problem}", path, "rename the file", code="file.path")


def _image_id_faults(image_id: str, place: str) -> Iterator[Fault]:
    if problem := _text_problem(image_id):
        yield fault(place, f"image id {problem}", image_id, "rename the picture", code="picture.name")


def split_problem(split: str) -> str | None:
    """Return why a split cannot have this name, or None."""
    if SPLIT_NAME.fullmatch(split) is None:
        return "must be a name of letters, digits, '_', '-' and '.'"
    if split in RESERVED_SPLITS or split.endswith(RESERVED_ENDINGS):
        return "must not be the name of another table"
    return None


def _root_faults(corpus: Corpus) -> Iterator[Fault]:
    roots: dict[Path, str] = {corpus.audio_root: "recordings"}
    if corpus.pictures:
        roots.setdefault(corpus.image_root, "pictures")
    for root, what in roots.items():
        if not root.is_dir():
            message = f"must be the folder of the {what}, got none; correct the path"
            yield Fault(str(root), message, "folder.missing")


class UniqueNames:
    """Find names that are used twice."""

    def __init__(self, what: str, next_step: str = "remove one of the two") -> None:
        self._what, self._next_step = what, next_step
        self._places: dict[str, str] = {}

    def faults(self, name: str, place: str) -> Iterator[Fault]:
        """Yield a fault if the name is known from another place."""
        first = self._places.setdefault(name, place)
        if first is not place:
            expected = f"{self._what} must appear only once (first at {first})"
            yield fault(place, expected, name, self._next_step, code="name.duplicate")


def _text_problem(text: str) -> str | None:
    if not text or text != text.strip():
        return "must not be empty, nor begin or end with blanks"
    if any(character in text for character in "\t\n\r\0"):
        return "must not contain tabs, line ends or NUL"
    return encoding_problem(text)


def encoding_problem(text: str) -> str | None:
    """Return why a table cannot hold a text's characters, or None."""
    # JSON may hold lone surrogates, and so may file names that are not UTF-8.
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be text that UTF-8 can hold"
    return None


def path_problem(path: str) -> str | None:
    """Return why a table cannot hold this path below a root, or None."""
    if problem := _text_problem(path):
        return problem
    try:
        _, offset, _ = split_entry(path)
    except ValueError as error:
        return str(error)
    return None if offset is None else "must be a file, not part of an archive"
