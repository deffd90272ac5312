"""Decode recordings from bytes, files and archives.

``fairseq_vgs.media.containers`` checks the length in the header, and libsndfile decodes. Decoding a whole
recording verifies the length. Shapes: S samples, C channels, which are averaged. Full scale is 1.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from fairseq_vgs.arrays import F32
from fairseq_vgs.files.faults import Fault, shown
from fairseq_vgs.media.containers import FLAC_HEADER_BYTES, Container, LengthFrom, flac_samples, look_into
from fairseq_vgs.media.content import OpenMedium, Source
from fairseq_vgs.media.errors import MediumError, SoundError, media_fault, refuse_sound
from fairseq_vgs.media.rates import SAMPLE_RATE

Samples = npt.NDArray[np.float64]

SILENCE_AMPLITUDE = 2.0**-16
"""Half the distance between a silent clip's extremes: half a step of 16-bit sound."""

MAX_SAMPLES = 3600 * SAMPLE_RATE
"""One hour at 16 kHz, 0.5 GB decoded; a small file may hold days of silence."""

MIN_RATE, MAX_RATE = 1_000, 1_000_000
MAX_CHANNELS = 64

_BLOCK_VALUES = 1 << 18
_UNKNOWN_LENGTH = (1 << 63) - 1  # libsndfile's
_WAV_HEADER = struct.Struct("<4sI8sIHHIIHH4sI")
_VERIFIED_BY_LIBSNDFILE = ("HTK",)  # whose length must be that of the file
_LIBSNDFILE_ERRORS = (OSError, RuntimeError, ValueError, TypeError)


@dataclass(frozen=True, slots=True)
class SoundInfo:
    """Properties of a recording: rate in Hz, C, S, and where S comes from."""

    rate: int
    channels: int
    n_samples: int
    length_from: LengthFrom


@dataclass(frozen=True, slots=True)
class Sound:
    """A decoded recording: samples [S], averaged over channels, and its rate in Hz."""

    samples: Samples
    rate: int


def inspect(source: Source, *, place: str = "") -> SoundInfo:
    """Return the properties of a recording without decoding it. Raises MediumError."""
    with _opened(source, place) as reader:
        return reader.info


def header_rate(path: Path) -> int | None:
    """Return the sample rate in a file's header in Hz, or None; reads little unless it is MP3 or odd."""
    try:
        with suppress(*_LIBSNDFILE_ERRORS), soundfile.SoundFile(str(path)) as file:
            if file.format != "MP3":  # whose first frame may be another's
                return int(file.samplerate)
        return inspect(path).rate
    except MediumError:
        return None


def decode(source: Source, *, place: str = "", rate: int | None = None) -> Sound:
    """Decode a recording to its end: float64[S]; ``place`` is file and line for errors.

    Raises:
        MediumError: It is unreadable, empty, cut short, silent, longer than ``MAX_SAMPLES``, not at ``rate``,
            has a wrong length in its header, a format whose length cannot be verified, or NaN samples.
    """
    with _opened(source, place) as reader:
        if rate is not None:
            reader.check_rate(rate)
        samples = reader.read_all()
        reader.check_length(len(samples))
        reader.check_samples(samples, is_whole=True)
        return Sound(samples, reader.info.rate)


def decode_part(
    source: Source, *, n_samples: int, place: str = "", start: int = 0, n_wanted: int | None = None
) -> F32:
    """Decode a recording at 16 kHz, or a part of it: float32[S].

    Rate and length (listed as ``n_samples``) are checked for the whole recording, NaN only for the decoded
    part: ``n_wanted`` samples (None: all up to the end) from ``start``. A part may be silent (a pause), a
    whole recording may not. The samples equal those of ``decode``. Raises MediumError.
    """
    n_wanted = n_samples - start if n_wanted is None else n_wanted
    with _opened(source, place, listed=n_samples) as reader:
        info = reader.info
        if info.n_samples == 0:
            raise refuse_sound(reader.place, "sound.empty", "0 samples")
        reader.check_rate(SAMPLE_RATE)
        if info.n_samples != n_samples:
            raise SoundError(_other_length(reader.place, info.n_samples, n_samples))
        samples = reader.read_part(start, n_wanted)
        if len(samples) != n_wanted:
            got = f"{len(samples)} of the samples {start} to {start + n_wanted}"
            raise refuse_sound(reader.place, "sound.cut", got)
        reader.check_samples(samples, is_whole=n_wanted == n_samples)
        return samples


