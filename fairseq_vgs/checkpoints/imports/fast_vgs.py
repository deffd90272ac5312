"""Dual encoders of FaST-VGS, FaST-VGS+ and VGS+, converted.

Source: Peng & Harwath 2022 (two papers), Khorrami et al. 2023, and their public code (FaST-VGS-Family and
scheduled_VGS_plus). A converted model gives the embeddings, layer features and losses of the authors' code on
the same input, padding included: see docs/exactness.md.

The trainer saves a dictionary, ``best_bundle.pth``: ``dual_encoder`` (weights), ``optimizer``, ``indices``
and ``libri_indices`` (order of the data); FaST-VGS's also holds ``cross_encoder``. The settings of its
command line are in ``args.pkl`` next to it.
"""

from __future__ import annotations

import argparse
import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fairseq_vgs.checkpoints.imports.fast_vgs_model import (
    NEW_WEIGHTS,
    SCRIPT_SETTINGS,
    authors_name,
    criterion_settings,
    model_settings,
    task_settings,
    unused_reason,
)
from fairseq_vgs.checkpoints.imports.paths import ImportFileError, prepare_import
from fairseq_vgs.checkpoints.load import build_untrained, mismatches, named, no_tensors, read_pickle
from fairseq_vgs.checkpoints.save import ImportedModel, with_overrides, write_import

logger = logging.getLogger(__name__)

DUAL_ENCODER = "dual_encoder"
UNUSED_ENTRIES: Mapping[str, str] = {
    "optimizer": "moments of the authors' optimizer; a run that starts from these weights has its own",
    "indices": "order of the data in the interrupted epoch",
    "libri_indices": "order of LibriSpeech in the interrupted epoch",
    "cross_encoder": "the slow second ranking of FaST-VGS, which VGS+ and this plugin do not use",
}
"""Entries of a bundle that are left out, and why."""

_PARALLEL = "module."  # put before every name by torch's DataParallel
SETTINGS_FILE = "args.pkl"
_WHOLE = "give a bundle as the trainer saved it"


def import_fast_vgs(
    bundle: Path,
    output: Path,
    *,
    settings_file: Path | None = None,
    overrides: Sequence[str] = (),
    force: bool = False,
) -> ImportedModel:
    """Convert a bundle of the authors' trainer, and write a model group, ``model/NAME.yaml``, next to it.

    Args:
        bundle: ``best_bundle.pth`` or another bundle.
        output: the checkpoint to write.
        settings_file: the run's ``args.pkl``; if None, the one next to the bundle or, if there is none, the
            settings of the authors' script.
        overrides: ``key=value`` of our model, over the bundle's settings.
        force: replace existing files; without it, they are refused (``FileExistsError``).

    Raises:
        ImportFileError: a file cannot be read as data, or weights (all named) do not fit the model.
    """
    output = prepare_import(output, force=force)
    weights, unused_entries = load_dual_encoder(bundle)
    theirs = _authors_settings(bundle, settings_file)
    settings = with_overrides(model_settings(weights, theirs, bundle), overrides, bundle)
    model, unused = converted_model(weights, settings, bundle)
    reasons = {name: unused_reason(name) or "" for name in unused}
    reasons |= {name: UNUSED_ENTRIES[name] for name in unused_entries}
    for name, reason in reasons.items():
        logger.info("left out: %s (%s)", name, reason)
    return write_import(
        output,
        model,
        model_settings=settings,
        task_settings=task_settings(theirs),
        criterion_settings=criterion_settings(theirs),
        origin={"format": "fast-vgs", "source": bundle.name, "dropped": reasons},
        images={"reads": "regions", "format": "fast-vgs", "dims": settings["image_dim"]},
        force=force,
    )


