from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.tiny_speech import encode, speech, with_data_length, with_flac_samples, write

from fairseq_vgs.media import audio, recording
from fairseq_vgs.media.medium import MediumError
from fairseq_vgs.media.recording import decode, header_rate, to_flac


def read_integers(flac: bytes) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(io.BytesIO(flac), dtype="int16")
    return samples, rate


def strongest_frequency(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()])


def test_channels_are_averaged() -> None:
    one, two = speech(1), speech(2)
    sound = decode(encode(np.stack([one, two], axis=1), subtype="DOUBLE"))
    assert sound.rate == 16_000
    np.testing.assert_allclose(sound.samples, (one + two) / 2, atol=1e-12)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"not a sound", "unreadable speech"),
        (encode(np.empty(0)), "empty speech"),
        (encode(np.zeros(400)), "silent speech"),
        (encode(np.full(400, 0.5)), "silent speech"),
        (encode(np.where(np.arange(400) == 7, np.nan, speech(1)[:400]), subtype="FLOAT"), "NaN or infinite"),
        (encode(np.where(np.arange(400) == 7, np.inf, speech(1)[:400]), subtype="FLOAT"), "NaN or infinite"),
        (with_data_length(encode(speech(1)), 90_000), "header with a wrong length"),
        (with_data_length(encode(speech(1)), 100), "header with a wrong length"),
        (with_flac_samples(encode(speech(1), kind="FLAC"), 0), "unreadable speech"),
        (with_flac_samples(encode(speech(1), kind="FLAC"), 9_000), "unreadable speech"),
        (encode(speech(1, seconds=9), kind="FLAC")[:40_000], "unreadable speech"),
    ],
)
def test_what_cannot_be_used_has_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(MediumError) as caught:
        decode(content)
    assert reason in caught.value.reason


@pytest.mark.parametrize("n_channels", [1, 3])
def test_long_speech_is_not_decoded(monkeypatch: pytest.MonkeyPatch, n_channels: int) -> None:
    monkeypatch.setattr(audio, "MAX_SAMPLES", 3_000)
    content = encode(np.stack([speech(1)] * n_channels, axis=1), kind="FLAC")
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *args, **settings: pytest.fail("it was decoded"))
    with pytest.raises(MediumError, match=r"speech longer than 3,000 samples \(.* h at 16 kHz\)"):
        decode(content)


def test_decoding_stops_at_the_limit_whatever_the_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "MAX_SAMPLES", 3_000)
    n_read = []

    def read_on(self: soundfile.SoundFile, frames: int, **settings: Any) -> Any:
        n_read.append(500)
        return np.ones((n_read[-1], 1))

    monkeypatch.setattr(soundfile.SoundFile, "read", read_on)
    with pytest.raises(MediumError, match="speech longer than 3,000 samples"):
        decode(encode(speech(1)[:10]))
    assert sum(n_read) == 3_500


def test_speech_that_memory_does_not_hold_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: soundfile.SoundFile, *args: Any, **settings: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    with pytest.raises(MediumError, match="too long for this machine's memory"):
        decode(encode(speech(1)))


def test_sound_of_16_bits_at_16_khz_is_kept_bit_by_bit() -> None:
    integers = np.random.default_rng(3).integers(-32768, 32768, 3000).astype(np.int16)
    flac, n_samples = to_flac(decode(encode(integers)))
    found, rate = read_integers(flac)
    assert (n_samples, rate) == (3000, 16_000)
    np.testing.assert_array_equal(found, integers)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("with_soxr", [True, False])
def test_resampling_keeps_frequency_and_length(
    rate: int, with_soxr: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_soxr:
        pytest.importorskip("soxr")
    else:
        monkeypatch.setattr(recording, "_soxr", lambda: None)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    flac, n_samples = to_flac(decode(encode(tone, rate=rate)))
    found, found_rate = read_integers(flac)
    assert found_rate == 16_000
    assert n_samples == len(found) == 16_000
    assert strongest_frequency(found, 16_000) == pytest.approx(440, abs=1.5)
    assert np.abs(found[1000:-1000]).max() == pytest.approx(0.5 * 32768, rel=0.01)


def test_what_16_khz_cannot_hold_is_filtered_out() -> None:
    low = np.sin(2 * np.pi * 1000 * np.arange(48_000) / 48_000)
    high = np.sin(2 * np.pi * 15_000 * np.arange(48_000) / 48_000)
    found, _ = read_integers(to_flac(decode(encode(0.3 * (low + high), rate=48_000)))[0])
    assert np.abs(found[1000:-1000]).max() < 0.33 * 32768


def test_sound_beyond_full_scale_is_scaled_down_as_a_whole() -> None:
    loud = 3.0 * np.sin(np.arange(4000) / 20)
    found, _ = read_integers(to_flac(decode(encode(loud, subtype="FLOAT")))[0])
    np.testing.assert_allclose(found / 32768, loud / np.abs(loud).max(), atol=1e-4)


def test_what_rounds_to_silence_is_refused() -> None:
    above_8_khz = 1.6e-5 * (-1.0) ** np.arange(4000)
    faint = decode(encode(above_8_khz, subtype="FLOAT", rate=44_100))
    with pytest.raises(MediumError, match="silent"):
        to_flac(faint)


def test_header_rate(tmp_path: Path) -> None:
    assert header_rate(write(tmp_path / "ж a.WAV", encode(speech(1), rate=44_100))) == 44_100
    assert header_rate(write(tmp_path / "b.wav", b"nothing")) is None
    assert header_rate(tmp_path / "missing.wav") is None
