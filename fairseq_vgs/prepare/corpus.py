"""Corpora as their lists describe them: recordings, pictures, what was left out, and what can be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.location import split_entry

SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
RESERVED_SPLITS = ("images", "regions")
RESERVED_ENDINGS = (".pairs", ".utterances")


@dataclass(frozen=True, slots=True)
class Caption:
    """One recording of a corpus.

    Attributes:
        audio: POSIX path below ``Corpus.audio_root``, once in the corpus; also the id in the audio list (with
            another ending where the recording is converted).
        split: ``train``, ``valid``, ``test`` or a further name such as ``test_seen``.
        image: Id of the picture it describes; empty for speech alone.
        speaker: Who speaks; may be empty.
        text: What is said; may be empty.
        place: Where the corpus lists it, for messages: ``SpokenCOCO_train.json: data[17].captions[2]``.
    """

    audio: str
    split: str
    image: str = ""
    speaker: str = ""
    text: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a corpus: id, POSIX path below ``Corpus.image_root``, group of equals, where listed."""

    image_id: str
    path: str
    group: str = ""
    place: str = ""


@dataclass(frozen=True)
class Corpus:
    """A corpus as its lists describe it.

    Attributes:
        name: ``spokencoco``, ``librispeech``, ...
        audio_root: Folder that the captions' paths start from.
        image_root: Folder that the pictures' paths start from.
        captions: The recordings, in the order of the audio lists to be.
        pictures: Empty where there are none, or where region features stand for them.
        excluded: Reason -> names that the reader left out, such as recordings known to be faulty.
        checksums: Published lists that were verified: name -> SHA-256.
    """

    name: str
    audio_root: Path
    image_root: Path
    captions: Sequence[Caption]
    pictures: Sequence[Picture] = ()
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Exclusions:
    """What was left out, by reason."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, item: str) -> None:
        """Note one excluded item."""
        self.by_reason.setdefault(reason, []).append(item)

    def summary(self) -> dict[str, dict[str, object]]:
        """Return count and sorted items of every reason, for ``summary.json``."""
        return {
            reason: {"count": len(items), "items": sorted(items)}
            for reason, items in sorted(self.by_reason.items())
        }


def raise_any(faults: Iterable[Fault]) -> None:
    """Raise ``FaultError`` with all faults, if there are any."""
    if found := list(faults):
        raise FaultError(found)


def corpus_faults(corpus: Corpus, *, needs_splits: bool) -> Iterator[Fault]:
    """Yield everything that the tables of a data folder could not hold, or not tell apart.

    Args:
        corpus: What a reader found.
        needs_splits: Every recording must have a split.
    """
    yield from _root_faults(corpus)
    if not corpus.captions:
        yield Fault(
            str(corpus.audio_root),
            f"{corpus.name}: must list recordings, got none; check the folder",
            code="recording.missing",
        )
    known = {picture.image_id for picture in corpus.pictures}
    names, splits = _Names("recording"), set[str]()
    for caption in corpus.captions:
        place = caption.place or caption.audio
        yield from names.faults(caption.audio, place)
        if problem := path_problem(caption.audio):
            yield fault(place, f"audio path {problem}", caption.audio, "rename the file", code="file.path")
        if known and caption.image and caption.image not in known:
            expected = "image must be one of the corpus' pictures"
            step = "correct the list"
            yield fault(place, expected, caption.image, step, code="picture.unknown")
        if not known and caption.image and (problem := _text_problem(caption.image)):
            yield fault(
                place, f"image id {problem}", caption.image, "rename the picture", code="picture.name"
            )
        # All else that a table cannot hold becomes a blank there.
        for what, content in (("speaker", caption.speaker), ("text", caption.text)):
            if problem := _encoding_problem(content):
                yield fault(place, f"{what} {problem}", content, "correct the list", code="text.encoding")
        if caption.split not in splits and (caption.split or needs_splits):
            splits.add(caption.split)
            if problem := split_problem(caption.split):
                expected = f"split {problem}"
                step = "train, valid and test are usual"
                yield fault(place, expected, caption.split, step, code="split.name")
    ids = _Names("image id")
    for picture in corpus.pictures:
        place = picture.place or picture.path
        yield from ids.faults(picture.image_id, place)
        if problem := _text_problem(picture.image_id):
            yield fault(
                place, f"image id {problem}", picture.image_id, "rename the picture", code="picture.name"
            )
        if problem := path_problem(picture.path):
            yield fault(place, f"picture path {problem}", picture.path, "rename the file", code="file.path")


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
            yield Fault(
                str(root),
                f"must be the folder of the {what}, got none; correct the path",
                code="folder.missing",
            )


class _Names:
    """Find names that are used twice."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._places: dict[str, str] = {}

    def faults(self, name: str, place: str) -> Iterator[Fault]:
        first = self._places.setdefault(name, place)
        if first is not place:
            expected = f"{self._what} must appear only once (first at {first})"
            copy = " (a second picture needs a copy of it)" if self._what == "recording" else ""
            yield fault(place, expected, name, f"remove one of the two{copy}", code="name.duplicate")


def _text_problem(text: str) -> str | None:
    if not text or text != text.strip():
        return "must not be empty, nor begin or end with blanks"
    if any(character in text for character in "\t\n\r\0"):
        return "must not contain tabs, line ends or NUL"
    return _encoding_problem(text)


def _encoding_problem(text: str) -> str | None:
    # JSON may hold half of a pair of surrogates, and so may file names that are no UTF-8.
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
    return None if offset is None else "must be a file, no part of an archive"
