"""What can be wrong with a corpus' names before any media are looked at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.location import split_entry
from fairseq_vgs.prepare.corpora.corpus import Corpus

SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
RESERVED_SPLITS = ("images", "regions")
RESERVED_ENDINGS = (".pairs", ".utterances")


def raise_any(faults: Iterable[Fault]) -> None:
    """Raises ``FaultError`` with all faults, if there are any."""
    if found := list(faults):
        raise FaultError(found)


def raise_or_collect(found: Iterable[Fault], faults: list[Fault] | None) -> None:
    """Raises ``FaultError`` with all faults, or adds them to a list that goes on to ``build_folder``."""
    if faults is None:
        raise_any(found)
    else:
        faults.extend(found)


def corpus_faults(corpus: Corpus, *, needs_splits: bool) -> Iterator[Fault]:
    """Yields everything that the tables of a data folder could not hold, or not tell apart.

    Args:
        corpus: what a reader found.
        needs_splits: every recording must have a split.
    """
    yield from _root_faults(corpus)
    if not corpus.captions:
        yield Fault(
            str(corpus.audio_root), f"{corpus.name}: must list recordings, got none; check the folder"
        )
    known = {picture.image_id for picture in corpus.pictures}
    names, splits = _Names("recording"), set[str]()
    for caption in corpus.captions:
        place = caption.place or caption.audio
        yield from names.faults(caption.audio, place)
        if problem := path_problem(caption.audio):
            yield fault(place, f"audio path {problem}", caption.audio, "rename the file")
        if known and caption.image and caption.image not in known:
            yield fault(place, "image must be one of the corpus' pictures", caption.image, "correct the list")
        if not known and caption.image and (problem := _text_problem(caption.image)):
            yield fault(place, f"image id {problem}", caption.image, "rename the picture")
        # All else that a table cannot hold becomes a blank there.
        for what, content in (("speaker", caption.speaker), ("text", caption.text)):
            if problem := _encoding_problem(content):
                yield fault(place, f"{what} {problem}", content, "correct the list")
        if caption.split not in splits and (caption.split or needs_splits):
            splits.add(caption.split)
            if problem := split_problem(caption.split):
                yield fault(place, f"split {problem}", caption.split, "train, valid and test are usual")
    ids = _Names("image id")
    for picture in corpus.pictures:
        place = picture.place or picture.path
        yield from ids.faults(picture.image_id, place)
        if problem := _text_problem(picture.image_id):
            yield fault(place, f"image id {problem}", picture.image_id, "rename the picture")
        if problem := path_problem(picture.path):
            yield fault(place, f"picture path {problem}", picture.path, "rename the file")


def split_problem(split: str) -> str | None:
    """Returns why a split cannot have this name, or None."""
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
            yield Fault(str(root), f"must be the folder of the {what}, got none; correct the path")


class _Names:
    """Finds names that are used twice."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._places: dict[str, str] = {}

    def faults(self, name: str, place: str) -> Iterator[Fault]:
        first = self._places.setdefault(name, place)
        if first is not place:
            expected = f"{self._what} must appear only once (first at {first})"
            copy = " (a second picture needs a copy of it)" if self._what == "recording" else ""
            yield fault(place, expected, name, f"remove one of the two{copy}")


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
    """Returns why a table cannot hold this path below a root, or None."""
    if problem := _text_problem(path):
        return problem
    try:
        _, offset, _ = split_entry(path)
    except ValueError as error:
        return str(error)
    return None if offset is None else "must be a file, no part of an archive"
