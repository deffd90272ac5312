"""Utterances: reading, checking, cutting and normalising.

Shapes: S samples at 16 kHz, mono.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
import soundfile

from fairseq_vgs.data.errors import BadItemError
from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.location import MediaLocation, read_bytes
from fairseq_vgs.media.inspection import SILENCE_AMPLITUDE
from fairseq_vgs.media.rates import SAMPLE_RATE

FloatArray = npt.NDArray[np.float32]

_WAV_HEADER = struct.Struct("<4sI8sIHHIIHH4sI")
_NORM_EPSILON = 1e-5  # of torch's layer_norm, which fairseq applies to waveforms


def load_waveform(
    location: MediaLocation, *, place: str, n_samples: int, start: int = 0, n_wanted: int | None = None
) -> FloatArray:
    """Read an utterance, or a part of it, and check what was read.

    Rate and length are checked for the whole file; NaN for the part, since only that is decoded. A part may
    be silent, as pauses are; a whole file may not. Channels are averaged, as fairseq does.

    Args:
        location: File, or slice of an archive.
        place: Named in errors, such as ``train.tsv:17``.
        n_samples: Length of the whole utterance according to the manifest.
        start: First sample wanted.
        n_wanted: Number of samples wanted; None for all up to the end.

    Returns:
        float32[S] within [-1, 1] unless the file exceeds it.

    Raises:
        BadItemError: Unreadable, truncated, empty, wrong rate, length unlike the manifest's, NaN, or wholly
            silent.
    """
    n_wanted = n_samples - start if n_wanted is None else n_wanted
    try:
        samples = _read(location, place=place, n_samples=n_samples, start=start, n_wanted=n_wanted)
    except BadItemError:
        raise
    except FaultError as error:  # of the archive
        raise BadItemError(Fault(place, str(error))) from error
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        step = "check the file, or skip it with task.skip_bad=true"
        raise BadItemError(Fault(place, f"{location} cannot be read as audio ({error}); {step}")) from error
    waveform: FloatArray = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    _check_samples(waveform, place=place, start=start, n_wanted=n_wanted, is_whole=n_wanted == n_samples)
    return waveform


def normalize_waveform(waveform: FloatArray) -> FloatArray:
    """Bring an utterance to zero mean and unit variance, as torch's ``layer_norm`` over all samples.

    A silent part becomes zeros, but for rounding.
    """
    centred = waveform - waveform.mean(dtype=np.float64).astype(np.float32)
    variance = np.mean(np.square(centred, dtype=np.float64))
    normalized: FloatArray = centred * np.float32(1.0 / np.sqrt(variance + _NORM_EPSILON))
    return normalized


def _read(location: MediaLocation, *, place: str, n_samples: int, start: int, n_wanted: int) -> FloatArray:
    """Return float32[S, channels]."""
    source: str | io.BytesIO = str(location.path)
    if location.offset is not None:
        content = read_bytes(location)
        whole = _plain_wav(content)
        if whole is not None:
            _check_header(len(whole), SAMPLE_RATE, place=place, n_samples=n_samples)
            return _full_scale(whole[start : start + n_wanted])
        source = io.BytesIO(content)
    with soundfile.SoundFile(source) as sound:
        _check_header(sound.frames, sound.samplerate, place=place, n_samples=n_samples)
        if start:
            sound.seek(start)
        if (
            sound.subtype == "PCM_16"
        ):  # half the time for a WAV of which libsndfile does not convert each block
            return _full_scale(sound.read(n_wanted, dtype="int16", always_2d=True))
        samples: FloatArray = sound.read(n_wanted, dtype="float32", always_2d=True)
        return samples


def _plain_wav(content: bytes) -> npt.NDArray[np.int16] | None:
    """Return int16[S, channels] of a WAV of 16 bits and our rate, a short header and samples, else None.

    libsndfile reads every WAV, but bytes in memory by dozens of calls into Python.
    """
    if len(content) < _WAV_HEADER.size:
        return None
    riff, n_rest, wave, n_format, kind, n_channels, rate, _, n_frame, n_bits, data, n_data = (
        _WAV_HEADER.unpack_from(content)
    )
    expected = (b"RIFF", b"WAVEfmt ", 16, 1, SAMPLE_RATE, 16, b"data")
    if (riff, wave, n_format, kind, rate, n_bits, data) != expected:
        return None
    if n_rest != len(content) - 8 or n_data != len(content) - _WAV_HEADER.size:
        return None
    if not n_channels or n_frame != 2 * n_channels or n_data % n_frame:
        return None
    return np.frombuffer(content, dtype="<i2", offset=_WAV_HEADER.size).reshape(-1, n_channels)


def _full_scale(steps: npt.NDArray[np.int16]) -> FloatArray:
    return np.multiply(steps, np.float32(2**-15), dtype=np.float32)


def _check_header(n_found: int, rate: int, *, place: str, n_samples: int) -> None:
    if n_found == 0:
        raise BadItemError(Fault(place, "audio is empty; remove the line or rerun fairseq-vgs prepare"))
    if rate != SAMPLE_RATE:
        expected = f"sample rate must be {SAMPLE_RATE} Hz"
        raise BadItemError(fault(place, expected, rate, "resample the file"))
    if n_found != n_samples:
        expected = f"audio must have the {n_samples} samples of the manifest"
        raise BadItemError(
            fault(place, expected, n_found, "copy the file again, or rerun fairseq-vgs prepare")
        )


def _check_samples(waveform: FloatArray, *, place: str, start: int, n_wanted: int, is_whole: bool) -> None:
    if len(waveform) != n_wanted:
        expected = f"audio must hold the samples {start} to {start + n_wanted}"
        raise BadItemError(
            fault(place, expected, f"{len(waveform)} samples", "the file is truncated; copy it again")
        )
    low, high = float(waveform.min()), float(waveform.max())
    if not np.isfinite(low + high):
        expected = f"samples {start} to {start + n_wanted} must be finite numbers"
        raise BadItemError(fault(place, expected, low + high, "encode the file again"))
    if is_whole and high - low <= 2 * SILENCE_AMPLITUDE:
        step = "remove the line, or skip it with task.skip_bad=true"
        raise BadItemError(Fault(place, f"all {n_wanted} samples are silent; {step}"))
