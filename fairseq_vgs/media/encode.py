"""Write sound: resampling, levels, FLAC and WAV. Samples are float64[S], mono, full scale = 1."""

from __future__ import annotations

import hashlib
import io
from functools import cache
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from fairseq_vgs.arrays import F32
from fairseq_vgs.media.errors import refuse_sound
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.media.sound import SILENCE_AMPLITUDE, Samples, Sound

I16 = npt.NDArray[np.int16]

PEAK_LIMIT = 0.95
"""Just below full scale, since lossy encoders may overshoot the original peak."""

SILENCE_RMS = 1e-3
"""Speech below this level (about -60 dB of full scale) is inaudible."""

CLIPPED_LEVEL = 0.995
FULL_SCALE = 32768.0


def resample(samples: Samples, rate: int, target_rate: int = SAMPLE_RATE) -> Samples:
    """Return the recording at another sample rate (in Hz), band-limited by a polyphase filter."""
    if rate == target_rate:
        return samples
    from scipy.signal import resample_poly  # slow to import

    divisor = gcd(rate, target_rate)
    return np.asarray(resample_poly(samples, target_rate // divisor, rate // divisor), dtype=np.float64)


def limit_peak(samples: Samples) -> Samples:
    """Scale down the whole recording if its peak is above ``PEAK_LIMIT``."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples * (PEAK_LIMIT / peak) if peak > PEAK_LIMIT else samples


def root_mean_square(samples: Samples) -> float:
    """Return the level of a recording; 0 for an empty one."""
    return float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0


def clipped_share(samples: Samples) -> float:
    """Return the share of samples at or beyond full scale."""
    return float(np.mean(np.abs(samples) >= CLIPPED_LEVEL)) if len(samples) else 0.0


def to_int16(samples: Samples) -> I16:
    """Round to 16 bits, so that floating-point differences between CPUs do not change an encoder's bytes."""
    return np.clip(np.rint(samples * 32767.0), -32768, 32767).astype(np.int16)


def content_hash(samples: Samples) -> str:
    """Return the SHA-256 of the recording's 16-bit samples, whatever its file format."""
    return hashlib.sha256(to_int16(samples).tobytes()).hexdigest()


def encode_flac(samples: Samples | I16) -> bytes:
    """Return a mono 16-bit FLAC file at ``SAMPLE_RATE``; 16-bit samples are kept as they are."""
    integers = samples if samples.dtype == np.int16 else to_int16(samples.astype(np.float64))
    return _encode(integers, SAMPLE_RATE, format="FLAC")


def encode_wav(sound: Sound) -> bytes:
    """Return a mono 16-bit WAV file at the recording's own rate."""
    return _encode(_to_integers(sound.samples), sound.rate, format="WAV")


def to_flac(sound: Sound, *, place: str = "the recording") -> tuple[bytes, int]:
    """Convert a recording to 16 kHz mono 16-bit FLAC; return it and its length in samples.

    16-bit sound at 16 kHz is kept bit by bit. A recording that exceeds full scale is scaled down as a whole;
    silence is refused.
    """
    integers = _converted(sound)
    silent_range = round(2 * SILENCE_AMPLITUDE * FULL_SCALE)
    if len(integers) == 0 or int(integers.max()) - int(integers.min()) <= silent_range:
        raise refuse_sound(place, "sound.silent", "nothing audible at 16 kHz and 16 bits")
    return encode_flac(integers), len(integers)


def as_prepared(sound: Sound) -> F32:
    """Return a recording as training reads it once prepared, float32[S] at 16 kHz.

    A recording at 16 kHz stays as it is; others are what ``to_flac`` writes.
    """
    if sound.rate == SAMPLE_RATE:
        return sound.samples.astype(np.float32)
    return np.asarray(_converted(sound) / np.float32(FULL_SCALE), dtype=np.float32)


def prepared_length(n_samples: int, rate: int) -> int:
    """Return how many samples ``as_prepared`` makes of a recording at ``rate`` Hz, without decoding it."""
    if rate == SAMPLE_RATE:
        return n_samples
    if _soxr():  # rounds; scipy rounds up
        return (2 * n_samples * SAMPLE_RATE + rate) // (2 * rate)
    return -(-n_samples * SAMPLE_RATE // rate)


def resampler() -> str:
    """Return name and version of the resampler: soxr if it is installed, otherwise scipy."""
    import scipy

    return f"soxr {soxr.__version__}" if (soxr := _soxr()) else f"scipy {scipy.__version__}"


def _encode(samples: npt.NDArray[Any], rate: int, **settings: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype="PCM_16", **settings)
    return buffer.getvalue()


def _converted(sound: Sound) -> I16:
    samples = sound.samples if sound.rate == SAMPLE_RATE else _resample(sound)
    peak = float(np.abs(samples).max(initial=0.0))
    return _to_integers(samples / peak if peak > 1.0 else samples)


def _to_integers(samples: Samples) -> I16:
    # 32768 as in libsndfile, not 32767, so that 16-bit sound is unchanged.
    return np.clip(np.rint(samples * FULL_SCALE), -32768, 32767).astype(np.int16)


def _resample(sound: Sound) -> Samples:
    if soxr := _soxr():
        return np.asarray(soxr.resample(sound.samples, sound.rate, SAMPLE_RATE), dtype=np.float64)
    return resample(sound.samples, sound.rate)


@cache
def _soxr() -> Any:
    try:
        import soxr
    except (ImportError, OSError, RuntimeError):
        return None
    return soxr
