"""Every saved checkpoint of a run, measured in one go: retrieval and phone ABX over training.

One pair of files per checkpoint, named by its updates; an interrupted evaluation goes on where it was:

```
<updates>.json   figures, pool sizes, what was left out, hashes
<updates>.npz    per-item arrays, so that intervals and paired differences can be computed later
```

The arrays (``C`` captions, ``I`` images, ``L`` layers, ``O`` ordered phone pairs, ``P`` phones):

```
speech_to_image_ranks  f64[C]    rank of the right picture, ties counted half
speech_groups          i64[C]    image group of every caption
image_to_speech_ranks  f64[I]    rank of the best right caption
image_groups           i64[I]    image group of every picture that has a caption
abx_layers             str[L]    "layer_1", ...: outputs of the transformer layers
abx_errors             f64[L, O] error of every ordered phone pair, 0..1
abx_phones             i64[O, 2] numbers of the pair's two phones
abx_phone_names        str[P]    the phones, by number
```

With ABX across speakers, figures have ``abx_across`` beside ``abx``, arrays ``abx_across_layers`` and so on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fairseq_vgs.evaluation import abx_results, extraction, retrieval
from fairseq_vgs.evaluation.abx import AbxResult, abx_scores, pair_errors, read_items
from fairseq_vgs.evaluation.abx.plan import require_speakers
from fairseq_vgs.evaluation.checkpoints import Checkpoint, load_checkpoint
from fairseq_vgs.evaluation.phone_bootstrap import numbered_phones
from fairseq_vgs.evaluation.phone_features import MFCC_FRAME_RATE, layer_features, mfcc_features
from fairseq_vgs.evaluation.recordings import open_recordings
from fairseq_vgs.evaluation.report import Pool, chance_figures
from fairseq_vgs.evaluation.results import ALWAYS, machine, manifest_hashes, sha256_file, versions
from fairseq_vgs.evaluation.run_checkpoints import checkpoints_of
from fairseq_vgs.evaluation.run_figures import ABX_KEYS, SCHEMA_VERSION, Arrays, read_figures
from fairseq_vgs.manifest.atomic import atomic_write

logger = logging.getLogger(__name__)

# ZeroSpeech's draws.
_ABX_PROTOCOL: Mapping[str, Any] = {
    "context": "within",
    "distance": "angular",
    "max_size_group": 10,
    "max_x_across": 5,
    "seed": 1,
}


@dataclass(frozen=True)
class Measurement:
    """On what the checkpoints of a run are measured.

    Attributes:
        data: manifest folder of the retrieval.
        split: split of it.
        abx: folder with the recordings of the ABX items; None: no ABX.
        abx_items: item file in ``abx``.
        device: where models run.
    """

    data: Path
    split: str = "test"
    abx: Path | None = None
    abx_items: str = "triphone.item"
    abx_speakers: tuple[str, ...] = ("within",)
    device: str = "cpu"


def evaluate_run(
    run: Path,
    measurement: Measurement,
    output: Path,
    *,
    every: int,
    untrained_seed: int | None = None,
) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Measure the checkpoints of a run that have no figures in ``output`` yet.

    Figures made from another checkpoint, other data or another protocol are made anew.

    Args:
        run: run folder of fairseq-hydra-train.
        measurement: on what.
        output: folder of the figures.
        every: updates between the checkpoints that are measured.
        untrained_seed: also measure, as update 0, the same model with weights drawn from this seed, and MFCC.

    Yields:
        (updates, figures, checkpoints in all) of each, as soon as it is measured.

    Raises:
        CheckpointError, ManifestError, AbxError: a checkpoint or data that cannot be used, or ABX items that
            cannot be compared across speakers.
    """
    if measurement.abx is not None:
        path = measurement.abx / measurement.abx_items
        require_speakers(read_items(path), measurement.abx_speakers, place=str(path))
    found = checkpoints_of(run, every=every)
    tasks: list[tuple[int, Path]] = list(found.items())
    if untrained_seed is not None:
        tasks.insert(0, (0, tasks[0][1]))
    sources = _sources(measurement)
    for updates, path in tasks:
        seed = untrained_seed if updates == 0 else None
        checkpoint = {"file": path.name, "sha256": sha256_file(path), "untrained_seed": seed}
        made_from = {"checkpoint": checkpoint, **sources}
        figures = read_figures(output / f"{updates}.json")
        if figures is None or figures.get("made_from") != made_from:
            figures, arrays = measure(load_checkpoint(path, untrained_seed=seed), measurement)
            if updates == 0 and measurement.abx is not None and "within" in measurement.abx_speakers:
                figures["baselines"] = {"mfcc": _mfcc_error(measurement)}
            figures |= {"made_from": made_from, "versions": versions(), "machine": machine()}
            _write(output / str(updates), figures, arrays)
        yield updates, figures, len(tasks)


