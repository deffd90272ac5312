"""Read, check, crop and normalize utterances.

Shapes: S samples at 16 kHz, mono.
"""

from __future__ import annotations

import numpy as np

from fairseq_vgs.arrays import F32
from fairseq_vgs.data.bad_items import bad_item
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.sound import decode_part

_NORM_EPSILON = 1e-5  # of torch's layer_norm, which fairseq applies to waveforms


def load_waveform(
    location: MediaLocation, *, place: str, n_samples: int, start: int = 0, n_wanted: int | None = None
) -> F32:
    """Read and check an utterance, or a part of it, as ``decode_part``: float32[S]. Raises BadItemError."""
    try:
        return decode_part(location, n_samples=n_samples, place=place, start=start, n_wanted=n_wanted)
    except MediumError as error:
        raise bad_item(error) from error


def normalize_waveform(waveform: F32) -> F32:
    """Normalize an utterance to zero mean and unit variance, like torch's ``layer_norm`` over all samples.

    A silent part becomes zeros, up to rounding.
    """
    centred = waveform - waveform.mean(dtype=np.float64).astype(np.float32)
    variance = np.mean(np.square(centred, dtype=np.float64))
    normalized: F32 = centred * np.float32(1.0 / np.sqrt(variance + _NORM_EPSILON))
    return normalized
