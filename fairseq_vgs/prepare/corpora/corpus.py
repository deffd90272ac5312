"""What a reader of a corpus hands to ``build_folder``: its recordings, its pictures and what it left out.

A reader (``read_<corpus>()``) only reads lists and looks which files there are; it opens no media.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


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