def sound_faults(source: Source, *, place: str, n_samples: int) -> list[Fault]:
    """Return all faults of a recording listed with a length; ``decode_part`` reads any without one."""
    faults: list[Fault] = []
    try:
        with _opened(source, place) as reader:
            info = reader.info
            if info.rate != SAMPLE_RATE:
                faults.append(media_fault(place, "sound.sample_rate", f"{info.rate} Hz"))
            if info.n_samples == 0:
                return [*faults, media_fault(place, "sound.empty", "0 samples")]
            if info.n_samples != n_samples:
                faults.append(_other_length(place, info.n_samples, n_samples))
                if info.n_samples > n_samples:  # a small file may decode to hours of sound
                    return faults
            reader.check_all_samples()
    except MediumError as error:
        faults += error.faults
    return faults


class _Reader:
    """An open recording; see ``_opened``."""

    def __init__(self, place: str, container: Container, files: list[Any]) -> None:
        self.place, self._files, self._can_seek = place, files, container.can_seek
        rate, channels = int(files[0].samplerate), int(files[0].channels)
        n_samples = sum(int(file.frames) for file in files)
        if container.n_samples is not None:
            n_samples = min(n_samples, container.n_samples)
        self.info = SoundInfo(rate, channels, n_samples, container.length_from)
        if not container.is_known and files[0].format not in _VERIFIED_BY_LIBSNDFILE:
            raise refuse_sound(place, "sound.format", f"{files[0].format} ({files[0].subtype})")
        if not MIN_RATE <= rate <= MAX_RATE:
            raise refuse_sound(place, "sound.rate_limits", f"{rate:,} Hz")
        if channels > MAX_CHANNELS:
            raise refuse_sound(place, "sound.channels", f"{channels:,}")
        if any((file.samplerate, file.channels) != (rate, channels) for file in files):
            raise refuse_sound(place, "sound.chained", "streams that differ")

    def check_rate(self, rate: int) -> None:
        if self.info.rate != rate:
            raise refuse_sound(self.place, "sound.sample_rate", f"{self.info.rate} Hz")

    def check_length(self, n_decoded: int) -> None:
        promised = self.info.n_samples
        if n_decoded != promised:
            got = f"a header that says {promised} samples where {n_decoded} can be decoded"
            raise refuse_sound(self.place, "sound.length", got)
        if n_decoded == 0:
            raise refuse_sound(self.place, "sound.empty", "0 samples")

    def check_samples(self, samples: npt.NDArray[np.floating[Any]], *, is_whole: bool) -> None:
        low, high = float(samples.min(initial=np.inf)), float(samples.max(initial=-np.inf))
        n_bad = 0 if np.isfinite(low + high) else int(np.count_nonzero(~np.isfinite(samples)))
        if n_bad or is_whole:
            self.check_range(low, high, n_bad=n_bad)

    def check_all_samples(self) -> None:
        """Decode block by block to the end, with the checks of ``decode``."""
        n_read, n_bad, low, high = 0, 0, np.inf, -np.inf
        for block in self._blocks("float32"):
            samples = _mono(block, np.float32)[: self.info.n_samples - n_read]
            n_read += len(samples)
            finite = samples[np.isfinite(samples)]
            n_bad += len(samples) - len(finite)
            low, high = float(finite.min(initial=low)), float(finite.max(initial=high))
        self.check_length(n_read)
        self.check_range(low, high, n_bad=n_bad)

    def check_range(self, low: float, high: float, *, n_bad: int) -> None:
        """Refuse non-finite samples, and silence according to the extremes."""
        if n_bad:
            raise refuse_sound(self.place, "sound.not_finite", f"{n_bad} that are NaN or infinite")
        if (high - low) / 2 <= SILENCE_AMPLITUDE:
            got = f"an amplitude of {(high - low) / 2:.2g} of full scale"
            code = "sound.channels_cancel" if self._has_loud_channel() else "sound.silent"
            raise refuse_sound(self.place, code, got)

    def read_all(self) -> Samples:
        """Decode block by block to the end: float64[S]; refuse recordings that are too long."""
        blocks: list[Samples] = []
        n_read, promised = 0, self.info.n_samples
        resampled = promised * SAMPLE_RATE // self.info.rate
        if max(promised, resampled) > MAX_SAMPLES and promised < _UNKNOWN_LENGTH:
            raise refuse_sound(self.place, "sound.too_long", f"more than {_LIMIT}")
        try:
            for block in self._blocks("float64"):
                if (n_read := n_read + len(block)) > MAX_SAMPLES:
                    break
                blocks.append(_mono(block, np.float64))
            else:
                return np.concatenate(blocks)[:promised] if blocks else np.empty(0)
        except MemoryError as error:
            got = "more than this machine's memory holds"
            raise refuse_sound(self.place, "sound.too_long", got) from error
        raise refuse_sound(self.place, "sound.too_long", f"more than {_LIMIT}")

    def read_part(self, start: int, n_wanted: int) -> F32:
        """Decode a part: float32[S]; fewer samples if the recording ends."""
        # averaged before they are rounded, as in ``read_all``
        dtype = "float32" if self.info.channels == 1 else "float64"
        if self._can_seek:
            if start:
                self._files[0].seek(start)
            return _mono(_read(self._files[0], n_wanted, dtype), np.float32)
        blocks: list[F32] = []
        n_read, end = 0, start + n_wanted
        for block in self._blocks(dtype):
            blocks.append(_mono(block, np.float32))
            if (n_read := n_read + len(block)) >= end:
                break
        return np.concatenate(blocks)[start:end] if blocks else np.empty(0, np.float32)

    def _blocks(self, dtype: str) -> Iterator[npt.NDArray[Any]]:
        """Yield blocks [n, C] of all samples that can be decoded."""
        size = max(1, _BLOCK_VALUES // self.info.channels)
        for file in self._files:
            while len(block := _read(file, size, dtype)):
                yield block

    def _has_loud_channel(self) -> bool:
        if self.info.channels == 1:
            return False
        for file in self._files:
            file.seek(0)
        quiet = 2 * SILENCE_AMPLITUDE
        return any(float(np.ptp(block, axis=0).max()) > quiet for block in self._blocks("float32"))


class _PlainWav:
    """A 16-bit WAV with a minimal header, which numpy reads much faster than libsndfile."""

    format, subtype = "WAV", "PCM_16"

    def __init__(self, steps: npt.NDArray[np.int16]) -> None:
        self._steps, self._at = steps, 0
        self.samplerate, self.frames, self.channels = SAMPLE_RATE, len(steps), steps.shape[1]

    def seek(self, start: int) -> None:
        self._at = start

    def read(self, count: int, **_: object) -> npt.NDArray[np.int16]:
        self._at = (start := self._at) + count
        return self._steps[start : self._at]


@contextmanager
def _opened(source: Source, place: str, *, listed: int = 0) -> Iterator[_Reader]:
    with ExitStack() as stack:
        medium = stack.enter_context(OpenMedium(source, place))
        try:
            yield _open_reader(medium, stack, listed)
        except MediumError:
            raise
        except _LIBSNDFILE_ERRORS as error:  # soundfile's own derive from RuntimeError
            got = shown(str(getattr(error, "error_string", error)))
            raise refuse_sound(medium.place, "sound.unreadable", got) from error


def _open_reader(medium: OpenMedium, stack: ExitStack, listed: int) -> _Reader:
    """Open a recording, reading and copying no more than the length checks need.

    FLAC whose header has the ``listed`` length is not searched for further streams.
    """
    whole, place = medium.descriptor, medium.place
    if whole is not None and 0 < listed == flac_samples(os.pread(whole, FLAC_HEADER_BYTES, 0)):
        return _Reader(place, Container(()), [_open_descriptor(whole, stack)])
    content = medium.read()
    if (steps := _plain_wav(content)) is not None:
        return _Reader(place, Container(()), [_PlainWav(steps)])
    is_as_listed = 0 < listed == flac_samples(content)
    container = Container((content,)) if is_as_listed else look_into(content, place)
    if whole is not None and len(container.pieces) == 1 and container.pieces[0] is content:
        return _Reader(place, container, [_open_descriptor(whole, stack)])
    return _Reader(place, container, [_open_piece(piece, stack) for piece in container.pieces])


def _open_descriptor(descriptor: int, stack: ExitStack) -> soundfile.SoundFile:
    return stack.enter_context(soundfile.SoundFile(descriptor, closefd=False))


def _open_piece(content: bytes, stack: ExitStack) -> soundfile.SoundFile:
    if not hasattr(os, "memfd_create"):
        return stack.enter_context(soundfile.SoundFile(io.BytesIO(content)))
    # An anonymous file: libsndfile reads it directly, while a BytesIO costs many calls into Python.
    descriptor = os.memfd_create("sound")
    stack.callback(os.close, descriptor)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return _open_descriptor(descriptor, stack)


def _plain_wav(content: bytes) -> npt.NDArray[np.int16] | None:
    """Return int16[S, C] of a 16-bit WAV at our rate with only header and samples; otherwise None."""
    if len(content) < _WAV_HEADER.size:
        return None
    header = _WAV_HEADER.unpack_from(content)
    riff, n_rest, wave, n_format, kind, n_channels, rate, _, n_frame, n_bits, data, n_data = header
    expected = (b"RIFF", b"WAVEfmt ", 16, 1, SAMPLE_RATE, 16, b"data")
    if (riff, wave, n_format, kind, rate, n_bits, data) != expected:
        return None
    has_lengths = (n_rest, n_data) == (len(content) - 8, len(content) - _WAV_HEADER.size)
    if not has_lengths or not n_channels or n_frame != 2 * n_channels or n_data % n_frame:
        return None
    return np.frombuffer(content, dtype="<i2", offset=_WAV_HEADER.size).reshape(-1, n_channels)


def _read(file: Any, count: int, dtype: str) -> npt.NDArray[Any]:
    """Return the next [n, C] of full scale 1."""
    # numpy converts 16-bit WAV twice as fast as libsndfile does, but FLAC no faster; the values are equal.
    if file.subtype != "PCM_16" or file.format == "FLAC":
        return file.read(count, dtype=dtype, always_2d=True)
    steps = file.read(count, dtype="int16", always_2d=True)
    return np.multiply(steps, np.dtype(dtype).type(2**-15), dtype=dtype)


def _mono(block: npt.NDArray[Any], dtype: type[np.floating[Any]]) -> npt.NDArray[Any]:
    # Averaged in float64, so that float32 results are exactly the rounded float64 ones.
    mean = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float64)
    return mean.astype(dtype, copy=False)


def _other_length(place: str, found: int, listed: int) -> Fault:
    expected = f"n_samples must be the audio's {found} samples"
    return media_fault(place, "sound.n_samples", str(listed), expected=expected)


_LIMIT = f"{MAX_SAMPLES:,} samples ({MAX_SAMPLES / SAMPLE_RATE / 3600:g} h at 16 kHz)"
