"""What the demo searches: pictures and captions of a data folder's split, or files of any folder.

Shapes: I pictures, C captions, E embedding dims.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fairseq_vgs.arrays import F32, I64
from fairseq_vgs.checkpoints.load import Checkpoint
from fairseq_vgs.features.embeddings import EvaluationSplit, embed_split, open_split
from fairseq_vgs.features.heat_map import HeatMap
from fairseq_vgs.features.speech import progress
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.location import resolve
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.tables import read_audio_list, read_images, read_pairs
from fairseq_vgs.media.content import Source
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.kind import AUDIO_SUFFIXES, PICTURE_SUFFIXES

logger = logging.getLogger(__name__)


_OF_A_FILE = frozenset({"media.kind", "sound.length"})
"""Codes of faults that concern one file, besides those of media that cannot be decoded."""


class SearchModel(Protocol):
    """What the demo needs of ``fairseq_vgs.Model``."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The model's file and settings."""
        ...

    @property
    def measure(self) -> str:
        """``dot`` or ``cosine``."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def embed_speech(self, recordings: Any) -> F32:
        """Embed recordings: float32[n, E]."""
        ...

    def embed_images(self, pictures: Any) -> F32:
        """Embed pictures: float32[n, E]."""
        ...

    def heat_map(self, speech: Any, image: Any) -> HeatMap:
        """Find which regions go with which moments."""
        ...


@dataclass(frozen=True)
class Item:
    """A picture or a caption, and where it is (None: only its regions are in the data folder)."""

    name: str
    source: Source | None
    text: str = ""
    speaker: str = ""

    @property
    def label(self) -> str:
        """The caption's text, or a name."""
        return self.text or self.name


@dataclass(frozen=True)
class Side:
    """Pictures or captions: f32[n, E] embeddings, and int64[n] groups; equal groups answer each other."""

    items: Sequence[Item]
    vectors: F32
    groups: I64

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Collection:
    """Pictures and captions that can be found; ``title`` says where they are from.

    ``image`` returns what a model's heat map takes for a picture's number.
    """

    title: str
    pictures: Side
    captions: Side
    image: Callable[[int], Any] = field(repr=False)


def open_collection(model: SearchModel, folder: Path, split: str | None = None) -> Collection:
    """Embed a data folder's split, or the pictures and recordings of any other folder.

    The default split is the first there is of test, valid, train and others.

    Raises:
        FaultError: no such split, nothing to search, or media that cannot be used.
    """
    model.embed_speech(())  # which refuses models that do not embed speech
    if splits := ManifestFolder(folder).splits():
        return _of_split(model, folder, _chosen(folder, splits, split))
    if split is not None:
        expected, step = "must be left out for a folder without tables", "leave it out, or give a data folder"
        raise FaultError(fault("--split", expected, split, step, code="setting.unused"))
    return _of_files(model, folder)


def _chosen(folder: Path, splits: Sequence[str], split: str | None) -> str:
    paired = [name for name in splits if ManifestFolder(folder).pairs(name).is_file()]
    if split is None and paired:
        return min(paired, key=lambda name: ("test", "valid").index(name) if name in ("test", "valid") else 2)
    if split not in paired:
        expected = f"must be a split with pairs ({', '.join(paired) or 'there is none'})"
        step = "choose one, or give another data folder"
        raise FaultError(
            fault("--split" if split else str(folder), expected, split, step, code="split.unknown")
        )
    return split


# A data folder --------------------------------------------------------------------------------------------


def _of_split(model: SearchModel, folder: Path, name: str) -> Collection:
    split = open_split(folder, name, config=model.checkpoint.config)
    embeddings = embed_split(model.checkpoint.model, split, device=model.device)
    manifest = ManifestFolder(folder)
    audio, images = read_audio_list(manifest.audio_list(name)), read_images(manifest.images)
    pairs = {row.audio_id: row for row in read_pairs(manifest.pairs(name))}
    paths = {row.image_id: row.path for row in images.rows}
    captions = [
        Item(audio_id, resolve(audio.root, audio_id), pairs[audio_id].text, pairs[audio_id].speaker)
        for audio_id in split.audio_ids
    ]
    pictures = [
        Item(image_id, resolve(images.root, path) if (path := paths[image_id]) else None)
        for image_id in split.image_ids
    ]
    return Collection(
        f"split {name} of {folder.resolve().name}",
        Side(pictures, embeddings.images, split.image_groups),
        Side(captions, embeddings.speech, split.speech_groups),
        lambda number: _stored(split, number),
    )


def _stored(split: EvaluationSplit, number: int) -> Any:
    """Return an image of a split as the image encoder reads it, with the regions of the data folder."""
    return split.image(split.image_ids[number])


# Other folders --------------------------------------------------------------------------------------------


def _of_files(model: SearchModel, folder: Path) -> Collection:
    pictures, vectors = _embedded(folder, PICTURE_SUFFIXES, model.embed_images, "pictures")
    if not pictures:
        expected = f"must hold a data folder's tables, or pictures ({', '.join(PICTURE_SUFFIXES)})"
        step = "check the path, or make a data folder with fairseq-vgs prepare pairs"
        raise FaultError(fault(str(folder), expected, "neither", step, code="folder.empty"))
    recordings = _embedded(folder, AUDIO_SUFFIXES, model.embed_speech, "recordings")
    return Collection(
        folder.resolve().name,
        _side(folder, pictures, vectors, group=-1),
        _side(folder, *recordings, group=-2),
        lambda number: pictures[number],
    )


def _side(folder: Path, files: Sequence[Path], vectors: F32, *, group: int) -> Side:
    items = [Item(path.relative_to(folder).as_posix(), path) for path in files]
    return Side(items, vectors, np.full(len(items), group, dtype=np.int64))


def _embedded(
    folder: Path, suffixes: Sequence[str], embed: Callable[[Sequence[Path]], F32], title: str
) -> tuple[list[Path], F32]:
    """Return the files of a folder that can be used, and f32[n, E]; name the others.

    Each is embedded alone, as what is asked for later is, so that one that cannot be used stops no other.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file()]
    kept: list[Path] = []
    vectors: list[F32] = []
    with progress(len(files), f"embedding {title}", "file") as bar:
        for path in files:
            try:
                vectors.append(embed([path]))
            except FaultError as error:
                if not isinstance(error, MediumError) and not _OF_A_FILE.issuperset(error.codes):
                    raise
                logger.warning("left out: %s", error)
            else:
                kept.append(path)
            bar.update()
    return kept, np.concatenate(vectors) if vectors else embed(())
