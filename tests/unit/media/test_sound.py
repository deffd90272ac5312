from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.tiny_speech import encode, speech, with_data_length, with_flac_samples, write

from fairseq_vgs.data.waveform import load_waveform
from fairseq_vgs.features.recordings import open_source
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.media import sound
from fairseq_vgs.media.encode import to_flac
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.sound import decode, decode_part, header_rate, inspect, sound_faults

PLACE = "train.tsv:7"


def codes(call: Callable[..., object], *args: Any, **settings: Any) -> tuple[str, ...]:
    """Return the codes of the faults that a call raises, all of them at ``PLACE``."""
    with pytest.raises(MediumError) as caught:
        call(*args, place=PLACE, **settings)
    assert {fault.place for fault in caught.value.faults} == {PLACE}
    return caught.value.codes


def faults(content: bytes, n_samples: int = 4000) -> list[str]:
    """Return the codes of what the checker finds."""
    found = sound_faults(content, place=PLACE, n_samples=n_samples)
    assert {fault.place for fault in found} <= {PLACE}
    return [fault.code for fault in found]


def mp3(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """Return an MP3 of variable bit rate, with a Xing frame."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE")
    return buffer.getvalue()


def without_xing(content: bytes) -> bytes:
    """Return an MP3 of MPEG 2 at 16 kHz without its first frame."""
    return content[content.index(content[:2], 4) :]


def id3(content: bytes, *, n_bytes: int = 30_000) -> bytes:
    sizes = bytes(n_bytes >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + sizes + bytes(n_bytes) + content


def chained() -> bytes:
    parts = [encode(speech(number, seconds=0.5), kind="OGG", subtype="VORBIS") for number in (1, 2)]
    return b"".join(parts)


WHOLE = {
    "WAV": (encode(speech(1)), 4000),
    "WAV, 24 bits, stereo": (encode(np.stack([speech(1), speech(2)], 1), subtype="PCM_24"), 4000),
    "WAV, 32 bits, 3 channels": (encode(np.stack([speech(n) for n in (1, 2, 3)], 1), subtype="PCM_32"), 4000),
    "WAV, floats, 3 channels": (encode(np.stack([speech(n) for n in (1, 2, 3)], 1), subtype="FLOAT"), 4000),
    "WAV behind ID3": (id3(encode(speech(1))), 4000),
    "WAV of unknown length": (with_data_length(encode(speech(1)), 0xFFFFFFFF), 4000),
    "WAV, Microsoft's ADPCM": (encode(speech(1), subtype="MS_ADPCM"), 4000),
    "AIFF": (encode(speech(1), kind="AIFF"), 4000),
    "FLAC": (encode(speech(1), kind="FLAC"), 4000),
    "FLAC behind ID3": (id3(encode(speech(1), kind="FLAC")), 4000),
    "FLAC of unknown length": (with_flac_samples(encode(speech(1, seconds=2), kind="FLAC"), 0), 32_000),
    "Vorbis": (encode(speech(1), kind="OGG", subtype="VORBIS"), 4000),
    "Opus": (encode(speech(1), kind="OGG", subtype="OPUS"), 4000),
    "chained Vorbis": (chained(), 16_000),
    "MP3": (mp3(speech(1)), 4000),
    "MP3 behind ID3": (id3(mp3(speech(1))), 4000),
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_door_gives_the_same_samples(name: str, tmp_path: Path) -> None:
    """By path, from memory and from an archive; for prepare, check, training and extraction."""
    content, n_samples = WHOLE[name]
    path = write(tmp_path / "speech.wav", content)
    write(tmp_path / "speech.zip", b"before" + content + b"behind")
    doors = [content, path, MediaLocation(path), MediaLocation(tmp_path / "speech.zip", 6, len(content))]
    expected = decode(content).samples
    assert len(expected) == n_samples
    for door in doors:
        assert inspect(door).n_samples == n_samples
        np.testing.assert_array_equal(decode(door).samples, expected)
        assert sound_faults(door, place=PLACE, n_samples=n_samples) == []
        trained = decode_part(door, n_samples=n_samples)
        assert trained.dtype == np.float32
        np.testing.assert_array_equal(trained, expected.astype(np.float32))
        for start, end in ((0, 100), (1234, 3210), (n_samples - 7, n_samples)):
            part = decode_part(door, n_samples=n_samples, start=start, n_wanted=end - start)
            np.testing.assert_allclose(part, trained[start:end], rtol=0, atol=1e-6)
    for location in (MediaLocation(path), doors[3]):
        assert isinstance(location, MediaLocation)
        loaded = load_waveform(location, place=PLACE, n_samples=n_samples)
        np.testing.assert_array_equal(loaded, expected.astype(np.float32))
    (recording,) = open_source([path]).recordings.values()
    np.testing.assert_array_equal(recording.waveform(), expected.astype(np.float32))
    # What prepare writes when it converts; 16 bits are a coarser grid.
    flac, n_written = to_flac(decode(content))
    assert n_written == n_samples
    np.testing.assert_allclose(decode(flac).samples, expected, atol=2**-16)


LOSSLESS = (
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"),
    ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_24"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"),
    ("AU", "PCM_16"), ("CAF", "PCM_24"), ("CAF", "ALAC_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"),
)  # fmt: skip


@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_same_sound_is_the_same_in_every_lossless_container(tmp_path: Path, n_channels: int) -> None:
    """By path, from memory and from an archive; for preparation and training."""
    steps = np.random.default_rng(4).integers(-(2**15), 2**15, (4000, n_channels)).astype(np.int16)
    expected = (steps / 2**15).mean(axis=1)
    for kind, subtype in LOSSLESS:
        content = encode(steps / 2**15, kind=kind, subtype=subtype)
        path = write(tmp_path / "speech", content)
        write(tmp_path / "speech.zip", b"before" + content + b"behind")
        for door in (content, path, MediaLocation(tmp_path / "speech.zip", 6, len(content))):
            np.testing.assert_array_equal(decode(door).samples, expected, f"{kind} {subtype}")
            np.testing.assert_array_equal(decode_part(door, n_samples=4000), expected.astype(np.float32))


def test_channels_are_averaged() -> None:
    one, two = speech(1), speech(2)
    found = decode(encode(np.stack([one, two], axis=1), subtype="DOUBLE", rate=44_100))
    assert found.rate == 44_100
    np.testing.assert_allclose(found.samples, (one + two) / 2, atol=1e-12)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_mp3_without_xing_is_read_to_its_end(rate: int) -> None:
    content = mp3(speech(1, seconds=5, rate=rate), rate)
    bare = content[content.index(content[:2], 4) :]
    n_samples = 5 * rate
    assert decode(content).samples.shape == (n_samples,)
    found = inspect(bare)
    assert found.length_from == "frames"
    assert n_samples <= found.n_samples <= n_samples + 3 * 1152  # and what the encoder put around it
    assert len(decode(bare).samples) == found.n_samples


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_an_mp3_with_a_wrong_xing_header_is_read_to_its_end_or_called_cut(share: float) -> None:
    content = mp3(speech(1, seconds=5))
    at = content.index(b"Xing") + 8
    n_frames = int.from_bytes(content[at : at + 4], "big")
    low = content[:at] + round(n_frames * 0.3).to_bytes(4, "big") + content[at + 4 :]
    np.testing.assert_array_equal(decode(low).samples, decode(content).samples)
    high = content[:at] + (n_frames + 1).to_bytes(4, "big") + content[at + 4 :]
    assert codes(inspect, high) == ("sound.cut",)


def test_the_length_of_a_flac_is_that_of_its_last_frame() -> None:
    content = with_flac_samples(encode(speech(1, seconds=3), kind="FLAC"), 0)
    assert inspect(content) == sound.SoundInfo(16_000, 1, 48_000, "frames")


def test_chained_streams_are_one_recording() -> None:
    parts = [
        decode(encode(speech(number, seconds=0.5), kind="OGG", subtype="VORBIS")).samples for number in (1, 2)
    ]
    np.testing.assert_allclose(decode(chained()).samples, np.concatenate(parts), atol=1e-6)
    other = encode(speech(1, rate=8000), kind="OGG", subtype="VORBIS", rate=8000)
    assert codes(decode, chained() + other) == ("sound.chained",)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file.empty"),
        (b"not a sound", "sound.unreadable"),
        (b"RIFF" + bytes(40), "sound.unreadable"),
        (b"fLaC", "sound.unreadable"),
        (b"OggS" + bytes(50), "sound.unreadable"),
        (encode(np.empty(0)), "sound.empty"),
        (encode(np.zeros(400)), "sound.silent"),
        (encode(np.full(400, 0.5)), "sound.silent"),
        (encode(np.stack([speech(1), -speech(1)], axis=1)), "sound.channels_cancel"),
        (encode(np.where(np.arange(400) == 7, np.nan, speech(1)[:400]), subtype="FLOAT"), "sound.not_finite"),
        (encode(np.where(np.arange(400) == 7, np.inf, speech(1)[:400]), subtype="FLOAT"), "sound.not_finite"),
        (with_data_length(encode(speech(1)), 90_000), "sound.cut"),
        (with_data_length(encode(speech(1)), 100), "sound.length"),
        (with_flac_samples(encode(speech(1), kind="FLAC"), 9_000), "sound.unreadable"),
        (encode(speech(1, seconds=9), kind="FLAC")[:40_000], "sound.unreadable"),
        (encode(speech(1, seconds=9), kind="OGG", subtype="VORBIS")[:-4000], "sound.cut"),
        (encode(speech(1, seconds=9), kind="OGG", subtype="OPUS")[:-4000], "sound.cut"),
        (mp3(speech(1, seconds=9))[:-3000], "sound.cut"),
        (without_xing(mp3(speech(1, seconds=9)))[:-3000], "sound.cut"),
        (id3(encode(speech(1)))[:-100], "sound.cut"),
    ],
)
def test_what_cannot_be_used_has_a_code_for_everyone(content: bytes, code: str) -> None:
    n_samples = (
        len(soundfile.read(io.BytesIO(content))[0]) if code in ("sound.silent", "sound.not_finite") else 4000
    )
    assert codes(decode, content) == (code,)
    assert code in faults(content, n_samples) or "sound.n_samples" in faults(content, n_samples)
    assert codes(decode_part, content, n_samples=n_samples) in ((code,), ("sound.n_samples",))


def with_rate(wave: bytes, rate: int) -> bytes:
    return wave[:24] + struct.pack("<I", rate) + wave[28:]


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_impossible_rates_are_refused_before_they_cost_anything(rate: int) -> None:
    content = with_rate(encode(speech(1), rate=22_050), rate)
    assert codes(decode, content) == codes(inspect, content) == ("sound.rate_limits",)


def test_what_would_be_too_long_at_16_khz_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_SAMPLES", 40_000)
    assert len(decode(encode(speech(1), rate=22_050)).samples) == 4000
    assert codes(decode, with_rate(encode(speech(1), rate=22_050), 1000)) == ("sound.too_long",)


def test_too_many_channels_are_refused() -> None:
    assert codes(decode, encode(np.tile(speech(1)[:, None], (1, 65)))) == ("sound.channels",)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_long_speech_is_not_decoded(monkeypatch: pytest.MonkeyPatch, n_channels: int) -> None:
    monkeypatch.setattr(sound, "MAX_SAMPLES", 3_000)
    content = encode(np.stack([speech(1)] * n_channels, axis=1), kind="FLAC")
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *args, **settings: pytest.fail("it was decoded"))
    assert codes(decode, content) == ("sound.too_long",)


def test_decoding_stops_at_the_limit_whatever_the_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_SAMPLES", 3_000)
    n_read = []

    def read_on(self: soundfile.SoundFile, frames: int, **settings: Any) -> Any:
        n_read.append(500)
        return np.ones((n_read[-1], 1))

    monkeypatch.setattr(soundfile.SoundFile, "read", read_on)
    assert codes(decode, encode(speech(1)[:10], subtype="FLOAT")) == ("sound.too_long",)
    assert sum(n_read) == 3_500


def test_speech_that_memory_does_not_hold_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: soundfile.SoundFile, *args: Any, **settings: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    assert codes(decode, encode(speech(1), subtype="FLOAT")) == ("sound.too_long",)


def test_missing_and_cut_files_are_named(tmp_path: Path) -> None:
    assert codes(decode, tmp_path / "none.wav") == ("file.unreadable",)
    write(tmp_path / "a.zip", b"123")
    assert codes(decode, MediaLocation(tmp_path / "a.zip", 0, 9)) == ("file.unreadable",)


def test_no_file_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for content in (encode(speech(1), kind="FLAC"), b"fLaC", b"OggS" + bytes(50), chained()):
        path = write(tmp_path / "speech", content)
        for _ in range(5):
            faults(content)
            assert [item.code for item in sound_faults(path, place=PLACE, n_samples=1)] == [
                item.code for item in sound_faults(content, place=PLACE, n_samples=1)
            ]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(("listed", "found"), [(1, 4000), (3999, 4000), (4001, 4000), (10**9, 4000)])
def test_another_length_than_listed(listed: int, found: int) -> None:
    content = encode(speech(1))
    assert faults(content, listed) == ["sound.n_samples"]
    assert codes(decode_part, content, n_samples=listed) == ("sound.n_samples",)


def test_all_problems_are_reported() -> None:
    content = encode(np.zeros(700), rate=8000)
    assert faults(content, 800) == ["sound.sample_rate", "sound.n_samples", "sound.silent"]


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_silence_is_the_lack_of_change(level: float) -> None:
    values = level + 1e-5 * np.sign(speech(1))
    assert faults(encode(values, subtype="FLOAT")) == ["sound.silent"]
    assert faults(encode(speech(1) * 1e-3, subtype="FLOAT")) == []


def test_another_rate_is_refused_where_it_matters() -> None:
    content = encode(speech(1), rate=44_100)
    assert decode(content).rate == 44_100
    assert codes(decode, content, rate=16_000) == ("sound.sample_rate",)
    assert codes(decode_part, content, n_samples=4000) == ("sound.sample_rate",)


def test_header_rate(tmp_path: Path) -> None:
    assert header_rate(write(tmp_path / "ж a.WAV", encode(speech(1), rate=44_100))) == 44_100
    assert header_rate(write(tmp_path / "b.wav", b"nothing")) is None
    assert header_rate(tmp_path / "missing.wav") is None
    # whose first frame is damaged: libsndfile finds no other
    content = mp3(speech(1, seconds=2, rate=44_100), 44_100)
    odd = write(tmp_path / "c.mp3", content[:60] + content[82:])
    assert header_rate(odd) == decode(odd).rate == 44_100
    mixed = write(tmp_path / "d.mp3", content[: content.index(content[:2], 4)] + mp3(speech(1, seconds=2)))
    assert header_rate(mixed) == decode(mixed).rate == 16_000
