"""An exported folder, perhaps trained on elsewhere, as a checkpoint again.

Only settings and weights are read; none of the folder's code is run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fairseq_vgs.checkpoints.exports.convert import PRETRAINING, model_settings_of, our_weights
from fairseq_vgs.checkpoints.exports.folder import PRETRAINING_NAME
from fairseq_vgs.checkpoints.exports.load import MODEL_TYPE
from fairseq_vgs.checkpoints.imports.paths import ImportFileError, prepare_import
from fairseq_vgs.checkpoints.imports.wav2vec2_hf import load_safetensors
from fairseq_vgs.checkpoints.load import build_untrained, mismatches
from fairseq_vgs.checkpoints.places import EXPORTED_CONFIG, EXPORTED_WEIGHTS
from fairseq_vgs.checkpoints.save import ImportedModel, with_overrides, write_import
from fairseq_vgs.files.output import EXPORT_NAME
from fairseq_vgs.files.texts import read_object

logger = logging.getLogger(__name__)

_DOWNLOAD = "download or export the folder again"
_NOT_SAVED = "the folder holds no weights of the self-supervised loss"


def import_hub(
    folder: Path, output: Path, *, settings: Sequence[str] = (), seed: int = 1, force: bool = False
) -> ImportedModel:
    """Write an exported folder as a checkpoint, and ``model/NAME.yaml`` next to it.

    Args:
        folder: a folder of ``fairseq-vgs export``, or what ``save_pretrained`` made of its model.
        output: the checkpoint to write.
        settings: ``key=value`` of our model, over the folder's.
        seed: of weights of the self-supervised loss, where the folder has none.
        force: replace existing files; without it, they are refused (``FileExistsError``).

    Raises:
        ImportFileError: the folder is not one of these, or weights (all named) do not fit its settings.
    """
    output = prepare_import(output, force=force)
    config = read_object(folder / EXPORTED_CONFIG, _DOWNLOAD, error=ImportFileError)
    if config.get("model_type") != MODEL_TYPE:
        message = (
            f"model_type must be {MODEL_TYPE}, got {config.get('model_type')!r}; give an exported folder"
        )
        raise ImportFileError.at(folder / EXPORTED_CONFIG, message, "import.kind")
    record_path = folder / EXPORT_NAME
    record = read_object(record_path, _DOWNLOAD, error=ImportFileError) if record_path.is_file() else {}
    before = {key: value for key, value in _part(record, "model").items() if key != "_name"}
    try:
        known = {**before, **model_settings_of(config)}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"settings must be those of an exported model, got {error!r}; {_DOWNLOAD}"
        raise ImportFileError.at(folder / EXPORTED_CONFIG, message, "import.settings") from error
    given = with_overrides(known, settings, folder)
    task = {key: value for key, value in _part(record, "task").items() if key != "_name"}
    return write_import(
        output,
        _filled(folder, given, seed=seed),
        model_settings=given,
        task_settings={**task, "normalize": bool(config.get("normalize", True))},
        criterion_settings={"similarity": str(config.get("similarity", "dot"))},
        images=_part(record, "images"),
        origin={"format": "hub", "source": folder.name, "seed": seed},
        force=force,
    )


def _filled(folder: Path, settings: Mapping[str, Any], *, seed: int) -> Any:
    """Build the model and put the folder's weights into it."""
    path, extra = folder / EXPORTED_WEIGHTS, folder / PRETRAINING_NAME
    if not path.is_file():
        message = f"must hold {EXPORTED_WEIGHTS}, got none; {_DOWNLOAD}"
        raise ImportFileError.at(folder, message, "file.missing")
    weights: dict[str, Tensor] = our_weights(load_safetensors(path))
    weights |= our_weights(load_safetensors(extra)) if extra.is_file() else {}
    model = build_untrained(settings, seed=seed, path=path, files=[folder])
    state = model.state_dict()
    drawn = [] if extra.is_file() else [name for name in state if name.startswith(PRETRAINING)]
    if drawn:
        logger.warning("drawn with seed %d: %d tensors (%s)", seed, len(drawn), _NOT_SAVED)
    reshaped = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(state[name].shape)}"
        for name in state.keys() & weights.keys()
        if weights[name].shape != state[name].shape
    ]
    missing = state.keys() - weights.keys() - set(drawn)
    if text := mismatches(missing, weights.keys() - state.keys(), reshaped):
        message = f"weights must fit config.json key by key, got {text}; {_DOWNLOAD}"
        raise ImportFileError.at(path, message, "import.mismatch")
    model.load_state_dict({**state, **weights}, strict=True)
    return model


def _part(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = record.get(name)
    return dict(found) if isinstance(found, Mapping) else {}