def converted_model(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], bundle: Path
) -> tuple[nn.Module, list[str]]:
    """Build our model with the authors' weights; return it and the names of those left out on purpose.

    Raises:
        ImportFileError: a weight is missing, has no place, or has another shape; all are named.
    """
    model = build_untrained(settings, seed=0, path=bundle)
    state = model.state_dict()
    blocks = int(settings["speech_head_blocks"])
    places = {authors_name(key, blocks_per_stage=blocks): key for key in state if key not in NEW_WEIGHTS}
    unused = sorted(name for name in weights if name not in places and unused_reason(name))
    reshaped = [
        f"{name} {tuple(weights[name].shape)} for {tuple(state[key].shape)}"
        for name, key in places.items()
        if name in weights and _without_singletons(weights[name]) != _without_singletons(state[key])
    ]
    unexpected = weights.keys() - places.keys() - set(unused)
    if text := mismatches(places.keys() - weights.keys(), unexpected, reshaped):
        step = f"{_WHOLE}, with the {SETTINGS_FILE} of its own run"
        message = f"weights must fit the dual encoder key by key, got {text}; {step}"
        raise ImportFileError.at(bundle, message, "import.mismatch")
    # The authors' convolutions over time are two-dimensional, and their CLS vectors have three axes.
    found = {
        key: weights[name].to(state[key].dtype).reshape(state[key].shape) for name, key in places.items()
    }
    model.load_state_dict({**state, **found}, strict=True)
    logger.info("%s: %d tensors matched, %d left out", bundle, len(found), len(unused))
    return model, unused


def _authors_settings(bundle: Path, settings_file: Path | None) -> dict[str, Any]:
    """Read the run's command line; say which settings it lacks."""
    path = settings_file or bundle.parent / SETTINGS_FILE
    if settings_file is None and not path.exists():
        logger.warning("%s is missing: settings are those of the authors' script for VGS+", path)
        return {}
    settings = load_settings(path)
    if absent := sorted(SCRIPT_SETTINGS.keys() - settings.keys()):
        logger.warning("%s lacks %s: as in the authors' script for VGS+", path, named(absent))
    return settings


def _without_singletons(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]


def load_dual_encoder(bundle: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read a bundle's weights, under the authors' names, and which of ``UNUSED_ENTRIES`` it has.

    Raises:
        ImportFileError: the file cannot be read as data, has no dual encoder, or has an unknown entry.
    """
    state = read_pickle(bundle, ImportFileError)
    if not isinstance(state, Mapping) or not isinstance(state.get(DUAL_ENCODER), Mapping):
        step = "give a bundle that the FaST-VGS or VGS+ trainer saved, such as best_bundle.pth"
        message = f"must hold the entry {DUAL_ENCODER}, a table of weights, got none; {step}"
        raise ImportFileError.at(bundle, message, "import.entry")
    if strangers := sorted(str(key) for key in state if key != DUAL_ENCODER and key not in UNUSED_ENTRIES):
        entries = f"{DUAL_ENCODER} and any of {', '.join(UNUSED_ENTRIES)}"
        message = f"entries must be {entries}, got {named(strangers)} as well; {_WHOLE}"
        raise ImportFileError.at(bundle, message, "import.unknown")
    weights = {str(key): value for key, value in state[DUAL_ENCODER].items()}
    if wrong := no_tensors(weights):
        message = f"weights must be tensors, got something else for {wrong}; {_WHOLE}"
        raise ImportFileError.at(bundle, message, "import.weights")
    if weights and all(key.startswith(_PARALLEL) for key in weights):
        weights = {key.removeprefix(_PARALLEL): value for key, value in weights.items()}
    return weights, [key for key in UNUSED_ENTRIES if key in state]


def load_settings(path: Path) -> dict[str, Any]:
    """Read ``args.pkl``, the pickled command line of the run; no class but its own is built.

    Raises:
        ImportFileError: ``file.missing``, ``import.unreadable`` or ``import.kind``.
    """
    try:
        with path.open("rb") as file:
            settings = _SettingsUnpickler(file).load()
    except FileNotFoundError:
        raise ImportFileError.at(path, "file must exist; check the path", "file.missing") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError) as error:
        step = "copy it again, and load no file that you do not trust in any other way"
        message = f"must be the args.pkl of the run, could not be read ({error}); {step}"
        raise ImportFileError.at(path, message, "import.unreadable") from error
    if not isinstance(settings, argparse.Namespace):
        kind, step = type(settings).__name__, "give the file next to the bundle"
        message = f"must be the args.pkl of the run, a Namespace, got {kind}; {step}"
        raise ImportFileError.at(path, message, "import.kind")
    return dict(vars(settings))


class _SettingsUnpickler(pickle.Unpickler):
    """Unpickles plain values in a Namespace; every other class or function, and so all code, is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("argparse", "Namespace"):
            return argparse.Namespace
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not a plain value")
