"""Recordings of single words, and what stands for each: the mean over its frames.

Shapes: N tokens, T frames, D dims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairseq_vgs.evaluation.metrics import bootstrap
from fairseq_vgs.evaluation.metrics.lexical import LexicalResult, frame_recall, vector_recall
from fairseq_vgs.evaluation.results import Metric, ResultsError, read_table
from fairseq_vgs.features.layers import LayerFeatures
from fairseq_vgs.features.recordings import Recording
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.location import resolve
from fairseq_vgs.manifest import ManifestFolder, read_audio_list, read_pairs, read_utterances

KIND = "lexical"
WORDS_NAME = "words.csv"
MEANS, FRAMES = "cosine of means", "warped frames"

FloatArray = npt.NDArray[np.float64]


def open_words(folder: Path, split: str) -> tuple[dict[str, Recording], list[str]]:
    """List the recordings of a split by audio id, and the word that each is: its text, in lower case.

    Texts stand in the table of pairs or, of recordings without pictures, in that of utterances.

    Raises:
        FaultError: a faulty table, or every recording whose text is missing or several words (parted by
            commas, as in scenes of several objects).
    """
    files = ManifestFolder(folder)
    audio = read_audio_list(files.audio_list(split))
    utterances = files.utterances(split)
    alone = utterances.is_file() and not files.pairs(split).is_file()
    table = utterances if alone else files.pairs(split)
    texts = {
        row.audio_id: row.text.strip().casefold() for row in (read_utterances if alone else read_pairs)(table)
    }
    recordings, words, faults = {}, [], []
    for line, row in enumerate(audio.rows, start=2):
        place, text = f"{split}.tsv:{line}", texts.get(row.audio_id, "")
        if not text or "," in text:
            step = "name each recording's word in the table's text; scenes: --pictures-per-scene 1 1"
            faults.append(fault(place, f"recording must be one word by {table.name}", text, step))
        recordings[row.audio_id] = Recording(
            row.audio_id, resolve(audio.root, row.audio_id), row.n_samples, place
        )
        words.append(text)
    if faults:
        raise FaultError(faults)
    return recordings, words


def score_words(
    features: LayerFeatures, words: Mapping[str, str], *, compared: str = MEANS, device: str = "cpu"
) -> dict[str, LexicalResult]:
    """Score every layer.

    Args:
        features: audio id -> name of a layer -> f[T, D].
        words: audio id -> word, in the order that makes the folds.
        compared: `MEANS` over frames, or `FRAMES`, which are warped: many times slower.
        device: where to warp.
    """
    found: dict[str, list[Tensor]] = {}
    for audio_id in words:
        for layer, frames in features(audio_id).items():
            found.setdefault(layer, []).append(frames if compared == FRAMES else frames.double().mean(dim=0))
    names = list(words.values())
    return {
        layer: frame_recall(rows, names, device=device)
        if compared == FRAMES
        else vector_recall(torch.stack(rows), names)
        for layer, rows in found.items()
    }


def word_metrics(layers: Mapping[str, LexicalResult], *, seed: int) -> dict[str, Metric]:
    """Return the recall of each layer in percent, with 95 % intervals over resampled words."""
    metrics = {}
    for name, result in layers.items():
        shares = 100.0 * np.array(list(result.by_word.values()))
        interval = bootstrap.mean_interval(shares, np.arange(len(shares)), seed=seed)
        interval = replace(interval, method="bootstrap over words")
        metrics[name] = Metric(interval, len(result.recall), 100.0 * result.chance, "%")
    return metrics


def word_differences(
    own: Mapping[str, FloatArray], others: Mapping[str, FloatArray], *, seed: int
) -> dict[str, Metric]:
    """Return the differences of recall of the layers that both have, on the same resampled words.

    Args:
        own: layer -> f64[words] recall of each word, 0..1.
        others: the same words of the other model.
        seed: of the draws.
    """
    differences = {}
    for layer in (layer for layer in own if layer in others):
        gain = 100.0 * (own[layer] - others[layer])
        interval = bootstrap.mean_interval(gain, np.arange(len(gain)), seed=seed)
        interval = replace(interval, method="bootstrap over words")
        differences[layer] = Metric(interval, len(gain), None, "percentage points")
    return differences


def read_words(path: Path, model: str) -> tuple[list[str], dict[str, FloatArray]]:
    """Read the words, and f64[words] recalls (0..1) of a model's layers, from the table of `word_rows`.

    Raises:
        ResultsError: missing, or not such a table.
    """
    rows, prefix = read_table(path), f"{model}/"
    try:
        layers = [name for name in rows[0] if name.startswith(prefix)]
        recalls = {
            name.removeprefix(prefix): np.array([float(row[name]) for row in rows], dtype=np.float64)
            for name in layers
        }
        return [row["word"] for row in rows], recalls
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path}: must be the table that fairseq-vgs evaluate lexical wrote, got {error!r}; run it again"
        ) from error


def word_rows(models: Mapping[str, Mapping[str, LexicalResult]]) -> tuple[list[str], Sequence[Sequence[Any]]]:
    """Return header and rows of a table of every word's recall (0..1), a column per model and layer."""
    columns = {
        f"{model}/{layer}": result.by_word
        for model, layers in models.items()
        for layer, result in layers.items()
    }
    words = list(next(iter(columns.values())))
    return ["word", *columns], [[word, *(by_word[word] for by_word in columns.values())] for word in words]
