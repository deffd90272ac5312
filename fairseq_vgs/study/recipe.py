"""The settings of a study's models, read from a checkpoint, and how they differ from the paper's.

The paper is Khorrami et al. (2023); what it leaves open follows the authors' public code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairseq_vgs.checkpoints.load import CheckpointError, read_config, section

# (section, setting, words, the paper's value)
_SETTINGS: tuple[tuple[str, str, str, Any], ...] = (
    ("criterion", "vgs_loss", "VGS loss", "masked_margin"),
    ("criterion", "similarity", "similarity of embeddings", "dot"),
    ("model", "vgs_forward", "speech that VGS reads in training", "masked"),
    ("model", "speech_head", "speech head", "resdavenet"),
    ("model", "image_encoder", "image encoder", "regions"),
    ("model", "encoder_layers", "transformer layers", 12),
    ("model", "vgs_layer", "of them shared by both losses", 8),
    ("model", "encoder_embed_dim", "dims of a layer", 768),
    ("model", "embed_dim", "dims of an embedding", 768),
    ("model", "image_layers", "image transformer layers", 6),
    ("model", "mask_prob", "share of frames masked", 0.65),
    ("model", "mask_length", "frames per masked span", 10),
    ("model", "num_negatives", "negatives of the SSL loss", 100),
    ("model", "dropout", "dropout", 0.1),
    ("dataset", "batch_size", "pairs per batch", 64),
    ("optimization", "lr", "learning rate", [0.0001]),
)


def read_recipe(runs: Iterable[Path]) -> dict[str, Any]:
    """Read the settings ("section.setting" -> value) from the first readable checkpoint of some run folders.

    All runs of a study share them; empty without a readable checkpoint.
    """
    for path in (path for run in runs for path in sorted((run / "checkpoints").glob("checkpoint*.pt"))):
        try:
            config = read_config(path)
        except CheckpointError:  # half written by a running study; the report is still made
            continue
        known = ((part, name, section(config, part)) for part, name, _, _ in _SETTINGS)
        return {f"{part}.{name}": values[name] for part, name, values in known if name in values}
    return {}


def shown(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """List settings as (words, value), with the paper's value where it differs."""
    for key, words, value, papers in _known(recipe):
        yield f"{words} ({key})", value if value == papers else f"{value}; the paper: {papers}"


def recipe_words(recipe: Mapping[str, Any]) -> str:
    """Say in one sentence how model and losses differ from the paper's."""
    known = list(_known(recipe))
    if not known:
        return "How the model differs from the paper's is unknown: there is no checkpoint to read it from."
    different = [
        f"{words} {value} (the paper: {papers})" for _, words, value, papers in known if value != papers
    ]
    if not different:
        return "Model and losses are the paper's in all settings listed under “What was run”."
    return f"Model and losses are not the paper's: {', '.join(different)}."


def _known(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, words, value and the paper's value of the settings that a recipe has."""
    for part, name, words, papers in _SETTINGS:
        if (key := f"{part}.{name}") in recipe:
            yield key, words, _text(recipe[key]), _text(papers)


def _text(value: Any) -> str:
    entries = value if isinstance(value, list | tuple) else [value]
    return " ".join(f"{entry:g}" if isinstance(entry, int | float) else str(entry) for entry in entries)