def measure(checkpoint: Checkpoint, measurement: Measurement) -> tuple[dict[str, Any], Arrays]:
    """Measure one model: figures as plain data, and the per-item arrays behind them."""
    figures: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    figures["retrieval"], arrays = _retrieval(checkpoint, measurement)
    if measurement.abx is not None:
        folder = measurement.abx
        features = layer_features(checkpoint, open_recordings(folder), device=measurement.device)

        def transformer_layers(name: str) -> dict[str, Tensor]:
            return {layer: frames for layer, frames in features(name).items() if layer != "layer_0"}

        items = read_items(folder / measurement.abx_items)
        for speaker in measurement.abx_speakers:  # features anew: those of a whole corpus are not kept
            protocol = {"speaker": speaker, **_ABX_PROTOCOL}
            found = abx_scores(transformer_layers, items, device=measurement.device, **protocol)
            key = ABX_KEYS[speaker]
            figures[key], abx_arrays = _abx(found, protocol)
            arrays |= {f"{key}_{name}": array for name, array in abx_arrays.items()}
    return figures, arrays


def _retrieval(checkpoint: Checkpoint, measurement: Measurement) -> tuple[dict[str, Any], Arrays]:
    split = extraction.open_split(measurement.data, measurement.split, config=checkpoint.config)
    embeddings = extraction.embed_split(checkpoint.model, split, device=measurement.device)
    pool = Pool(split.speech_groups, split.image_groups)
    ranks = retrieval.retrieval_ranks(
        embeddings.speech,
        embeddings.images,
        speech_groups=pool.speech_groups,
        image_groups=pool.image_groups,
        similarity=checkpoint.similarity,
    )
    figures: dict[str, Any] = {"split": measurement.split, "pool": pool.as_json(), **retrieval.recalls(ranks)}
    arrays: Arrays = {}
    for direction, side in zip(retrieval.DIRECTIONS, ("speech", "image"), strict=True):
        found = ranks.direction(direction)
        found = found[np.isfinite(found)]
        figures[f"{direction}_mrr"] = retrieval.mean_reciprocal_rank(found)
        figures[f"{direction}_median_rank"] = retrieval.median_rank(found)
        arrays[f"{direction}_ranks"] = found
        arrays[f"{side}_groups"] = pool.sides(direction)[0]
    figures["chance"] = chance_figures(pool)
    certain = [name for name in retrieval.recalls(ranks) if figures["chance"][name] >= 100.0]
    if certain:
        figures["notes"] = dict.fromkeys(certain, ALWAYS)
    return figures, arrays


def _abx(found: Mapping[str, AbxResult], protocol: Mapping[str, Any]) -> tuple[dict[str, Any], Arrays]:
    first = next(iter(found.values()))
    names, phones = numbered_phones(first.cells.pairs)
    figures = {
        "error": {layer: 100.0 * result.error for layer, result in found.items()},
        "chance": abx_results.CHANCE,
        "protocol": protocol,
        "counts": asdict(first.counts),
    }
    arrays: Arrays = {
        "layers": np.array(list(found)),
        "errors": np.stack([pair_errors(first.cells, result.cell_errors) for result in found.values()]),
        "phones": phones,
        "phone_names": np.array(names),
    }
    return figures, arrays


def _sources(measurement: Measurement) -> dict[str, Any]:
    """Return what figures depend on besides the checkpoint: hashes by file name, and the ABX protocol."""
    sources: dict[str, Any] = {"data": manifest_hashes(measurement.data, measurement.split)}
    if measurement.abx is not None:
        items = measurement.abx / measurement.abx_items
        for speaker in measurement.abx_speakers:
            sources[ABX_KEYS[speaker]] = {
                "protocol": {"speaker": speaker, **_ABX_PROTOCOL},
                "items": {items.name: sha256_file(items)},
            }
    return sources


def _mfcc_error(measurement: Measurement) -> float:
    folder = measurement.abx
    if folder is None:
        raise ValueError("measurement.abx must be a folder")
    features = mfcc_features(open_recordings(folder))
    items = read_items(folder / measurement.abx_items)
    found = abx_scores(features, items, frame_rate=MFCC_FRAME_RATE, speaker="within", **_ABX_PROTOCOL)
    return 100.0 * next(iter(found.values())).error


def _write(stem: Path, figures: Mapping[str, Any], arrays: Arrays) -> None:
    """Write the arrays first: figures on disk say that both are."""
    with atomic_write(stem.with_name(f"{stem.name}.npz"), force=True, mode="wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    with atomic_write(stem.with_name(f"{stem.name}.json"), force=True) as file:
        file.write(json.dumps(figures, indent=1, allow_nan=False) + "\n")
