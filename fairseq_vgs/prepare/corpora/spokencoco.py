"""SpokenCOCO (Hsu et al. 2021): the captions of COCO 2014, five a picture, read aloud.

As distributed: ``SpokenCOCO_train.json`` and ``SpokenCOCO_val.json``, ``{"data": [{"image": ..., "captions":
[{"text", "speaker", "uttid", "wav"}, ...]}, ...]}``, beside ``wavs/``; COCO's pictures in ``train2014/`` and
``val2014/``.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.prepare.build.folder import BuildOptions, build_folder
from fairseq_vgs.prepare.build.split import TEST, TRAIN, VALID
from fairseq_vgs.prepare.build.tables import command_line
from fairseq_vgs.prepare.corpora.corpus import Caption, Corpus, Picture
from fairseq_vgs.prepare.corpora.corpus_check import corpus_faults, raise_any, raise_or_collect
from fairseq_vgs.prepare.corpora.json_entries import UNPACK_AGAIN, TextFields, read_entries
from fairseq_vgs.prepare.corpora.published import list_hash, read_published

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


@dataclass(frozen=True)
class SpokencocoConfig:
    """What to make of SpokenCOCO.

    Attributes:
        split: ``karpathy`` (113k/5k/5k pictures), ``paper`` (118k for train, 5k for test) or ``published``
            (the two files: train, valid).
        images: folder of ``train2014`` and ``val2014``; None leaves the pictures out, for region features.
        karpathy: Karpathy's ``dataset_coco.json``, or the folder of ``karpathy_valid.txt`` and
            ``karpathy_test.txt``.
    """

    split: str = KARPATHY
    images: Path | None = None
    karpathy: Path | None = None

    def __post_init__(self) -> None:
        """Refuses unknown splits."""
        if self.split not in SPLITTINGS:
            expected = f"must be one of {', '.join(SPLITTINGS)}"
            raise FaultError(fault("--split", expected, self.split, "correct it"))
        if self.split == KARPATHY and self.karpathy is None:
            step = "give dataset_coco.json, or manifests/splits/spokencoco"
            raise FaultError(fault("--karpathy", "must name the split's lists", None, step))


def prepare_spokencoco(
    folder: Path,
    output: Path,
    *,
    config: SpokencocoConfig,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Builds a data folder of SpokenCOCO and returns its summary.

    Args:
        folder: the folder of the JSON files and ``wavs``, or the one that it was unpacked in.
        output: the folder to make.
        config: what to make of it.
        options: how to build it.
        progress: called with (files done, files in all).

    Raises:
        FaultError: faulty lists, recordings or pictures: all of them.
    """
    settings = {"split": config.split, "pictures": config.images is not None}
    faults: list[Fault] = []
    return build_folder(
        read_spokencoco(folder, config=config, faults=faults),
        output,
        options=options or BuildOptions(),
        faults=faults,
        progress=progress,
        command=command_line("spokencoco", "SPOKENCOCO OUTPUT", {"split": config.split}),
        settings=settings,
        inputs=[path for path in (folder, config.karpathy) if path is not None],
    )


def read_spokencoco(folder: Path, *, config: SpokencocoConfig, faults: list[Fault] | None = None) -> Corpus:
    """Reads which recordings and pictures there are.

    A picture's id is its file's name without ending, as region features have it
    (``COCO_val2014_000000325114``).

    Args:
        folder: the folder of the JSON files and ``wavs``, or the one that it was unpacked in.
        config: what to make of it.
        faults: gets the faults of the lists, which are raised otherwise.

    Raises:
        FaultError: all faults of the lists.
    """
    root = folder / UNPACKED if (folder / UNPACKED).is_dir() else folder
    checksums: dict[str, str] = {}
    if config.split == KARPATHY and config.karpathy is not None:
        karpathy, checksums = _read_karpathy(config.karpathy)
        split_of: dict[str, Callable[[str], str]] = dict.fromkeys(FILES, karpathy.split_of)
    else:
        split_of = {name: _always(split) for name, split in SPLIT_OF_FILE[config.split].items()}
    found = _Found()
    for name in FILES:
        found.read(root / name, split_of=split_of[name])
    corpus = Corpus(
        "spokencoco",
        audio_root=root,
        image_root=config.images or root,
        captions=found.captions,
        pictures=found.pictures if config.images is not None else (),
        checksums=checksums,
    )
    # Of a file that cannot be read, nothing is known: that it lists nothing is no second fault.
    if found.captions or not found.faults:
        found.faults.extend(corpus_faults(corpus, needs_splits=True))
    raise_or_collect(found.faults, faults)
    found.log_notes()
    return corpus


def _always(split: str) -> Callable[[str], str]:
    return lambda _: split


class _Karpathy:
    """Karpathy's split (Karpathy and Fei-Fei 2015), by COCO's ids."""

    def __init__(self, split_of_id: dict[int, str], *, complete: bool) -> None:
        self._split_of_id = split_of_id
        self._complete = complete

    def split_of(self, image: str) -> str:
        """Returns a picture's split.

        Raises:
            ValueError: it has no COCO id, or the split does not know it.
        """
        match = _COCO_NAME.fullmatch(PurePosixPath(image).name)
        if match is None:
            raise ValueError("must end in COCO_train2014_ or COCO_val2014_, 12 digits and .jpg")
        split = self._split_of_id.get(int(match[1]))
        if split is None and self._complete:
            raise ValueError("must be in Karpathy's split")
        return split or TRAIN


