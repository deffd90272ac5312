"""A split's tables joined into arrays: millions of pairs stay small and cheap to share with data workers.

N pairs, U utterances of the audio list, I pictures.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairseq_vgs.conv_spec import ConvLayers, n_frames
from fairseq_vgs.data.masking import MIN_FRAMES
from fairseq_vgs.manifest.errors import Fault, ManifestError, fault
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.location import MediaLocation, resolve
from fairseq_vgs.manifest.schema import AudioList, ImageTable, PairRow
from fairseq_vgs.manifest.tables import read_audio_list, read_images, read_pairs

logger = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int64]

# Lines above the first row of each table.
_AUDIO_OFFSET = 2
_PAIRS_OFFSET = 2
_IMAGES_OFFSET = 3


class PackedStrings:
    """An immutable list of strings in one block of bytes: a tenth of the memory of Python strings."""

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        start, end = int(self._ends[index]), int(self._ends[index + 1])
        return self._bytes[start:end].decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class AudioTable:
    """An audio list.

    Attributes:
        list_path: The list; its name stands in errors.
        root: Folder that the paths start from.
        paths: U paths or archive entries.
        n_samples: int64[U] lengths.
    """

    list_path: Path
    root: Path
    paths: PackedStrings
    n_samples: IntArray

    def place(self, row: int) -> str:
        """Return file, line and path of an utterance, for errors."""
        return f"{self.list_path.name}:{row + _AUDIO_OFFSET} ({self.paths[row]})"

    def location(self, row: int) -> MediaLocation:
        """Return where an utterance's bytes are."""
        return resolve(self.root, self.paths[row])


@dataclass(frozen=True)
class SplitTable:
    """The pairs of a split.

    Attributes:
        split: Its name.
        audio: Its audio list; may hold utterances without a picture, which the split does not use.
        audio_row: int64[N] row of each pair's utterance.
        image_row: int64[N] row of each pair's picture in images.tsv.
        image_group: int64[I] number of each picture's group: equal for interchangeable pictures.
        image_root: Folder that picture paths start from.
        image_paths: I paths or archive entries.
        image_index: Number of every picture by its id.
    """

    split: str
    audio: AudioTable
    audio_row: IntArray
    image_row: IntArray
    image_group: IntArray
    image_root: Path
    image_paths: PackedStrings
    image_index: dict[str, int]

    def __len__(self) -> int:
        return len(self.audio_row)

    @property
    def n_samples(self) -> IntArray:
        """int64[N] length of each pair's utterance."""
        return self.audio.n_samples[self.audio_row]

    def image_place(self, image_row: int) -> str:
        """Return file, line and path of a picture, for errors."""
        return f"images.tsv:{image_row + _IMAGES_OFFSET} ({self.image_paths[image_row]})"

    def image_location(self, image_row: int) -> MediaLocation:
        """Return where a picture's bytes are."""
        return resolve(self.image_root, self.image_paths[image_row])


def load_split(
    folder: ManifestFolder, split: str, *, layers: ConvLayers, skip_short: bool = False
) -> SplitTable:
    """Read a split's tables and join them by id.

    Args:
        folder: The manifest folder.
        split: Name of the split.
        layers: The extractor, which decides how short an utterance may be.
        skip_short: Leave out pairs whose speech is too short for it, with a warning, instead of refusing the
            split.

    Raises:
        ManifestError: Missing or faulty tables, unknown ids, an empty split, too short speech; every fault of
            a kind.
    """
    audio_list, pairs = read_audio_list(folder.audio_list(split)), read_pairs(folder.pairs(split))
    images = read_images(folder.images)
    if not pairs:
        step = "choose another split or rerun fairseq-vgs prepare"
        raise ManifestError(Fault(folder.pairs(split).name, f"split {split!r} holds no pairs; {step}"))
    audio = _audio_table(folder.audio_list(split), audio_list)
    image_index = {row.image_id: index for index, row in enumerate(images.rows)}
    audio_row, image_row = _join(folder, split, pairs=pairs, audio_list=audio_list, image_index=image_index)
    short = _too_short(audio, layers, rows=audio_row)
    if len(short):
        _refuse_or_warn(audio, audio_row[short], layers, skip=skip_short)
        keep = np.setdiff1d(np.arange(len(audio_row)), short)
        audio_row, image_row = audio_row[keep], image_row[keep]
    return SplitTable(
        split=split,
        audio=audio,
        audio_row=audio_row,
        image_row=image_row,
        image_group=_group_numbers(images),
        image_root=images.root,
        image_paths=PackedStrings(row.path for row in images.rows),
        image_index=image_index,
    )


