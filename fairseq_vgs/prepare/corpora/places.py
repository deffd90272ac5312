"""Places Audio Captions 400k (Harwath et al. 2016, 2018), splits of 2020: pictures of Places205, described.

As distributed: ``PlacesAudio_400k_distro/wavs`` and, in ``placesaudio_2020_splits``, a file for each split,
``{"image_base_path": ..., "audio_base_path": ..., "data": [{"uttid", "speaker", "asr_text", "wav", "image"},
...]}``. *Seen* and *unseen* say whether a split's speakers are in train.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.options import option
from fairseq_vgs.prepare.corpora import CORPORA, CorpusReader, images_option, without_pictures_option
from fairseq_vgs.prepare.corpus import Caption, Corpus, Picture, UniqueNames
from fairseq_vgs.prepare.lists import UNPACK_AGAIN, TextFields, read_entries

UNPACKED = "PlacesAudio_400k_distro"
METADATA_FOLDERS = ("metadata", "placesaudio_2020_splits", ".", "../placesaudio_2020_splits")
SPLIT_OF_FILE = {
    "train_2020.json": "train",
    "dev_seen_2020.json": "valid_seen",
    "dev_unseen_2020.json": "valid_unseen",
    "test_seen_2020.json": "test_seen",
    "test_unseen_2020.json": "test_unseen",
}


@CORPORA.register("places")
@dataclass(frozen=True)
class Places(CorpusReader):
    """Places Audio Captions 400k: described pictures of places.

    Places Audio Captions 400k, splits of 2020: PlacesAudio_400k_distro/wavs, and placesaudio_2020_splits
    with train_2020.json, dev_seen_2020.json, ... The splits become train, valid_seen, valid_unseen,
    test_seen and test_unseen; their texts are what a recogniser understood. Some recordings of the corpus
    are empty: --skip-bad leaves them out.
    """

    examples = (
        "fairseq-vgs prepare places PlacesAudio_400k_distro DATA --images PLACES205 --skip-bad",
        "fairseq-vgs prepare places PlacesAudio_400k_distro DATA --without-pictures --metadata SPLITS",
    )
    source = ("PLACES_AUDIO", "folder of wavs")
    has_pictures = True

    images: Path | None = images_option("Places205's pictures, which the JSON files' paths start from")
    without_pictures: bool = without_pictures_option()
    metadata: Path | None = option(
        None,
        help="folder of the JSON files (default: metadata or placesaudio_2020_splits, in or next to it)",
        metavar="FOLDER",
    )

    def collect(self, source: Path, faults: list[Fault]) -> Corpus:
        """Read which recordings and pictures there are.

        A picture's id is its path, as in region features (``b/badlands/gsun_0123.jpg``). The base paths in
        the files are those of the authors' machines and are ignored.
        """
        root = source / UNPACKED if (source / UNPACKED).is_dir() else source
        metadata = self.metadata or _find_metadata(root)
        # The text is output of a speech recogniser: nobody transcribed these captions.
        required, filled = ("wav", "uttid", "speaker", "image"), ("wav", "uttid", "image")
        fields = TextFields("entry", required=required, filled=filled, optional=("asr_text",))
        captions: list[Caption] = []
        pictures: dict[str, Picture] = {}
        utterances = UniqueNames("uttid", UNPACK_AGAIN)
        for name, split in SPLIT_OF_FILE.items():
            for place, entry in read_entries(metadata / name, "data", faults):
                if (taken := fields.take(entry, place, faults)) is not None:
                    wav, utterance, speaker, image, text = taken
                    faults += utterances.faults(utterance, place)
                    # Each speaker is one object, however often it is named.
                    captions.append(Caption(wav, split, image, sys.intern(speaker), text, place))
                    if self.images is not None and image not in pictures:
                        pictures[image] = Picture(image, image, place=place)
        fields.log_unknown()
        return Corpus("places", root, self.images or root, captions, tuple(pictures.values()))


def _find_metadata(root: Path) -> Path:
    """Return the folder of the split files, in a corpus or next to it."""
    for folder in (root / name for name in METADATA_FOLDERS):
        if any((folder / name).is_file() for name in SPLIT_OF_FILE):
            return folder
    expected = f"must have {next(iter(SPLIT_OF_FILE))} and the like in one of {', '.join(METADATA_FOLDERS)}"
    message = f"{expected}, got none; unpack placesaudio_2020_splits, or give --metadata"
    raise FaultError.at(root, message, "corpus.folder")