def _read_karpathy(path: Path) -> tuple[_Karpathy, dict[str, str]]:
    checksums = dict(KARPATHY_LISTS.values())
    if path.is_dir():
        return (
            _Karpathy(
                {
                    int(image): split
                    for split, (name, sha256) in KARPATHY_LISTS.items()
                    for image in read_published(path / name, sha256)
                },
                complete=False,
            ),
            checksums,
        )
    fields = TextFields(
        "picture",
        required=("filename", "split"),
        passed_over=("filepath", "sentids", "imgid", "sentences", "cocoid"),
    )
    split_of_id: dict[int, str] = {}
    faults: list[Fault] = []
    try:
        for index, entry in read_entries(path, "images"):
            place = f"{path.name}: images[{index}]"
            if (taken := fields.take(entry, place, faults)) is None:
                continue
            match = _COCO_NAME.fullmatch(taken[0])
            if match is None or taken[1] not in _KARPATHY_NAMES:
                names = ", ".join(_KARPATHY_NAMES)
                expected = f"must have one of COCO's filenames and one of the splits {names}"
                faults.append(fault(place, expected, taken, UNPACK_AGAIN))
            else:
                split_of_id[int(match[1])] = _KARPATHY_NAMES[taken[1]]
    except FaultError as error:
        faults.extend(error.faults)
    raise_any(faults)
    for split, (_, sha256) in KARPATHY_LISTS.items():
        ids = sorted(image for image, its_split in split_of_id.items() if its_split == split)
        if (got := list_hash(str(image) for image in ids)) != sha256:
            expected = f"{split}: ids in ascending order must have the published SHA-256 {sha256}"
            faults.append(fault(path.name, expected, got, "get the file again, or use manifests/splits"))
    raise_any(faults)
    return _Karpathy(split_of_id, complete=True), checksums


@dataclass
class _Found:
    """What the files list, and what is wrong with them."""

    captions: list[Caption] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    _uses: Counter[int] = field(default_factory=Counter)
    _places: dict[str, str] = field(default_factory=dict)
    # Each speaker and split is one object, however often it is named.
    _names: dict[str, str] = field(default_factory=dict)
    _picture_fields: TextFields = field(
        default_factory=lambda: TextFields(
            "picture", required=("image",), filled=("image",), passed_over=("captions",)
        )
    )
    _caption_fields: TextFields = field(
        default_factory=lambda: TextFields(
            "caption", required=("wav", "uttid", "speaker", "text"), filled=("wav", "uttid")
        )
    )

    def read(self, path: Path, *, split_of: Callable[[str], str]) -> None:
        """Adds one file's pictures and captions."""
        try:
            for index, entry in read_entries(path, "data"):
                self._add(entry, f"{path.name}: data[{index}]", split_of)
        except FaultError as error:
            self.faults.extend(error.faults)

    def log_notes(self) -> None:
        """Logs what is unusual but no fault."""
        for fields in (self._picture_fields, self._caption_fields):
            if note := fields.note():
                logger.warning("%s", note)
        others = {uses: count for uses, count in sorted(self._uses.items()) if uses != CAPTIONS_PER_IMAGE}
        if others:
            counts = ", ".join(f"{count:,} have {uses}" for uses, count in others.items())
            logger.warning("not all pictures have %d captions: %s", CAPTIONS_PER_IMAGE, counts)

    def _add(self, entry: object, place: str, split_of: Callable[[str], str]) -> None:
        taken = self._picture_fields.take(entry, place, self.faults)
        captions = entry.get("captions") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and not isinstance(captions, list):
            self.faults.append(fault(place, "captions must be a list", captions, UNPACK_AGAIN))
        split, image = "", ""
        if taken is not None:
            image = PurePosixPath(taken[0]).stem
            self.pictures.append(Picture(image, taken[0], place=place))
            try:
                split = split_of(taken[0])
            except ValueError as error:
                self.faults.append(fault(place, f"image {error}", taken[0], UNPACK_AGAIN))
        if isinstance(captions, list):
            self._uses[len(captions)] += 1
            for number, caption in enumerate(captions):
                self._add_caption(caption, f"{place}.captions[{number}]", split or TRAIN, image)

    def _add_caption(self, entry: object, place: str, split: str, image: str) -> None:
        taken = self._caption_fields.take(entry, place, self.faults)
        if taken is None:
            return
        wav, utterance, speaker, text = taken
        first = self._places.setdefault(utterance, place)
        if first is not place:
            expected = f"uttid must appear only once (first at {first})"
            self.faults.append(fault(place, expected, utterance, UNPACK_AGAIN))
        speaker = self._names.setdefault(speaker, speaker)
        self.captions.append(Caption(wav, split, image, speaker, text, place))
