"""The rows of a data folder's tables.

An *audio id* is the path exactly as in the audio list; images have their own ids.
Boxes are relative to the picture: 0 is its left or upper edge, 1 its right or lower edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AudioRow:
    """One utterance: its path (file or archive entry) below the list's root, and its length in samples."""

    audio_id: str
    n_samples: int


@dataclass(frozen=True, slots=True)
class PairRow:
    """One spoken caption of one image; speaker and text may be empty."""

    audio_id: str
    image_id: str
    speaker: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class UtteranceRow:
    """Speaker and text of an utterance without a pair; both may be empty."""

    audio_id: str
    speaker: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One picture: path (file or archive entry) below the table's root, size in pixels, group.

    The path is empty if only regions of the picture are available.
    """

    image_id: str
    path: str
    width: int
    height: int
    group: str = ""

    @property
    def group_id(self) -> str:
        """The group, or the image's id if it has no group.

        Pictures of one group are interchangeable: never negatives, and correct answers for each other.
        """
        return self.group or self.image_id


@dataclass(frozen=True, slots=True)
class RegionRow:
    """One region of an image: the row of ``regions.npy`` with its features, and its box."""

    image_id: str
    feature_row: int
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class AudioList:
    """A split's utterances and the folder their paths are relative to."""

    root: Path
    rows: tuple[AudioRow, ...]


@dataclass(frozen=True, slots=True)
class ImageTable:
    """The pictures of all splits and the folder their paths are relative to."""

    root: Path
    rows: tuple[ImageRow, ...]
