"""Recordings as users have them, one after the other: paths, arrays, any rate and number of channels.

Shapes: S samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.arrays import F32, F64
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media.content import Source
from fairseq_vgs.media.encode import as_prepared
from fairseq_vgs.media.errors import MediumError, refuse_sound
from fairseq_vgs.media.kind import given_picture, require_medium
from fairseq_vgs.media.sound import MAX_CHANNELS, MAX_RATE, MIN_RATE, SILENCE_AMPLITUDE, Sound, decode

Recording = Any
"""A path (or bytes, or a place in an archive), an array f[S] or f[S, C], or an array with its rate in Hz."""
Recordings = Any
"""One recording, or an iterable of some."""

Numbered = list[tuple[int, F32]]

_BATCHES_HELD = 4  # in a window whose recordings are ordered by length
_FILES = (str, Path, bytes, MediaLocation)


def waveforms(recordings: Recordings, *, sampling_rate: int | None = None) -> Iterator[tuple[str, F32]]:
    """Yield place and waveform float32[S] at 16 kHz of each recording, as training reads it once prepared.

    Raises:
        FaultError: a recording that cannot be used.
    """
    if _is_one(recordings):
        recordings = [recordings]
    elif isinstance(recordings, Mapping) or not isinstance(recordings, Iterable):
        raise _unknown("recordings", recordings)
    for number, recording in enumerate(recordings):
        yield _waveform(recording, f"recording {number}", sampling_rate)


def _is_one(found: Recordings) -> bool:
    is_with_rate = isinstance(found, tuple) and len(found) == 2 and _is_array(found[0]) and _is_rate(found[1])
    return isinstance(found, _FILES) or _is_array(found) or is_with_rate


def _is_array(found: Any) -> bool:
    return hasattr(found, "__array__") and getattr(found, "ndim", 0) > 0


def as_numpy(found: Any) -> npt.NDArray[Any]:
    """Return an array, or a tensor on any device, as an array of NumPy."""
    return np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)


def _is_rate(found: Any) -> bool:
    return not isinstance(found, bool) and isinstance(found, int | np.integer)


def _waveform(recording: Recording, place: str, sampling_rate: int | None) -> tuple[str, F32]:
    if isinstance(recording, _FILES):
        return _decoded(recording, place)
    if isinstance(recording, tuple) and len(recording) == 2:
        recording, sampling_rate = recording
    if not _is_array(recording):
        raise _unknown(place, recording)
    if not _is_rate(sampling_rate):
        expected, step = (
            "needs sampling_rate, the rate of arrays in Hz",
            "give it, such as sampling_rate=44100",
        )
        raise FaultError(fault(place, expected, sampling_rate, step, code="sound.sample_rate"))
    return place, as_prepared(_sound(as_numpy(recording), int(sampling_rate or 0), place))


def _decoded(source: str | Source, place: str) -> tuple[str, F32]:
    source = Path(source).expanduser() if isinstance(source, str) else source
    place = str(source) if isinstance(source, Path) else place
    require_medium(source)
    try:
        return place, as_prepared(decode(source, place=place))
    except MediumError as error:
        if found := given_picture(error, source, place, step="give pictures to embed_images"):
            raise FaultError(found) from error
        raise


def _sound(array: npt.NDArray[Any], rate: int, place: str) -> Sound:
    """Return an array f[S] or [S, C] (or [C, S]: channels are the shorter axis) as sound."""
    if array.ndim not in (1, 2) or not array.size or (array.ndim == 2 and min(array.shape) > MAX_CHANNELS):
        expected, step = "array must be [samples] or [samples, channels]", "give one array for each recording"
        raise FaultError(fault(place, expected, list(array.shape), step, code="sound.shape"))
    samples = _full_scale(array, place)
    if samples.ndim == 2:
        samples = samples.mean(axis=int(samples.shape[1] <= samples.shape[0]))
    if not MIN_RATE <= rate <= MAX_RATE:
        expected = f"sampling_rate must be from {MIN_RATE} to {MAX_RATE} Hz"
        raise FaultError(fault(place, expected, rate, "correct it", code="sound.rate_limits"))
    if np.ptp(samples) / 2 <= SILENCE_AMPLITUDE:
        raise refuse_sound(place, "sound.silent", "nothing audible")
    if not np.isfinite(samples).all():
        step = "look for a faulty computation"
        raise FaultError(
            fault(place, "samples must be finite", "NaN or infinity", step, code="sound.not_finite")
        )
    return Sound(samples, rate)


def _full_scale(array: npt.NDArray[Any], place: str) -> F64:
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    if array.dtype in (np.int16, np.int32):
        return array / -float(np.iinfo(array.dtype).min)
    expected, step = "samples must be float (full scale 1), int16 or int32", "convert them"
    raise FaultError(fault(place, expected, str(array.dtype), step, code="sound.type"))


def _unknown(place: str, found: object) -> FaultError:
    expected = "must be paths, arrays of samples, or (array, rate)"
    return FaultError(fault(place, expected, type(found).__name__, "give one of these", code="media.kind"))


def in_batches(items: Iterable[F32], *, max_samples: int, pad_to: int = 0) -> Iterator[Numbered]:
    """Group recordings, numbered, by length: up to ``max_samples`` with padding, or one recording.

    A window of some batches is held in memory and ordered; ``pad_to`` is what all are padded to at least.
    """
    window: Numbered = []
    n_samples = 0
    for number, waveform in enumerate(items):
        window.append((number, waveform))
        n_samples += len(waveform)
        if n_samples >= _BATCHES_HELD * max_samples:
            yield from _by_length(window, max_samples, pad_to)
            window, n_samples = [], 0
    yield from _by_length(window, max_samples, pad_to)


def _by_length(window: Numbered, max_samples: int, pad_to: int) -> Iterator[Numbered]:
    batch: Numbered = []
    longest = 0
    for item in sorted(window, key=lambda item: -len(item[1])):
        if batch and (len(batch) + 1) * longest > max_samples:
            yield batch
            batch = []
        longest = longest if batch else max(pad_to, len(item[1]))
        batch.append(item)
    if batch:
        yield batch
