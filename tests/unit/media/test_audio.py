from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.tiny_stamps import tone

from fairseq_vgs.media import audio
from fairseq_vgs.media.audio import (
    PEAK_LIMIT,
    AudioError,
    clipped_share,
    content_hash,
    decoded_length,
    encode_flac,
    encode_vorbis,
    limit_peak,
    read_mono,
    resample,
    root_mean_square,
    to_int16,
)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(300), tone(500)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 44_100, subtype="DOUBLE")
    samples, rate = read_mono(tmp_path / "a.wav")
    assert rate == 44_100
    np.testing.assert_allclose(samples, (left + right) / 2, atol=1e-12)


def test_resampling_keeps_the_tone_and_its_duration() -> None:
    samples = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    resampled = resample(samples, 44_100)
    assert len(resampled) == 16_000
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(resampled[500:-500], expected[500:-500], atol=2e-3)


def test_resampling_removes_what_the_lower_rate_cannot_hold() -> None:
    samples = np.sin(2 * np.pi * 12_000 * np.arange(44_100) / 44_100)
    assert root_mean_square(resample(samples, 44_100)[500:-500]) < 1e-3


def test_equal_rate_changes_nothing() -> None:
    samples = tone(300, rate=16_000)
    assert resample(samples, 16_000) is samples


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "unreadable"), (b"OggS" + bytes(50), "unreadable"), (None, "empty")]
)
def test_unusable_files_have_a_reason(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.wav"
    if content is None:
        soundfile.write(path, np.zeros(0), 16_000)
    else:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=message):
        read_mono(path)


def test_long_recordings_have_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.flac", tone(300, rate=16_000), 16_000)
    monkeypatch.setattr(audio, "MAX_SAMPLES", 1_000)
    with pytest.raises(AudioError, match="speech longer than 1,000 samples"):
        read_mono(tmp_path / "a.flac")


def test_missing_file_has_a_reason(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="unreadable"):
        read_mono(tmp_path / "none.ogg")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_samples_are_refused(tmp_path: Path, value: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.1, value, 0.2]), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        read_mono(tmp_path / "a.wav")


def test_peak_is_limited_as_a_whole_and_only_downwards() -> None:
    loud = np.array([0.5, -2.0, 1.0])
    np.testing.assert_allclose(limit_peak(loud), loud * PEAK_LIMIT / 2)
    quiet = np.array([0.5, -0.2])
    assert limit_peak(quiet) is quiet
    assert len(limit_peak(np.zeros(0))) == 0


def test_levels() -> None:
    assert root_mean_square(np.array([3.0, -4.0, 0.0, 0.0])) == 2.5
    assert root_mean_square(np.zeros(0)) == 0.0
    assert clipped_share(np.array([1.0, -1.0, 0.5, 0.0])) == 0.5
    assert clipped_share(np.zeros(0)) == 0.0


def test_sixteen_bits_do_not_wrap_around() -> None:
    np.testing.assert_array_equal(to_int16(np.array([2.0, -2.0, 0.0, 1.0])), [32767, -32768, 0, 32767])


def test_hash_depends_on_sound_and_not_on_rounding() -> None:
    samples = tone(300)
    assert content_hash(samples) == content_hash(samples + 1e-9)
    assert content_hash(samples) != content_hash(samples[:-1])


def test_flac_is_lossless_at_16_bits() -> None:
    samples = tone(300, rate=16_000)
    content = encode_flac(samples)
    decoded, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    assert rate == 16_000
    np.testing.assert_array_equal(decoded, to_int16(samples))
    assert encode_flac(samples) == content


def test_vorbis_repeats_exactly_and_keeps_the_length() -> None:
    samples = tone(300, rate=16_000)
    content = encode_vorbis(samples, quality=0.4, serial=5)
    assert encode_vorbis(samples, quality=0.4, serial=5) == content
    assert encode_vorbis(samples, quality=0.4, serial=6) != content
    assert decoded_length(content) == len(samples)
    decoded, _ = soundfile.read(io.BytesIO(content))
    assert np.corrcoef(decoded, samples)[0, 1] > 0.99
