"""Folders of audio files of any rate and format, read as prepared data would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.faults import raises_fault
from support.tiny_folder import noise

from fairseq_vgs.features.recordings import folder_digest, open_recordings, open_source
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.media import encode
from fairseq_vgs.media.encode import as_prepared, prepared_length, to_flac
from fairseq_vgs.media.sound import Sound, decode


def write(path: Path, *, rate: int, channels: int = 1, seconds: float = 0.5, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = noise(int(rate * seconds) * channels, seed=seed).reshape(-1, channels)
    soundfile.write(path, samples, rate)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "mine ü"
    write(root / "anna/1.flac", rate=44_100, channels=2, seed=1)
    write(root / "anna/2.MP3", rate=22_050, seed=2)
    write(root / "bob/1.ogg", rate=48_000, seed=3)
    write(root / "bob/deep er/1.wav", rate=16_000, seed=4)
    (root / "bob/notes.txt").write_text("x")
    write(root / ".trash/1.wav", rate=8_000)
    (root / "anna/._1.flac").write_bytes(b"of a Mac")
    return root


def test_waveforms_are_those_of_prepared_files(folder: Path, tmp_path: Path) -> None:
    found = open_recordings(folder)
    assert list(found) == ["anna/1", "anna/2", "bob/1", "bob/deep er/1"]
    assert list(open_source([folder]).recordings) == list(found)
    for name, one in found.items():
        prepared = tmp_path / "prepared.flac"
        prepared.write_bytes(to_flac(decode(one.location.path))[0])
        waveform = one.waveform()
        assert one.n_samples == len(waveform), name
        np.testing.assert_array_equal(waveform, decode(prepared).samples.astype(np.float32))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 12_345])
@pytest.mark.parametrize("n_samples", [1, 2, 441, 9_999, 10_000])
def test_lengths_are_known_without_decoding(rate: int, n_samples: int) -> None:
    made = as_prepared(Sound(noise(n_samples, seed=0).astype(np.float64), rate))
    assert prepared_length(n_samples, rate) == len(made)


def test_soxr_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # lengths of soxr 1.1.0, which need not be installed
    monkeypatch.setattr(encode, "_soxr", lambda: object())
    lengths = {(441, 44_100): 160, (1, 44_100): 0, (2, 44_100): 1, (9_999, 22_050): 7_256, (3, 16_000): 3}
    assert {given: prepared_length(*given) for given in lengths} == lengths


def test_one_name_in_two_formats_and_all_that_is_unreadable(folder: Path) -> None:
    write(folder / "anna/1.wav", rate=16_000)
    (folder / "bob/broken.wav").write_bytes(b"RIFF")
    Image.new("RGB", (8, 8)).save(folder / "bob/cat.mp3", format="PNG")
    with pytest.raises(FaultError) as caught:
        open_recordings(folder)
    found = {Path(item.place).name: item.code for item in caught.value.faults}
    assert found == {
        "1.wav": "recording.duplicate",
        "broken.wav": "sound.unreadable",
        "cat.mp3": "media.kind",
    }
    with raises_fault("media.kind"):
        open_source([folder / "bob/cat.mp3"])


@pytest.mark.parametrize("names", [[], ["a.jpg", "b.JPG", "c.txt"], [".hidden.wav"]])
def test_nothing_to_hear(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FaultError) as caught:
        open_recordings(tmp_path)
    assert caught.value.codes == ("folder.empty",)
    assert caught.value.faults[0].place == str(tmp_path)
    assert ("2 x .jpg, 1 x .txt" in str(caught.value)) == ("c.txt" in names)


def test_a_folder_changes_its_digest_with_names_and_lengths(folder: Path) -> None:
    before = folder_digest(open_recordings(folder))
    assert folder_digest(open_recordings(folder)) == before
    write(folder / "anna/1.flac", rate=44_100, channels=2, seconds=0.6)
    longer = folder_digest(open_recordings(folder))
    (folder / "anna/1.flac").rename(folder / "anna/3.flac")
    assert len({before, longer, folder_digest(open_recordings(folder))}) == 3
