"""Find pictures by speech and captions by a picture, one question at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairseq_vgs.arrays import F32
from fairseq_vgs.demo.collection import Collection, SearchModel, Side
from fairseq_vgs.features.heat_map import HeatMap
from fairseq_vgs.media.content import Source
from fairseq_vgs.metrics.retrieval import RankedItem, best_answers

N_ANSWERS = 8


@dataclass(frozen=True)
class Found:
    """The answers to a query: a source from outside, or item number ``known`` of the collection."""

    query: Source
    known: int | None
    answers: tuple[RankedItem, ...]

    @property
    def correct_rank(self) -> float | None:
        """Rank of the best correct answer, where it is known."""
        return next((answer.rank for answer in self.answers if answer.is_correct), None)


class Search:
    """A model and what it searches; safe to use from several threads."""

    def __init__(self, model: SearchModel, collection: Collection) -> None:
        self.model, self.collection = model, collection
        self._lock = threading.Lock()

    def pictures(self, recording: Source) -> Found:
        """Rank the pictures for a recording.

        Raises:
            FaultError: a recording that cannot be used.
        """
        with self._lock:
            vector = self.model.embed_speech([recording])
        return self._found(recording, None, vector, self.collection.pictures)

    def captions(self, picture: Source) -> Found:
        """Rank the captions for a picture.

        Raises:
            FaultError: a picture that cannot be used.
        """
        with self._lock:
            vector = self.model.embed_images([picture])
        return self._found(picture, None, vector, self.collection.captions)

    def pictures_of(self, caption: int) -> Found:
        """Rank the pictures for a caption of the collection."""
        return self._known(caption, self.collection.captions, self.collection.pictures)

    def captions_of(self, picture: int) -> Found:
        """Rank the captions for a picture of the collection."""
        return self._known(picture, self.collection.pictures, self.collection.captions)

    def heat_map(self, recording: Source, picture: int) -> HeatMap:
        """Find which regions of a picture of the collection go with which moments of a recording.

        Raises:
            FaultError: it cannot be computed.
        """
        image: Any = self.collection.image(picture)
        with self._lock:
            return self.model.heat_map(recording, image)

    def _known(self, number: int, own: Side, other: Side) -> Found:
        source = own.items[number].source
        return self._found(source or b"", number, own.vectors[[number]], other, int(own.groups[number]))

    def _found(
        self, query: Source, known: int | None, vector: F32, side: Side, group: int | None = None
    ) -> Found:
        if not len(side):
            return Found(query, known, ())
        is_correct = np.zeros(len(side), dtype=bool) if group is None else side.groups == group
        similarity = self.model.measure
        answers = best_answers(vector, side.vectors, is_correct, n_top=N_ANSWERS, similarity=similarity)
        return Found(query, known, tuple(answers))
