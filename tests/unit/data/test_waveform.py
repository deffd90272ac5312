import numpy as np
import pytest
import soundfile
import torch
from support.tiny_folder import noise

from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.waveform import load_waveform, normalize_waveform
from fairseq_vgs.files.location import MediaLocation

PLACE = "train.tsv:7 (a.wav)"


def write(path, samples, rate=16_000, subtype="FLOAT"):
    soundfile.write(path, samples, rate, subtype=subtype)
    return MediaLocation(path)


def load(location, n_samples, **part):
    return load_waveform(location, place=PLACE, n_samples=n_samples, **part)


def test_reads_what_was_written(tmp_path):
    samples = noise(3000, seed=0)
    loaded = load(write(tmp_path / "a.wav", samples), 3000)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, samples)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_part_equals_that_part_of_the_whole(tmp_path, suffix):
    location = write(tmp_path / f"a.{suffix}", noise(20_000, seed=1), subtype=None)
    whole = load(location, 20_000)
    for start, n_wanted in ((0, 700), (9001, 4000), (19_000, 1000)):
        part = load(location, 20_000, start=start, n_wanted=n_wanted)
        np.testing.assert_allclose(part, whole[start : start + n_wanted], atol=1e-6)


def test_reads_a_slice_of_an_archive(tmp_path):
    samples = noise(2000, seed=2)
    content = write(tmp_path / "a.wav", samples).path.read_bytes()
    (tmp_path / "speech.tar").write_bytes(b"x" * 512 + content + b"y" * 99)
    location = MediaLocation(tmp_path / "speech.tar", 512, len(content))
    np.testing.assert_array_equal(load(location, 2000, start=50, n_wanted=60), samples[50:110])


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_those_of_libsndfile(tmp_path, subtype, suffix, channels):
    steps = np.random.default_rng(8).integers(-(2**15), 2**15, (4000, channels), dtype=np.int16)
    steps[0], steps[1] = -(2**15), 2**15 - 1
    path = tmp_path / f"a.{suffix}"
    location = write(path, steps, subtype=subtype)
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    content = path.read_bytes()
    (tmp_path / "speech.zip").write_bytes(b"x" * 30 + content + b"y" * 9)
    for found in (location, MediaLocation(tmp_path / "speech.zip", 30, len(content))):
        loaded = load(found, 4000)
        assert loaded.dtype == np.float32
        np.testing.assert_array_equal(loaded, expected.mean(axis=1, dtype=np.float32))
        np.testing.assert_array_equal(load(found, 4000, start=70, n_wanted=9), loaded[70:79])


@pytest.mark.parametrize("place", range(44))
@pytest.mark.parametrize("value", [0, 1, 2, 255])
def test_headers_are_read_as_libsndfile_does(tmp_path, place, value):
    """Any byte of a WAV's header changed: the same samples or the same fault, in an archive and outside."""
    path = write(tmp_path / "a.wav", noise(100, seed=9), subtype="PCM_16").path
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(content)
    found = []
    for location in (MediaLocation(path), MediaLocation(tmp_path / "speech.tar", 0, len(content))):
        (tmp_path / "speech.tar").write_bytes(content + b"z" * 500)
        try:
            found.append(load(location, 100).tolist())
        except BadItemError as error:
            found.append(str(error).partition("(Error")[0].replace("speech.tar:0:244", "a.wav"))
    assert found[0] == found[1]


def test_channels_are_averaged(tmp_path):
    stereo = np.stack([noise(500, seed=3), noise(500, seed=4)], axis=1)
    loaded = load(write(tmp_path / "a.wav", stereo), 500)
    np.testing.assert_allclose(loaded, stereo.mean(axis=1), atol=1e-7)


def test_normalizes_like_fairseq():
    samples = 0.3 + 5 * noise(4000, seed=5)
    expected = torch.nn.functional.layer_norm(torch.from_numpy(samples), (4000,)).numpy()
    normalized = normalize_waveform(samples)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized, expected, atol=1e-5)


def bad_files(tmp_path):
    samples = noise(1000, seed=6)
    with_nan = samples.copy()
    with_nan[500] = np.nan
    text = tmp_path / "text.wav"
    text.write_text("this is no audio")
    (tmp_path / "nothing.wav").write_bytes(b"")
    short = write(tmp_path / "short.flac", noise(50_000, seed=7), subtype=None).path
    short.write_bytes(short.read_bytes()[:40_000])
    content = write(tmp_path / "good.wav", samples).path.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[:300])
    return [
        ("file.unreadable", MediaLocation(tmp_path / "absent.wav"), 1000),
        ("sound.unreadable", MediaLocation(text), 1000),
        ("file.empty", MediaLocation(tmp_path / "nothing.wav"), 1000),
        ("sound.empty", write(tmp_path / "empty.wav", samples[:0]), 1000),
        ("sound.sample_rate", write(tmp_path / "rate.wav", samples, 8000), 1000),
        ("sound.not_finite", write(tmp_path / "nan.wav", with_nan), 1000),
        ("sound.silent", write(tmp_path / "zero.wav", np.zeros(1000, dtype=np.float32)), 1000),
        ("sound.silent", write(tmp_path / "constant.wav", np.full(1000, 0.2, dtype=np.float32)), 1000),
        ("sound.n_samples", write(tmp_path / "length.wav", samples), 999),
        ("file.unreadable", MediaLocation(tmp_path / "cut.zip", 0, len(content)), 1000),
        ("sound.unreadable", MediaLocation(short), 50_000),
    ]


def test_every_bad_file_is_named_with_its_line(tmp_path):
    for code, location, n_samples in bad_files(tmp_path):
        with pytest.raises(BadItemError) as caught:
            load(location, n_samples)
        assert [(item.place, item.code) for item in caught.value.faults] == [(PLACE, code)]
        assert "task.skip_bad=true" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_only_the_part_that_is_read_must_be_finite(tmp_path):
    samples = noise(1000, seed=8)
    samples[950] = np.nan
    location = write(tmp_path / "a.wav", samples)
    assert len(load(location, 1000, start=0, n_wanted=500)) == 500
    with pytest.raises(BadItemError) as caught:
        load(location, 1000, start=900, n_wanted=100)
    assert caught.value.codes == ("sound.not_finite",)


@pytest.mark.parametrize("level", [0.0, 0.2])
def test_a_part_may_be_a_pause(tmp_path, level):
    samples = noise(1000, seed=8)
    samples[900:] = level
    pause = load(write(tmp_path / "a.wav", samples), 1000, start=900, n_wanted=100)
    np.testing.assert_allclose(normalize_waveform(pause), np.zeros(100), atol=1e-4)
