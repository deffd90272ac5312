"""Places Audio Captions 400k (Harwath et al. 2016, 2018), splits of 2020: pictures of Places205, described.

As distributed: ``PlacesAudio_400k_distro/wavs`` and, in ``placesaudio_2020_splits``, a file for each split,
``{"image_base_path": ..., "audio_base_path": ..., "data": [{"uttid", "speaker", "asr_text", "wav", "image"},
...]}``. *Seen* and *unseen* say whether a split's speakers are in train.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.prepare.build.folder import BuildOptions, build_folder
from fairseq_vgs.prepare.build.tables import command_line
from fairseq_vgs.prepare.corpora.corpus import Caption, Corpus, Picture
from fairseq_vgs.prepare.corpora.corpus_check import corpus_faults, raise_or_collect
from fairseq_vgs.prepare.corpora.json_entries import UNPACK_AGAIN, TextFields, read_entries

logger = logging.getLogger(__name__)

UNPACKED = "PlacesAudio_400k_distro"
METADATA_FOLDERS = ("metadata", "placesaudio_2020_splits", ".", "../placesaudio_2020_splits")
SPLIT_OF_FILE = {
    "train_2020.json": "train",
    "dev_seen_2020.json": "valid_seen",
    "dev_unseen_2020.json": "valid_unseen",
    "test_seen_2020.json": "test_seen",
    "test_unseen_2020.json": "test_unseen",
}


@dataclass(frozen=True)
class PlacesConfig:
    """What to make of Places Audio.

    Attributes:
        images: folder that the pictures' paths start from; None leaves the pictures out, for region features.
        metadata: folder of the five JSON files; None looks for it in the corpus and beside it.
    """

    images: Path | None = None
    metadata: Path | None = None


def prepare_places(
    folder: Path,
    output: Path,
    *,
    config: PlacesConfig,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Builds a data folder of Places Audio and returns its summary.

    Args:
        folder: the folder of ``wavs``, or the one that it was unpacked in.
        output: the folder to make.
        config: what to make of it.
        options: how to build it.
        progress: called with (files done, files in all).

    Raises:
        FaultError: faulty lists, recordings or pictures: all of them.
    """
    faults: list[Fault] = []
    return build_folder(
        read_places(folder, config=config, faults=faults),
        output,
        options=options or BuildOptions(),
        faults=faults,
        progress=progress,
        command=command_line("places", "PLACES_AUDIO OUTPUT", {}),
        settings={"pictures": config.images is not None},
        inputs=[path for path in (folder, config.metadata) if path is not None],
    )


def read_places(folder: Path, *, config: PlacesConfig, faults: list[Fault] | None = None) -> Corpus:
    """Reads which recordings and pictures there are.

    A picture's id is its path, as region features have it (``b/badlands/gsun_0123.jpg``). The files' own base
    paths are those of the authors' machines, and passed over.

    Args:
        folder: the folder of ``wavs``, or the one that it was unpacked in.
        config: what to make of it.
        faults: gets the faults of the lists, which are raised otherwise.

    Raises:
        FaultError: all faults of the lists.
    """
    root = folder / UNPACKED if (folder / UNPACKED).is_dir() else folder
    metadata = config.metadata or find_metadata(root)
    fields = TextFields(
        "entry",
        required=("wav", "uttid", "speaker", "image"),
        filled=("wav", "uttid", "image"),
        # What a recogniser understood; nobody wrote these captions down.
        optional=("asr_text",),
    )
    captions: list[Caption] = []
    found: list[Fault] = []
    places: dict[str, str] = {}
    for name, split in SPLIT_OF_FILE.items():
        for caption, utterance in _read_file(metadata / name, split, fields, found):
            first = places.setdefault(utterance, caption.place)
            if first is not caption.place:
                expected = f"uttid must appear only once (first at {first})"
                found.append(fault(caption.place, expected, utterance, UNPACK_AGAIN))
            captions.append(caption)
    corpus = Corpus(
        "places",
        audio_root=root,
        image_root=config.images or root,
        captions=captions,
        pictures=_pictures(captions) if config.images is not None else (),
    )
    # Of a file that cannot be read, nothing is known: that it lists nothing is no second fault.
    if captions or not found:
        found.extend(corpus_faults(corpus, needs_splits=True))
    raise_or_collect(found, faults)
    if note := fields.note():
        logger.warning("%s", note)
    return corpus


def find_metadata(root: Path) -> Path:
    """Returns the folder of the split files, in a corpus or beside it.

    Raises:
        FaultError: there is none.
    """
    folders = [root / name for name in METADATA_FOLDERS]
    for folder in folders:
        if any((folder / name).is_file() for name in SPLIT_OF_FILE):
            return folder
    searched = ", ".join(METADATA_FOLDERS)
    expected = f"must have {next(iter(SPLIT_OF_FILE))} and the like in one of {searched}, got none"
    raise FaultError(Fault(str(root), f"{expected}; unpack placesaudio_2020_splits, or give --metadata"))


def _read_file(
    path: Path, split: str, fields: TextFields, faults: list[Fault]
) -> Iterator[tuple[Caption, str]]:
    # Speakers and pictures are one object each, however often they are named.
    names: dict[str, str] = {}
    try:
        for index, entry in read_entries(path, "data"):
            place = f"{path.name}: data[{index}]"
            if (taken := fields.take(entry, place, faults)) is None:
                continue
            wav, utterance, speaker, image, text = taken
            yield (
                Caption(wav, split, image, names.setdefault(speaker, speaker), text, place),
                utterance,
            )
    except FaultError as error:
        faults.extend(error.faults)


def _pictures(captions: list[Caption]) -> list[Picture]:
    """Returns each picture once, where it is first described."""
    pictures: dict[str, Picture] = {}
    for caption in captions:
        if caption.image not in pictures:
            pictures[caption.image] = Picture(caption.image, caption.image, place=caption.place)
    return list(pictures.values())
