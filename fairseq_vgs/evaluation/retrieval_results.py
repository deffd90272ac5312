"""A folder of retrieval results: figures, one CSV row per query, and the embeddings behind them.

```
metrics.json              figures of all models with n, chance, intervals; provenance
speech_to_image.csv       audio_id, image_id, group, rank, top_image_id, top_score (and each baseline's rank;
                          with --folds fold_rank, within the query's own pool)
image_to_speech.csv       image_id, group, rank, top_audio_id, top_score (no rank: an image without captions)
speech_embeddings.npy     f32[C, E], rows as in speech_to_image.csv
image_embeddings.npy      f32[I, E], rows as in image_to_speech.csv
```

Shapes: ``C`` captions, ``I`` images, ``E`` embedding dims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.metrics.retrieval import RetrievalRanks, top_items
from fairseq_vgs.evaluation.results import (
    METRICS_NAME,
    ResultsError,
    read_array,
    read_metrics,
    read_table,
    write_metrics,
    write_table,
)
from fairseq_vgs.evaluation.retrieval_figures import Pool
from fairseq_vgs.files.atomic import write_array

KIND = "retrieval"
SPEECH_TABLE, IMAGE_TABLE = "speech_to_image.csv", "image_to_speech.csv"
SPEECH_ARRAY, IMAGE_ARRAY = "speech_embeddings.npy", "image_embeddings.npy"
FILE_NAMES = (METRICS_NAME, SPEECH_TABLE, IMAGE_TABLE, SPEECH_ARRAY, IMAGE_ARRAY)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RetrievalItems:
    """What was retrieved from what, and with which vectors.

    Attributes:
        audio_ids: C ids.
        image_ids: I ids.
        caption_image: int64[C] number of each caption's image.
        pool: groups of captions and images.
        speech: f32[C, E].
        images: f32[I, E].
        similarity: "dot" or "cosine".
    """

    audio_ids: Sequence[str]
    image_ids: Sequence[str]
    caption_image: npt.NDArray[np.int64]
    pool: Pool
    speech: npt.NDArray[np.float32]
    images: npt.NDArray[np.float32]
    similarity: str


@dataclass(frozen=True)
class RetrievalResults:
    """A results folder as it was read.

    Attributes:
        metrics: content of metrics.json.
        items: ids, groups and embeddings.
        ranks: of the model that was evaluated.
    """

    metrics: dict[str, Any]
    items: RetrievalItems
    ranks: RetrievalRanks


def write_retrieval(
    folder: Path,
    *,
    metrics: Mapping[str, Any],
    items: RetrievalItems,
    ranks: RetrievalRanks,
    baselines: Mapping[str, RetrievalRanks],
    force: bool = False,
) -> str:
    """Write a results folder; metrics.json last, so that its presence says that the rest is there.

    Args:
        folder: created if needed.
        metrics: content of metrics.json beside schema version and kind.
        items: ids, groups and embeddings.
        ranks: of the model.
        baselines: name -> ranks on the same items; become columns.
        force: replace existing files.

    Returns:
        The text of metrics.json, as `results.as_written` gives it.
    """
    extra = [f"{name}_rank" for name in baselines]
    best = top_items(items.speech, items.images, n_top=1, similarity=items.similarity)
    speech_rows = [
        (
            audio_id,
            items.image_ids[image],
            int(items.pool.speech_groups[row]),
            ranks.speech_to_image[row],
            items.image_ids[best.index[row, 0]],
            best.score[row, 0],
            *(others.speech_to_image[row] for others in baselines.values()),
        )
        for row, (audio_id, image) in enumerate(
            zip(items.audio_ids, items.caption_image.tolist(), strict=True)
        )
    ]
    header = ["audio_id", "image_id", "group", "rank", "top_image_id", "top_score", *extra]
    write_table(folder / SPEECH_TABLE, header, speech_rows, force=force)
    best = top_items(items.images, items.speech, n_top=1, similarity=items.similarity)
    image_rows = [
        (
            image_id,
            int(items.pool.image_groups[row]),
            ranks.image_to_speech[row],
            items.audio_ids[best.index[row, 0]],
            best.score[row, 0],
            *(others.image_to_speech[row] for others in baselines.values()),
        )
        for row, image_id in enumerate(items.image_ids)
    ]
    header = ["image_id", "group", "rank", "top_audio_id", "top_score", *extra]
    write_table(folder / IMAGE_TABLE, header, image_rows, force=force)
    write_array(folder / SPEECH_ARRAY, items.speech, force=force)
    write_array(folder / IMAGE_ARRAY, items.images, force=force)
    return write_metrics(folder / METRICS_NAME, {"kind": KIND, **metrics}, force=force)


def read_retrieval(folder: Path) -> RetrievalResults:
    """Read a results folder.

    Raises:
        ResultsError: a file is missing or broken, or the files do not belong together.
    """
    metrics = read_metrics(folder / METRICS_NAME, kind=KIND)
    captions, images = read_table(folder / SPEECH_TABLE), read_table(folder / IMAGE_TABLE)
    speech_array, image_array = read_array(folder / SPEECH_ARRAY), read_array(folder / IMAGE_ARRAY)
    for name, n_rows, array in (
        (SPEECH_ARRAY, len(captions), speech_array),
        (IMAGE_ARRAY, len(images), image_array),
    ):
        if array.ndim != 2 or len(array) != n_rows:
            raise ResultsError(
                f"{folder / name}: must have {n_rows} rows as the CSV, got shape {array.shape}"
            )
    try:
        numbers = {row["image_id"]: number for number, row in enumerate(images)}
        items = RetrievalItems(
            audio_ids=tuple(row["audio_id"] for row in captions),
            image_ids=tuple(numbers),
            caption_image=_integers(numbers[row["image_id"]] for row in captions),
            pool=Pool(_integers(row["group"] for row in captions), _integers(row["group"] for row in images)),
            speech=speech_array,
            images=image_array,
            similarity=str(metrics["similarity"]),
        )
        ranks = RetrievalRanks(_floats(captions), _floats(images))
    except (KeyError, ValueError) as error:
        raise ResultsError(
            f"{folder}: tables must be those that fairseq-vgs evaluate retrieval wrote, got {error!r}; run "
            "it again"
        ) from error
    return RetrievalResults(metrics, items, ranks)


def _integers(values: Any) -> npt.NDArray[np.int64]:
    return np.array([int(value) for value in values], dtype=np.int64)


def _floats(rows: Sequence[Mapping[str, str]]) -> FloatArray:
    return np.array([float(row["rank"] or "nan") for row in rows], dtype=np.float64)
