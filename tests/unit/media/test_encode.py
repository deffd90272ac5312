from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from support.tiny_speech import encode
from support.tiny_stamps import tone

from fairseq_vgs.media import encode as encoding
from fairseq_vgs.media.encode import (
    PEAK_LIMIT,
    as_prepared,
    clipped_share,
    content_hash,
    encode_flac,
    encode_wav,
    limit_peak,
    resample,
    root_mean_square,
    to_flac,
    to_int16,
)
from fairseq_vgs.media.errors import SoundError
from fairseq_vgs.media.sound import Sound, decode


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


def read_integers(flac: bytes) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(io.BytesIO(flac), dtype="int16")
    return samples, rate


def strongest_frequency(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()])


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
        monkeypatch.setattr(encoding, "_soxr", lambda: None)
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
    with pytest.raises(SoundError) as caught:
        to_flac(faint, place="a.wav")
    assert (caught.value.codes, caught.value.faults[0].place) == (("sound.silent",), "a.wav")


def test_wav_is_lossless_at_16_bits_and_keeps_the_rate() -> None:
    samples = np.random.default_rng(3).integers(-32768, 32768, 3000).astype(np.int16) / 32768
    found = decode(encode_wav(Sound(samples, 22_050)))
    assert found.rate == 22_050
    np.testing.assert_array_equal(found.samples, samples)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_recording_in_memory_is_what_its_prepared_file_holds(rate: int) -> None:
    """Rounded to 16 bits where it was resampled, unchanged at 16 kHz."""
    loud = Sound(1.5 * np.sin(np.arange(rate // 2) * 2 * np.pi * 440 / rate), rate)
    found = as_prepared(loud)
    assert found.dtype == np.float32
    if rate == 16_000:
        np.testing.assert_array_equal(found, loud.samples.astype(np.float32))
    else:
        np.testing.assert_array_equal(found, decode(to_flac(loud)[0]).samples.astype(np.float32))
        assert np.abs(found).max() <= 1
