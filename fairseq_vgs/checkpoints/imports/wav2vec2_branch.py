"""What an import needs of another program's wav2vec 2.0, and checks of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fairseq_vgs.checkpoints.imports.paths import ImportFileError
from fairseq_vgs.checkpoints.load import no_tensors
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
        normalize: whether its speech had zero mean and unit variance; None if unknown.
        notes: settings of the file that were not kept, one sentence each.
        dropped: weights of the file that have no place in the model -> the reason.
        fresh: (beginnings of) names of weights that the file lacks, which are drawn -> the reason.
    """

    source: Path
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    normalize: bool | None
    notes: tuple[str, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    fresh: Mapping[str, str] = field(default_factory=dict)


def plain_weights(found: Any, path: Path) -> dict[str, Tensor]:
    """Convert a state dict to fp32 and to the older names of normalised weights; refuse anything else.

    Raises:
        ImportFileError: ``import.weights``.
    """
    if not isinstance(found, Mapping):
        message = f"weights must be a table of tensors, got {type(found).__name__}; give a file with weights"
        raise ImportFileError.at(path, message, "import.weights")
    if wrong := no_tensors(found):
        message = f"weights must be tensors, got something else for {wrong}; give a file with weights"
        raise ImportFileError.at(path, message, "import.weights")
    return {_plain_name(key): value.float() for key, value in found.items()}


def check_sample_rate(rate: Any, path: Path) -> None:
    """Refuse a model of speech at another sampling rate; None means that the file does not say.

    Raises:
        ImportFileError: ``import.sample_rate``.
    """
    if rate is not None and rate != SAMPLE_RATE:
        message = f"sampling rate must be {SAMPLE_RATE} Hz, got {rate}; give a model of 16 kHz speech"
        raise ImportFileError.at(path, message, "import.sample_rate")


def _plain_name(key: str) -> str:
    return next((key.removesuffix(new) + old for new, old in _WEIGHT_NORM.items() if key.endswith(new)), key)
