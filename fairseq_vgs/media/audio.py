"""Reads, resamples and writes speech. Samples are one-dimensional float64 arrays, full scale = 1."""

from __future__ import annotations

import hashlib
import io
from math import gcd
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from fairseq_vgs.media.ogg import set_serial
from fairseq_vgs.media.rates import SAMPLE_RATE

Samples = NDArray[np.float64]

# Just below full scale: lossy encoders may overshoot the peak they were given.
PEAK_LIMIT = 0.95
# Quieter than this (about -60 dB of full scale) nobody hears speech.
SILENCE_RMS = 1e-3
CLIPPED_LEVEL = 0.995
# One hour at 16 kHz, 0.5 GB when decoded: a small file may hold days of silence.
MAX_SAMPLES = 3600 * SAMPLE_RATE
BLOCK_VALUES = 1 << 18
UNKNOWN_LENGTH = (1 << 63) - 1  # libsndfile's


class AudioError(ValueError):
    """A recording cannot be used; the text says why in a few words."""


def read_mono(source: Path | BinaryIO) -> tuple[Samples, int]:
    """Returns a recording (a file or its bytes), averaged over its channels, and its sample rate in Hz.

    Raises:
        AudioError: the file does not decode, is empty or too long, or holds NaN or infinite samples.
    """
    try:
        with soundfile.SoundFile(source) as file:
            samples, rate = read_samples(file), int(file.samplerate)
    except (OSError, RuntimeError) as error:  # soundfile's own errors derive from RuntimeError
        raise AudioError("unreadable speech") from error
    if not len(samples):
        raise AudioError("empty speech")
    if not np.isfinite(samples).all():
        raise AudioError("speech with NaN or infinite samples")
    return samples, rate


def read_samples(file: soundfile.SoundFile) -> Samples:
    """Decodes an open recording to its end and averages its channels.

    Raises:
        AudioError: it has more than ``MAX_SAMPLES``, by its header or in truth, or does not fit into memory.
    """
    blocks: list[Samples] = []
    promised = file.frames if file.frames < UNKNOWN_LENGTH else 0
    n_samples = 0
    try:
        while max(n_samples, promised) <= MAX_SAMPLES:
            block = file.read(max(1, BLOCK_VALUES // file.channels), dtype="float64", always_2d=True)
            if not len(block):
                return np.concatenate(blocks) if blocks else np.empty(0)
            blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
            n_samples += len(block)
    except MemoryError as error:
        raise AudioError("speech too long for this machine's memory") from error
    limit = f"{MAX_SAMPLES:,} samples ({MAX_SAMPLES / SAMPLE_RATE / 3600:g} h at 16 kHz)"
    raise AudioError(f"speech longer than {limit}")


def resample(samples: Samples, rate: int, target_rate: int = SAMPLE_RATE) -> Samples:
    """Returns the recording at another sample rate (in Hz), band-limited by a polyphase filter."""
    if rate == target_rate:
        return samples
    divisor = gcd(rate, target_rate)
    return np.asarray(resample_poly(samples, target_rate // divisor, rate // divisor), dtype=np.float64)


def limit_peak(samples: Samples) -> Samples:
    """Scales the recording down, as a whole, where its peak is above ``PEAK_LIMIT``."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples * (PEAK_LIMIT / peak) if peak > PEAK_LIMIT else samples


def root_mean_square(samples: Samples) -> float:
    """Returns the level of a recording; 0 for an empty one."""
    return float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0


def clipped_share(samples: Samples) -> float:
    """Returns the share of samples at or beyond full scale."""
    return float(np.mean(np.abs(samples) >= CLIPPED_LEVEL)) if len(samples) else 0.0


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Rounds to 16 bits.

    All encoders here are fed integers: differences in the last bits of floating point between two CPUs
    then vanish before they can change an encoded byte.
    """
    return np.clip(np.rint(samples * 32767.0), -32768, 32767).astype(np.int16)


def content_hash(samples: Samples) -> str:
    """Returns the SHA-256 of the recording as 16-bit samples, whatever file it came from."""
    return hashlib.sha256(to_int16(samples).tobytes()).hexdigest()


def encode_flac(samples: Samples | NDArray[np.int16]) -> bytes:
    """Returns a mono 16-bit FLAC file at ``SAMPLE_RATE``; 16-bit samples are kept as they are."""
    buffer = io.BytesIO()
    integers = samples if samples.dtype == np.int16 else to_int16(np.asarray(samples, np.float64))
    soundfile.write(buffer, integers, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def encode_vorbis(samples: Samples, *, quality: float, serial: int) -> bytes:
    """Returns a mono Ogg Vorbis file at ``SAMPLE_RATE``.

    Args:
        samples: the recording, not above full scale.
        quality: 0 (smallest) to 1 (best); 0.4 is what oggenc calls q4.
        serial: serial number of the stream, in place of libsndfile's random one.
    """
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        to_int16(samples),
        SAMPLE_RATE,
        format="OGG",
        subtype="VORBIS",
        compression_level=1.0 - quality,
    )
    return set_serial(buffer.getvalue(), serial)


def decoded_length(content: bytes) -> int:
    """Returns the number of samples an encoded file decodes to."""
    return len(soundfile.read(io.BytesIO(content), dtype="int16")[0])
