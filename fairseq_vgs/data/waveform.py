"""Utterances: reading, checking, cutting and normalising.

Shapes: S samples at 16 kHz, mono.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
import soundfile

from fairseq_vgs.constants import SAMPLE_RATE
from fairseq_vgs.data.errors import BadItemError
from fairseq_vgs.manifest.errors import Fault, ManifestError, fault
from fairseq_vgs.manifest.location import MediaLocation, open_media
from fairseq_vgs.manifest.media import SILENCE_AMPLITUDE

FloatArray = npt.NDArray[np.float32]

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
        with ExitStack() as stack:
            whole_file = location.offset is None
            source = str(location.path) if whole_file else stack.enter_context(open_media(location))
            sound = stack.enter_context(soundfile.SoundFile(source))
            _check_header(sound, place=place, n_samples=n_samples)
            if start:
                sound.seek(start)
            samples = _decode(sound, n_wanted)
    except BadItemError:
        raise
    except ManifestError as error:  # of the archive
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


def _decode(sound: soundfile.SoundFile, n_wanted: int) -> FloatArray:
    """Return float32[S, channels] from where the file stands."""
    if sound.subtype != "PCM_16":
        samples: FloatArray = sound.read(n_wanted, dtype="float32", always_2d=True)
        return samples
    # The same numbers: libsndfile would read blocks of 8 kB to convert them, each by a call into Python where
    # the bytes are an archive's.
    whole = sound.read(n_wanted, dtype="int16", always_2d=True)
    return np.multiply(whole, np.float32(2**-15), dtype=np.float32)


def _check_header(sound: soundfile.SoundFile, *, place: str, n_samples: int) -> None:
    if sound.frames == 0:
        raise BadItemError(Fault(place, "audio is empty; remove the line or rerun fairseq-vgs prepare"))
    if sound.samplerate != SAMPLE_RATE:
        expected = f"sample rate must be {SAMPLE_RATE} Hz"
        raise BadItemError(fault(place, expected, sound.samplerate, "resample the file"))
    if sound.frames != n_samples:
        expected = f"audio must have the {n_samples} samples of the manifest"
        raise BadItemError(
            fault(place, expected, sound.frames, "copy the file again, or rerun fairseq-vgs prepare")
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
