"""Retrieval figures of embeddings, in one call."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairseq_vgs.api.speech import as_numpy
from fairseq_vgs.arrays import F32, I64
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.text_tables import text_table
from fairseq_vgs.metrics.retrieval import (
    DIRECTIONS,
    RECALL_CUTOFFS,
    SIMILARITIES,
    RetrievalRanks,
    chance_median_rank,
    chance_recalls,
    recalls,
    retrieval_ranks,
)

_TITLES = {"speech_to_image": "speech → image", "image_to_speech": "image → speech"}


@dataclass(frozen=True)
class Retrieval:
    """How well captions find their images among all, and images their captions.

    Attributes:
        values: ``speech_to_image_r1`` ... ``image_to_speech_r10`` in percent, and the median rank of the best
            correct answer, ``speech_to_image_median_rank`` and ``image_to_speech_median_rank``.
        chance: the same of random orders.
        n_captions: captions, the queries of ``speech_to_image``.
        n_images: distinct images.
        ranks: of every query.
    """

    values: Mapping[str, float]
    chance: Mapping[str, float]
    n_captions: int
    n_images: int
    ranks: RetrievalRanks

    def as_dict(self) -> dict[str, Any]:
        """Return values, chance and counts as plain data."""
        counts = {"captions": self.n_captions, "images": self.n_images}
        return {**self.values, "chance": dict(self.chance), **counts}

    def table(self) -> str:
        """Return a table of recalls in percent and median ranks."""
        header = [f"{self.n_captions} captions, {self.n_images} images"]
        header += [*(f"R@{k} %" for k in RECALL_CUTOFFS), "median rank"]
        rows = [header]
        for name in DIRECTIONS:
            for title, values in ((_TITLES[name], self.values), ("  chance", self.chance)):
                found = [f"{values[f'{name}_r{k}']:.1f}" for k in RECALL_CUTOFFS]
                rows.append([title, *found, f"{values[f'{name}_median_rank']:g}"])
        return text_table(rows)

    def __str__(self) -> str:
        """Return the table."""
        return self.table()


def retrieval(
    speech: Any,
    images: Any,
    image_ids: Sequence[Hashable],
    *,
    ids_of_images: Sequence[Hashable] | None = None,
    similarity: str = "dot",
) -> Retrieval:
    """Rank the images for every caption, and the captions for every image.

    >>> import numpy as np
    >>> import fairseq_vgs as vgs
    >>> speech = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> images = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> found = vgs.retrieval(speech, images, ["dog", "dog", "cat"])
    >>> found.values["speech_to_image_r1"], found.chance["speech_to_image_r1"]
    (100.0, 50.0)

    Args:
        speech: float[C, E], an embedding of each caption.
        images: float[I, E], one of each image, or one for each caption; an image that comes more than once
            counts once, with its first embedding.
        image_ids: for each caption, the id of its image.
        ids_of_images: for each row of ``images``, its id. Without it, the images are one for each caption,
            or the distinct ids of ``image_ids`` in the order of their first caption.
        similarity: dot or cosine, as the model trained (``Model.measure``).

    Raises:
        FaultError: ``retrieval.ids``: ids do not fit the embeddings; ``retrieval.embeddings``: there are
            none, or they are not finite, or of different dims; ``setting.value``: another similarity.
    """
    if similarity not in SIMILARITIES:
        expected = f"must be {' or '.join(SIMILARITIES)}"
        raise FaultError(fault("similarity", expected, similarity, "choose one", code="setting.value"))
    rows, columns = _embeddings(speech, "speech"), _embeddings(images, "images")
    if rows.shape[1] != columns.shape[1]:
        expected, got = "must have as many dims as speech", f"{columns.shape[1]} and {rows.shape[1]}"
        step = "give both from the same model"
        raise FaultError(fault("images", expected, got, step, code="retrieval.embeddings"))
    captions = list(image_ids)
    if len(captions) != len(rows):
        _refuse("image_ids", f"needs the id of the image of each of {len(rows)} captions", len(captions))
    columns, names = _distinct(columns, captions, ids_of_images)
    numbers = {name: number for number, name in enumerate(names)}
    if lost := [name for name in captions if name not in numbers]:
        _refuse("image_ids", "must be ids of the images", lost[0])
    groups = np.array([numbers[name] for name in captions], dtype=np.int64)
    return _measured(rows, columns, groups, similarity)


def _embeddings(given: Any, place: str) -> F32:
    """Return embeddings as an array [n, E] of numbers, at least one."""
    found = as_numpy(given)
    is_matrix = found.ndim == 2 and found.dtype.kind == "f" and found.size
    if not is_matrix or not np.isfinite(found).all():
        got = f"{found.dtype} {list(found.shape)}" if not is_matrix else "NaN or infinity"
        step = "give what embed_speech and embed_images return"
        expected = "must be embeddings, finite, float[n, dims] with n from 1 on"
        raise FaultError(fault(place, expected, got, step, code="retrieval.embeddings"))
    return found


def _distinct(
    images: F32, captions: Sequence[Hashable], ids_of_images: Sequence[Hashable] | None
) -> tuple[F32, list[Hashable]]:
    """Return each image once, and the ids."""
    distinct = list(dict.fromkeys(captions))
    if ids_of_images is not None:
        names = list(ids_of_images)
    else:
        names = list(captions) if len(images) == len(captions) else distinct
    if len(names) != len(images):
        if ids_of_images is None:
            expected = (
                f"needs the ids of the {len(images)} images, which are not the captions' {len(distinct)}"
            )
            _refuse("ids_of_images", expected, None)
        _refuse("ids_of_images", f"needs the id of each of {len(images)} images", len(names))
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    kept = sorted(first.values())
    return images[kept], [names[row] for row in kept]


def _measured(speech: F32, images: F32, caption_images: I64, similarity: str) -> Retrieval:
    image_groups = np.arange(len(images))
    ranks = retrieval_ranks(
        speech, images, speech_groups=caption_images, image_groups=image_groups, similarity=similarity
    )
    values, chance = recalls(ranks), chance_recalls(caption_images, image_groups)
    sides = ((caption_images, image_groups), (image_groups, caption_images))
    for name, side in zip(DIRECTIONS, sides, strict=True):
        values[f"{name}_median_rank"] = float(np.median(ranks.direction(name)))
        chance[f"{name}_median_rank"] = chance_median_rank(*side)
    return Retrieval(values, chance, len(speech), len(images), ranks)


def _refuse(place: str, expected: str, got: object) -> None:
    raise FaultError(fault(place, expected, got, "give one id for each row", code="retrieval.ids"))
