"""Reading what the authors' trainer saved: ``best_bundle.pth`` and ``args.pkl``, as data.

The trainer saves a dictionary: ``dual_encoder`` (weights), ``optimizer``, ``indices`` and ``libri_indices``
(order of the data), and FaST-VGS's also ``cross_encoder``. The command line's settings lie beside it, in
``args.pkl``.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fairseq_vgs.checkpoints.imports.wav2vec2_branch import load_pickle, named
from fairseq_vgs.checkpoints.save import ImportFileError

__all__ = ["UNUSED_ENTRIES", "load_dual_encoder", "load_settings"]

DUAL_ENCODER = "dual_encoder"
UNUSED_ENTRIES: Mapping[str, str] = {
    "optimizer": "moments of the authors' optimizer; a run that starts from these weights begins anew",
    "indices": "order of the data in the interrupted epoch",
    "libri_indices": "order of LibriSpeech in the interrupted epoch",
    "cross_encoder": "the slow second ranking of FaST-VGS, which VGS+ and this plugin do without",
}
"""Entries of a bundle that are left out, and why."""

_PARALLEL = "module."  # put before every name by torch's DataParallel


def load_dual_encoder(bundle: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read the weights of a bundle.

    Returns:
        The dual encoder's weights under the authors' names, and which of `UNUSED_ENTRIES` the file has.

    Raises:
        ImportFileError: the file cannot be read as data, has no dual encoder, or an entry that is not known.
    """
    state = load_pickle(bundle)
    if not isinstance(state, Mapping) or not isinstance(state.get(DUAL_ENCODER), Mapping):
        raise ImportFileError(
            f"{bundle}: must hold the entry {DUAL_ENCODER}, a table of weights, got none; give a bundle that "
            "the FaST-VGS or VGS+ trainer saved, such as best_bundle.pth"
        )
    strangers = sorted(str(key) for key in state if key != DUAL_ENCODER and key not in UNUSED_ENTRIES)
    if strangers:
        raise ImportFileError(
            f"{bundle}: entries must be {DUAL_ENCODER} and any of {', '.join(UNUSED_ENTRIES)}, got "
            f"{named(strangers)} besides; give a bundle as the trainer saved it"
        )
    weights = {str(key): value for key, value in state[DUAL_ENCODER].items()}
    no_tensors = [key for key, value in weights.items() if not isinstance(value, Tensor)]
    if no_tensors:
        raise ImportFileError(
            f"{bundle}: weights must be tensors, got something else for {named(no_tensors)}; give a bundle "
            "as the trainer saved it"
        )
    if weights and all(key.startswith(_PARALLEL) for key in weights):
        weights = {key.removeprefix(_PARALLEL): value for key, value in weights.items()}
    return weights, [key for key in UNUSED_ENTRIES if key in state]


def load_settings(path: Path) -> dict[str, Any]:
    """Read ``args.pkl``, the pickled command line of the run; no class but its own is built.

    Raises:
        ImportFileError: the file is missing or broken, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            settings = _SettingsUnpickler(file).load()
    except FileNotFoundError:
        raise ImportFileError(f"{path}: file must exist; check the path") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ImportFileError(
            f"{path}: must be the args.pkl of the run, could not be read ({error}); copy it again, and load "
            "no file that you do not trust in any other way"
        ) from error
    if not isinstance(settings, argparse.Namespace):
        raise ImportFileError(
            f"{path}: must be the args.pkl of the run, a Namespace, got {type(settings).__name__}; give the "
            "file that lies beside the bundle"
        )
    return dict(vars(settings))


class _SettingsUnpickler(pickle.Unpickler):
    """Unpickles plain values in a Namespace; every other class or function, and so all code, is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("argparse", "Namespace"):
            return argparse.Namespace
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is no plain value")
