"""Every saved checkpoint of a run, measured in one go: retrieval and phone ABX over training.

One pair of files per checkpoint, named by its updates; an interrupted evaluation goes on where it was.
Figures that were made from something else (``made_from``) are replaced on demand only:

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
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fairseq_vgs.checkpoints.load import Checkpoint, load_checkpoint, read_config, section
from fairseq_vgs.checkpoints.runs import checkpoints_of
from fairseq_vgs.evaluation import abx_results
from fairseq_vgs.evaluation.metrics import retrieval
from fairseq_vgs.evaluation.metrics.abx import AbxResult, abx_scores, pair_errors, read_items
from fairseq_vgs.evaluation.metrics.abx.plan import require_speakers
from fairseq_vgs.evaluation.metrics.phone_bootstrap import numbered_phones
from fairseq_vgs.evaluation.results import ALWAYS, manifest_hashes
from fairseq_vgs.evaluation.retrieval_figures import Pool, chance_figures
from fairseq_vgs.evaluation.run_figures import ABX_KEYS, SCHEMA_VERSION, Arrays, read_figures
from fairseq_vgs.features import embeddings as extraction
from fairseq_vgs.features.layers import MFCC_FRAME_RATE, layer_features, mfcc_features
from fairseq_vgs.features.recordings import NAMES_TABLE, open_recordings
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.provenance import machine, sha256_file, versions

logger = logging.getLogger(__name__)

# On these sections depend fresh weights, how speech is cut, and how embeddings are compared.
_SETTINGS = ("task", "criterion", "model")
_HASH_LENGTH, _HASH_LETTERS = 64, 12  # of SHA-256 in hexadecimal, and what is shown of it

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
    force: bool = False,
) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Measure the checkpoints of a run that have no figures in ``output`` yet.

    What was made from the same checkpoint, data and protocol is kept.

    Args:
        run: run folder of fairseq-hydra-train.
        measurement: on what.
        output: folder of the figures.
        every: updates between the checkpoints that are measured.
        untrained_seed: also measure, as update 0, the same model with weights drawn from this seed, and MFCC.
        force: make figures from something else anew, instead of refusing.

    Yields:
        (updates, figures, checkpoints in all) of each, as soon as it is measured.

    Raises:
        CheckpointError, FaultError, AbxError: a checkpoint or data that cannot be used, or ABX items that
            cannot be compared across speakers.
        FileExistsError: figures in ``output`` were made from something else; nothing is measured then.
    """
    if measurement.abx is not None:
        path = measurement.abx / measurement.abx_items
        require_speakers(read_items(path), measurement.abx_speakers, place=str(path))
    found = checkpoints_of(run, every=every)
    tasks: list[tuple[int, Path]] = list(found.items())
    if untrained_seed is not None:
        tasks.insert(0, (0, tasks[0][1]))
    sources = _sources(measurement)
    seeds = {updates: None if updates else untrained_seed for updates, _ in tasks}
    made_from = {
        updates: {"checkpoint": _checkpoint_source(path, untrained_seed=seeds[updates]), **sources}
        for updates, path in tasks
    }
    there = {updates: read_figures(output / f"{updates}.json") for updates, _ in tasks}
    if not force:
        _refuse_other_sources(output, there, made_from)
    for updates, path in tasks:
        figures = there[updates]
        if figures is None or figures.get("made_from") != made_from[updates]:
            figures, arrays = measure(load_checkpoint(path, untrained_seed=seeds[updates]), measurement)
            if updates == 0 and measurement.abx is not None and "within" in measurement.abx_speakers:
                error, counts = _mfcc(measurement)
                figures |= {"baselines": {"mfcc": error}, "baseline_counts": {"mfcc": counts}}
            figures |= {"made_from": made_from[updates], "versions": versions(), "machine": machine()}
            _write(output / str(updates), figures, arrays)
        yield updates, figures, len(tasks)


def measure(checkpoint: Checkpoint, measurement: Measurement) -> tuple[dict[str, Any], Arrays]:
    """Measure one model: figures as plain data, and the per-item arrays behind them."""
    figures: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    figures["retrieval"], arrays = _retrieval(checkpoint, measurement)
    if measurement.abx is not None:
        folder = measurement.abx
        features = layer_features(checkpoint, open_recordings(folder), device=measurement.device)

        # layer_0 is what a layer is given, not what one made of it: it is no candidate for the best layer.
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
        recordings = manifest_hashes(measurement.abx, "test")
        if (names := measurement.abx / NAMES_TABLE).is_file():
            recordings[names.name] = sha256_file(names)
        for speaker in measurement.abx_speakers:
            sources[ABX_KEYS[speaker]] = {
                "protocol": {"speaker": speaker, **_ABX_PROTOCOL},
                "items": {items.name: sha256_file(items)},
                "recordings": recordings,
            }
    return sources


def _checkpoint_source(path: Path, *, untrained_seed: int | None) -> dict[str, Any]:
    """Return what a model is made from: its file or, of fresh weights, the settings and the seed."""
    if untrained_seed is None:
        return {"file": path.name, "sha256": sha256_file(path), "untrained_seed": None}
    # Not the file: the run's first checkpoint may be another one by now, with the same settings.
    config = read_config(path)
    settings = json.dumps({name: section(config, name) for name in _SETTINGS}, sort_keys=True, default=str)
    return {"settings_sha256": sha256(settings.encode()).hexdigest(), "untrained_seed": untrained_seed}


def _refuse_other_sources(
    output: Path, there: Mapping[int, Mapping[str, Any] | None], made_from: Mapping[int, Mapping[str, Any]]
) -> None:
    """Raise FileExistsError, before the work, if figures were made from something else than they would be."""
    other = {
        updates: differing
        for updates, figures in there.items()
        if figures is not None
        and (differing := list(_differing(figures.get("made_from", {}), made_from[updates])))
    }
    if other:
        updates, differing = next(iter(other.items()))
        raise FileExistsError(
            f"{output / f'{updates}.json'}: already exists, and was made from something else "
            f"({'; '.join(differing)}); {len(other)} of {len(there)} results are such; pass --force to "
            "replace them, or another --output"
        )


def _differing(old: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for name in dict.fromkeys([*old, *now]):
        before, after = old.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differing(before, after, f"{within}{name} ")
        elif before != after:
            yield f"{within}{name}: {_brief(before)}, now {_brief(after)}"


def _brief(source: Any) -> str:
    if isinstance(source, Mapping):
        return "measured"
    text = "none" if source is None else str(source)
    return text[:_HASH_LETTERS] if len(text) == _HASH_LENGTH else text


def _mfcc(measurement: Measurement) -> tuple[float, dict[str, Any]]:
    """Return the error in percent, and what was compared: at MFCC's frame rate it can be more."""
    folder = measurement.abx
    if folder is None:
        raise ValueError("measurement.abx must be a folder")
    features = mfcc_features(open_recordings(folder))
    items = read_items(folder / measurement.abx_items)
    found = abx_scores(features, items, frame_rate=MFCC_FRAME_RATE, speaker="within", **_ABX_PROTOCOL)
    result = next(iter(found.values()))
    return 100.0 * result.error, asdict(result.counts)


def _write(stem: Path, figures: Mapping[str, Any], arrays: Arrays) -> None:
    """Write the arrays first: figures on disk say that both are."""
    with atomic_write(stem.with_name(f"{stem.name}.npz"), force=True, mode="wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    with atomic_write(stem.with_name(f"{stem.name}.json"), force=True) as file:
        file.write(json.dumps(figures, indent=1, allow_nan=False) + "\n")
