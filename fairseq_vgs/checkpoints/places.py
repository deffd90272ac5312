"""Where a model is, looked at before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

EXPORTED_WEIGHTS, EXPORTED_CONFIG = "model.safetensors", "config.json"


def is_export(path: Path) -> bool:
    """Return whether a path is a folder as Hugging Face has them, such as ``fairseq-vgs export`` writes."""
    return (path / EXPORTED_CONFIG).is_file() and (path / EXPORTED_WEIGHTS).is_file()


def model_file(path: Path) -> Path:
    """Return the file with a model's weights: of an exported folder, that in it; else the path itself."""
    return path / EXPORTED_WEIGHTS if is_export(path) else path


def needs_fairseq(path: Path) -> bool:
    """Return whether the model in a file is loaded by fairseq."""
    return path.name != EXPORTED_WEIGHTS