def load_audio_table(path: Path, *, layers: ConvLayers, skip_short: bool = False) -> AudioTable:
    """Read an audio list on its own, for speech without pictures.

    Raises:
        ManifestError: A missing, faulty or empty list, or too short speech; every fault of a kind.
    """
    audio = _audio_table(path, read_audio_list(path))
    if not len(audio.n_samples):
        raise ManifestError(Fault(path.name, "list holds no utterances; choose another list"))
    short = _too_short(audio, layers, rows=np.arange(len(audio.n_samples)))
    if len(short):
        _refuse_or_warn(audio, short, layers, skip=skip_short)
        # The rows stay, so that line numbers stay true; nothing draws an utterance of length 0.
        n_samples = audio.n_samples.copy()
        n_samples[short] = 0
        if not n_samples.any():
            what = "no utterance can be used, all are too short; choose another list"
            raise ManifestError(Fault(path.name, what))
        audio = AudioTable(path, audio.root, audio.paths, n_samples)
    return audio


def _audio_table(path: Path, audio_list: AudioList) -> AudioTable:
    rows = audio_list.rows
    n_samples = np.fromiter((row.n_samples for row in rows), dtype=np.int64, count=len(rows))
    return AudioTable(path, audio_list.root, PackedStrings(row.audio_id for row in rows), n_samples)


def _join(
    folder: ManifestFolder,
    split: str,
    *,
    pairs: Sequence[PairRow],
    audio_list: AudioList,
    image_index: dict[str, int],
) -> tuple[IntArray, IntArray]:
    audio_index = {row.audio_id: index for index, row in enumerate(audio_list.rows)}
    faults = []
    for line, pair in enumerate(pairs, start=_PAIRS_OFFSET):
        place = f"{folder.pairs(split).name}:{line}"
        if pair.audio_id not in audio_index:
            expected = f"audio_id must be one of {folder.audio_list(split).name}"
            faults.append(
                fault(place, expected, pair.audio_id, "correct the id or rerun fairseq-vgs prepare")
            )
        if pair.image_id not in image_index:
            expected = f"image_id must be one of {folder.images.name}"
            faults.append(
                fault(place, expected, pair.image_id, "correct the id or rerun fairseq-vgs prepare")
            )
    if faults:
        raise ManifestError(faults)
    n_pairs = len(pairs)
    audio_row = np.fromiter((audio_index[pair.audio_id] for pair in pairs), dtype=np.int64, count=n_pairs)
    image_row = np.fromiter((image_index[pair.image_id] for pair in pairs), dtype=np.int64, count=n_pairs)
    return audio_row, image_row


def _group_numbers(images: ImageTable) -> IntArray:
    numbers: dict[str, int] = {}
    groups = (numbers.setdefault(row.group_id, len(numbers)) for row in images.rows)
    return np.fromiter(groups, dtype=np.int64, count=len(images.rows))


def _too_short(audio: AudioTable, layers: ConvLayers, *, rows: IntArray) -> IntArray:
    return np.flatnonzero(n_frames(audio.n_samples[rows], layers) < MIN_FRAMES)


def _refuse_or_warn(audio: AudioTable, rows: IntArray, layers: ConvLayers, *, skip: bool) -> None:
    expected = f"speech must fill at least {MIN_FRAMES} frames of model.conv_feature_layers"
    step = "remove it, or skip such items with task.skip_bad=true"
    faults = []
    for row in rows.tolist():
        length = int(audio.n_samples[row])
        faults.append(
            fault(audio.place(row), expected, f"{n_frames(length, layers)} ({length} samples)", step)
        )
    if not skip:
        raise ManifestError(faults)
    for item in faults:
        logger.warning("skipped: %s", item)
    logger.warning("%s: %d too short utterances are skipped", audio.list_path.name, len(faults))
