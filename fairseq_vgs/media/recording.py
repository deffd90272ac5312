"""Reads recordings as corpora hold them, sees whether they can be used, and converts them.

Everything is decoded to its end: a header is only a promise. Decoded sound is mono float64, full scale = 1.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import scipy
import soundfile
from numpy.typing import NDArray

from fairseq_vgs.files.faults import shown
from fairseq_vgs.media.audio import AudioError, Samples, encode_flac, read_samples, resample
from fairseq_vgs.media.inspection import SILENCE_AMPLITUDE
from fairseq_vgs.media.medium import MediumError
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.media.wav_header import wrong_length

FULL_SCALE = 32768.0
SILENT_RANGE = round(2 * SILENCE_AMPLITUDE * FULL_SCALE)


@dataclass(frozen=True)
class Sound:
    """A decoded recording: float64 samples [S], rate in Hz."""

    samples: Samples
    rate: int


def header_rate(path: Path) -> int | None:
    """Returns the sample rate in a recording's header, in Hz, or None where it cannot be read."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            return int(file.samplerate)
    except (OSError, RuntimeError, ValueError, TypeError):
        return None


def decode(content: bytes) -> Sound:
    """Decodes a recording, given as its file's bytes, to its end and averages its channels.

    Raises:
        MediumError: the file is empty, does not decode, is shorter or longer than its header says or longer
            than ``MAX_SAMPLES``, is silent, or holds NaN or infinite samples.
    """
    if not content:
        raise MediumError("empty file")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, promised = int(file.samplerate), int(file.frames)
            samples = read_samples(file)
    except AudioError as error:
        raise MediumError(str(error)) from error
    except (OSError, RuntimeError, ValueError, TypeError) as error:  # soundfile's derive from RuntimeError
        raise MediumError("unreadable speech", shown(str(error))) from error
    _check_length(content, len(samples), promised)
    _check_samples(samples)
    return Sound(samples, rate)


def _check_length(content: bytes, n_samples: int, promised: int) -> None:
    reason = "header with a wrong length"
    if found := wrong_length(content):
        raise MediumError(reason, found)
    if n_samples != promised:
        raise MediumError(reason, f"a header that says {promised} samples where {n_samples} can be decoded")
    if n_samples == 0:
        raise MediumError("empty speech")


def _check_samples(samples: Samples) -> None:
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite(low + high):
        raise MediumError("speech with NaN or infinite samples")
    if (high - low) / 2 <= SILENCE_AMPLITUDE:
        raise MediumError("silent speech")


def to_flac(sound: Sound) -> tuple[bytes, int]:
    """Returns a recording as 16 kHz mono 16-bit FLAC, and its length in samples.

    Sound of 16 bits at 16 kHz is kept bit by bit. What would exceed full scale is scaled down as a whole.

    Raises:
        MediumError: nothing audible is left of it.
    """
    samples = sound.samples if sound.rate == SAMPLE_RATE else _resample(sound)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > 1.0:
        samples = samples / peak
    integers = _to_integers(samples)
    if len(integers) == 0 or int(integers.max()) - int(integers.min()) <= SILENT_RANGE:
        raise MediumError("silent speech")
    return encode_flac(integers), len(integers)


def _to_integers(samples: Samples) -> NDArray[np.int16]:
    # 32768, by which libsndfile divides, and not 32767: 16-bit sound then comes back unchanged.
    return np.clip(np.rint(samples * FULL_SCALE), -32768, 32767).astype(np.int16)


def _resample(sound: Sound) -> Samples:
    if soxr := _soxr():
        return np.asarray(soxr.resample(sound.samples, sound.rate, SAMPLE_RATE), dtype=np.float64)
    return resample(sound.samples, sound.rate)


@cache
def _soxr():  # type: ignore[no-untyped-def]  # the module, or None
    try:
        import soxr
    except (ImportError, OSError, RuntimeError):
        return None
    return soxr


def resampler() -> str:
    """Returns name and version of what resamples here: soxr where it is installed, else scipy."""
    soxr = _soxr()
    return f"soxr {soxr.__version__}" if soxr else f"scipy {scipy.__version__}"
