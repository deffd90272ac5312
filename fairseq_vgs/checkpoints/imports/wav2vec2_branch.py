"""A wav2vec 2.0 read from another program's file, in fairseq's names; and the safe reading of such files."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairseq_vgs.checkpoints.save import ImportFileError
from fairseq_vgs.compat import fixes as fairseq_fixes
from fairseq_vgs.media.rates import SAMPLE_RATE

# torch's newer weight normalisation and, behind it, the names of the older one, which fairseq uses
_WEIGHT_NORM = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}


@dataclass(frozen=True)
class SpeechBranch:
    """What a file says about wav2vec 2.0.

    Attributes:
        source: the file or folder.
        settings: fields of fairseq's ``Wav2Vec2Config`` that the file fixes; the others keep their defaults.
        weights: fp32, under fairseq's names.
        normalize: whether its speech was brought to zero mean and unit variance; None if not said.
        dropped: weights of the file that have no place in the model -> the reason.
        fresh: (beginnings of) names of weights that the file lacks, which are drawn anew -> the reason.
        notes: settings of the file that were not taken over, one sentence each.
    """

    source: Path
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    normalize: bool | None
    dropped: Mapping[str, str]
    fresh: Mapping[str, str]
    notes: tuple[str, ...]


def load_pickle(path: Path) -> Any:
    """Read tensors, plain containers and settings of a torch file; nothing in it is run.

    Raises:
        ImportFileError: the file is missing or broken, or holds anything else.
    """
    fairseq_fixes.allow_checkpoint_classes()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ImportFileError(f"{path}: file must exist; check the path") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise ImportFileError(
            f"{path}: must be a torch file of tensors and plain settings, could not be read ({reason}); "
            "download it again, and load no file that you do not trust in any other way"
        ) from error


def plain_weights(found: Any, path: Path) -> dict[str, Tensor]:
    """Check a state dict and bring it to fp32 and to the older names of normalised weights.

    Raises:
        ImportFileError: it is no mapping of names to tensors.
    """
    if not isinstance(found, Mapping):
        raise ImportFileError(
            f"{path}: weights must be a table of tensors, got {type(found).__name__}; "
            "give a file with weights"
        )
    strangers = [str(key) for key, value in found.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ImportFileError(
            f"{path}: weights must be tensors, got something else for {named(strangers)}; "
            "give a file with weights"
        )
    return {_plain_name(key): value.float() for key, value in found.items()}


def check_sample_rate(rate: Any, path: Path) -> None:
    """Refuse a model of speech at another sampling rate; None means that the file does not say."""
    if rate is not None and rate != SAMPLE_RATE:
        raise ImportFileError(
            f"{path}: sampling rate must be {SAMPLE_RATE} Hz, as the plugin's data, got {rate}; "
            "give a model of 16 kHz speech"
        )


def named(names: list[str]) -> str:
    """Count and list names."""
    return f"{len(names)} ({', '.join(names)})"


def _plain_name(key: str) -> str:
    for new, old in _WEIGHT_NORM.items():
        if key.endswith(new):
            return key.removesuffix(new) + old
    return key
