"""SpokenCOCO (Hsu et al. 2021): the captions of COCO 2014, five a picture, read aloud.

As distributed: ``SpokenCOCO_train.json`` and ``SpokenCOCO_val.json``, ``{"data": [{"image": ..., "captions":
[{"text", "speaker", "uttid", "wav"}, ...]}, ...]}``, next to ``wavs/``; COCO's pictures in ``train2014/`` and
``val2014/``.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from fairseq_vgs.files.faults import Fault, fault, raise_any
from fairseq_vgs.options import option, refuse_unknown
from fairseq_vgs.prepare.build.split import TEST, TRAIN, VALID
from fairseq_vgs.prepare.corpora import CORPORA, CorpusReader, images_option, without_pictures_option
from fairseq_vgs.prepare.corpus import Caption, Corpus, Picture, UniqueNames
from fairseq_vgs.prepare.lists import (
    SPLIT_LISTS,
    UNPACK_AGAIN,
    TextFields,
    list_hash,
    read_entries,
    read_published,
)

logger = logging.getLogger(__name__)

UNPACKED = "SpokenCOCO"
FILES = ("SpokenCOCO_train.json", "SpokenCOCO_val.json")
CAPTIONS_PER_IMAGE = 5
KARPATHY, PAPER, PUBLISHED = SPLITTINGS = ("karpathy", "paper", "published")
# Split of each file's pictures. The paper (Khorrami et al. 2023) trains on the first file's 118k pictures and
# tests on the second's 5k.
SPLIT_OF_FILE = {
    PAPER: dict(zip(FILES, (TRAIN, TEST), strict=True)),
    PUBLISHED: dict(zip(FILES, (TRAIN, VALID), strict=True)),
}
# COCO ids of the pictures, in ascending order; every other picture is for training.
KARPATHY_LISTS = {
    VALID: ("karpathy_valid.txt", "b7a7a89dd86f75f60dc1984613bde9048118c37bc5246e028c7b22aeb4199477"),
    TEST: ("karpathy_test.txt", "d20da3dd48646d91a7ff7837c1c1f591d52c75e72921b2fd7f6854dc1093339f"),
}
# Karpathy's own names of them; "restval" are those of val2014 that are for training.
_KARPATHY_NAMES = {"train": TRAIN, "restval": TRAIN, "val": VALID, "test": TEST}
_COCO_NAME = re.compile(r"COCO_(?:train|val)2014_([0-9]{12})\.jpe?g", re.IGNORECASE)


@CORPORA.register("spokencoco")
@dataclass(frozen=True)
class SpokenCoco(CorpusReader):
    """SpokenCOCO: five spoken captions per picture.

    SpokenCOCO as it is unpacked (SpokenCOCO_train.json, SpokenCOCO_val.json, wavs), with COCO's pictures of
    2014. Splits: karpathy (113k pictures for train, 5k valid, 5k test); paper (Khorrami et al. 2023: the
    files' 118k for train and 5k for test, no valid); published (the files: train, valid).
    """

    examples = (
        "fairseq-vgs prepare spokencoco SpokenCOCO DATA --images COCO",
        "fairseq-vgs prepare spokencoco SpokenCOCO DATA --images COCO --split paper --pack tar",
        "fairseq-vgs prepare spokencoco SpokenCOCO DATA --images COCO --regions efficientnet --grid 3",
        "fairseq-vgs prepare spokencoco SpokenCOCO DATA --without-pictures --karpathy dataset_coco.json",
    )
    source = ("SPOKENCOCO", "folder of the JSON files")
    has_pictures = True

    images: Path | None = images_option("COCO's train2014 and val2014")
    without_pictures: bool = without_pictures_option()
    split: Literal["karpathy", "paper", "published"] = option(KARPATHY, help="how pictures are divided")
    karpathy: Path | None = option(
        None,
        help="Karpathy's dataset_coco.json, or a folder of lists (default: those that come with the package)",
        metavar="PATH",
    )

    def __post_init__(self) -> None:
        """Refuse unknown splits."""
        refuse_unknown("--split", self.split, SPLITTINGS)

    def collect(self, source: Path, faults: list[Fault]) -> Corpus:
        """Read which recordings and pictures there are.

        A picture's id is its file's name without suffix, as in region features
        (``COCO_val2014_000000325114``).
        """
        root = source / UNPACKED if (source / UNPACKED).is_dir() else source
        of_file = SPLIT_OF_FILE.get(self.split, {})
        karpathy = None if of_file else _read_karpathy(self.karpathy or SPLIT_LISTS / "spokencoco")
        found = _Found(faults)
        for name in FILES:
            for place, entry in read_entries(root / name, "data", faults):
                found.add(entry, place, karpathy or of_file[name])
        found.log_notes()
        return Corpus(
            "spokencoco",
            audio_root=root,
            image_root=self.images or root,
            captions=found.captions,
            pictures=found.pictures if self.images is not None else (),
            checksums=dict(KARPATHY_LISTS.values()) if karpathy else {},
        )


@dataclass(frozen=True)
class _Karpathy:
    """Karpathy's split (Karpathy and Fei-Fei 2015), by COCO's ids."""

    split_of_id: Mapping[int, str]
    is_complete: bool

    def split_of(self, image: str) -> str:
        """Return a picture's split; raise ``ValueError`` if it has no COCO id, or is not in the split."""
        match = _COCO_NAME.fullmatch(PurePosixPath(image).name)
        if match is None:
            raise ValueError("must end in COCO_train2014_ or COCO_val2014_, 12 digits and .jpg")
        split = self.split_of_id.get(int(match[1]))
        if split is None and self.is_complete:
            raise ValueError("must be in Karpathy's split")
        return split or TRAIN


def _read_karpathy(path: Path) -> _Karpathy:
    split_of_id: dict[int, str] = {}
    if path.is_dir():
        for split, (name, sha256) in KARPATHY_LISTS.items():
            split_of_id |= dict.fromkeys(map(int, read_published(path / name, sha256)), split)
        return _Karpathy(split_of_id, is_complete=False)
    passed_over = ("filepath", "sentids", "imgid", "sentences", "cocoid")
    fields = TextFields("picture", required=("filename", "split"), passed_over=passed_over)
    faults: list[Fault] = []
    for place, entry in read_entries(path, "images", faults):
        if (taken := fields.take(entry, place, faults)) is None:
            continue
        match = _COCO_NAME.fullmatch(taken[0])
        if match is None or taken[1] not in _KARPATHY_NAMES:
            names = ", ".join(_KARPATHY_NAMES)
            expected = f"must have one of COCO's filenames and one of the splits {names}"
            faults.append(fault(place, expected, taken, UNPACK_AGAIN, code="corpus.entry"))
        else:
            split_of_id[int(match[1])] = _KARPATHY_NAMES[taken[1]]
    raise_any(faults)
    for split, (_, sha256) in KARPATHY_LISTS.items():
        ids = sorted(image for image, its_split in split_of_id.items() if its_split == split)
        if (got := list_hash(map(str, ids))) != sha256:
            expected = f"{split}: ids in ascending order must have the published SHA-256 {sha256}"
            step = "get the file again, or use the lists that come with the package"
            faults.append(fault(path.name, expected, got, step, code="corpus.checksum"))
    raise_any(faults)
    return _Karpathy(split_of_id, is_complete=True)


class _Found:
    """What the files list, and their faults."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        self.captions: list[Caption] = []
        self.pictures: list[Picture] = []
        self._uses: Counter[int] = Counter()
        self._utterances = UniqueNames("uttid", UNPACK_AGAIN)
        self._pictures = TextFields("picture", ("image",), filled=("image",), passed_over=("captions",))
        self._captions = TextFields("caption", ("wav", "uttid", "speaker", "text"), filled=("wav", "uttid"))

    def log_notes(self) -> None:
        """Log what is unusual but not a fault."""
        self._pictures.log_unknown()
        self._captions.log_unknown()
        others = {uses: count for uses, count in sorted(self._uses.items()) if uses != CAPTIONS_PER_IMAGE}
        if others:
            counts = ", ".join(f"{count:,} have {uses}" for uses, count in others.items())
            logger.warning("not all pictures have %d captions: %s", CAPTIONS_PER_IMAGE, counts)

    def add(self, entry: object, place: str, splits: _Karpathy | str) -> None:
        taken = self._pictures.take(entry, place, self.faults)
        captions = entry.get("captions") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and not isinstance(captions, list):
            expected = "captions must be a list"
            self.faults.append(fault(place, expected, captions, UNPACK_AGAIN, code="corpus.entry"))
        split, image = TRAIN, ""
        if taken is not None:
            image = PurePosixPath(taken[0]).stem
            self.pictures.append(Picture(image, taken[0], place=place))
            try:
                split = splits if isinstance(splits, str) else splits.split_of(taken[0])
            except ValueError as error:
                expected = f"image {error}"
                self.faults.append(fault(place, expected, taken[0], UNPACK_AGAIN, code="split.unknown"))
        if isinstance(captions, list):
            self._uses[len(captions)] += 1
            for number, caption in enumerate(captions):
                self._add_caption(caption, f"{place}.captions[{number}]", split, image)

    def _add_caption(self, entry: object, place: str, split: str, image: str) -> None:
        if (taken := self._captions.take(entry, place, self.faults)) is not None:
            wav, utterance, speaker, text = taken
            self.faults += self._utterances.faults(utterance, place)
            # Each speaker is one object, however often it is named.
            self.captions.append(Caption(wav, split, image, sys.intern(speaker), text, place))
