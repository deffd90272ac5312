from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from fairseq_vgs.media.inspection import (
    PICTURE_FORMATS,
    audio_problems,
    media_digest,
    non_finite_rows,
    open_features,
    open_picture,
    picture_problems,
)


def only(problems: list[str]) -> str:
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize(
    ("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]
)
def test_sound_audio_has_no_problems(tools: Any, kind: str, subtype: str) -> None:
    data = tools.wave(tools.noise(0), kind=kind, subtype=subtype)
    assert audio_problems(data, n_samples=800) == []


def test_stereo_counts_samples_per_channel(tools: Any) -> None:
    assert audio_problems(tools.wave(np.stack([tools.noise(0), tools.noise(1)], axis=1)), n_samples=800) == []


@pytest.mark.parametrize("data", [b"not audio at all", b"RIFF" + bytes(40), b"fLaC", b"OggS" + bytes(50)])
def test_unreadable_audio(data: bytes) -> None:
    assert only(audio_problems(data, n_samples=800)).startswith("audio must be readable, got '")


def test_empty_audio(tools: Any) -> None:
    assert only(audio_problems(b"", n_samples=800)).startswith("audio must not be empty, got 0 bytes")
    assert only(audio_problems(tools.wave(tools.noise(0, 0)), n_samples=8)).startswith(
        "audio must not be empty, got 0 samples"
    )


def test_wrong_rate(tools: Any) -> None:
    problem = only(audio_problems(tools.wave(tools.noise(0), rate=44_100), n_samples=800))
    assert problem == "sample rate must be 16000 Hz, got 44100 Hz; resample and list it again"


@pytest.mark.parametrize("listed", [1, 799, 801, 10**9])
def test_wrong_length(tools: Any, listed: int) -> None:
    problem = only(audio_problems(tools.wave(tools.noise(0)), n_samples=listed))
    assert problem == f"n_samples must be the audio's 800 samples, got {listed}; rebuild the list"


def test_length_of_audio_much_longer_than_listed(tools: Any) -> None:
    data = tools.wave(tools.noise(0, 1_000_000))
    assert "the audio's 1000000 samples, got 800" in only(audio_problems(data, n_samples=800))


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("WAV", "PCM_16")])
def test_audio_cut_short(tools: Any, kind: str, subtype: str) -> None:
    data = tools.wave(tools.noise(0, 50_000), kind=kind, subtype=subtype)
    assert audio_problems(data[: len(data) // 2], n_samples=50_000)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(tools: Any, bad: float) -> None:
    values = tools.noise(0)
    values[[3, 700]] = bad
    problem = only(audio_problems(tools.wave(values, subtype="FLOAT"), n_samples=800))
    assert problem.startswith("samples must be finite, got 2 that are NaN or infinite")


def test_nothing_but_nan(tools: Any) -> None:
    data = tools.wave(np.full(800, np.nan, np.float32), subtype="FLOAT")
    assert only(audio_problems(data, n_samples=800)).startswith("samples must be finite, got 800")


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_silence_is_the_lack_of_change(tools: Any, level: float) -> None:
    values = np.full(800, level, np.float32) + 1e-5 * np.sign(tools.noise(0))
    problem = only(audio_problems(tools.wave(values, subtype="FLOAT"), n_samples=800))
    assert problem.startswith("audio must not be silent, got an amplitude of 1e-05 of full scale; ")


def test_quiet_is_not_silent(tools: Any) -> None:
    assert audio_problems(tools.wave(tools.noise(0) * 1e-3, subtype="FLOAT"), n_samples=800) == []


def test_several_problems_are_all_reported(tools: Any) -> None:
    assert len(audio_problems(tools.wave(np.zeros(700), rate=8000), n_samples=800)) == 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_sound_pictures_have_no_problems(tools: Any, kind: str) -> None:
    assert picture_problems(tools.picture(0, kind=kind), width=8, height=6) == []


def test_picture_of_another_size(tools: Any) -> None:
    problem = only(picture_problems(tools.picture(0), width=6, height=8))
    assert problem == "width and height must be the picture's 8 x 6, got 6 x 8; rebuild the table"


@pytest.mark.parametrize(
    "data", [b"not a picture", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n"]
)
def test_picture_that_does_not_decode(data: bytes) -> None:
    assert only(picture_problems(data, width=8, height=6)).startswith("picture must decode, got '")


def test_empty_picture() -> None:
    assert only(picture_problems(b"", width=8, height=6)).startswith("picture must not be empty, got 0 bytes")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_picture_cut_short(tools: Any, kind: str) -> None:
    data = tools.picture(0, width=64, height=64, kind=kind)
    assert only(picture_problems(data[: len(data) // 2], width=64, height=64)).startswith(
        "picture must decode"
    )


@pytest.mark.parametrize("limit", [40, 20])
def test_pictures_within_pillows_limit_only(tools: Any, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    # 48 pixels: above the limit Pillow warns, above twice the limit it refuses.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    problem = only(picture_problems(tools.picture(0), width=8, height=6))
    assert problem == f"picture must have at most {limit} pixels, got more; scale it down"


def test_threads_share_the_warning_filters(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the process's: changed by one thread, they may stay changed when another one restores them."""
    before, seen = list(warnings.filters), []

    def look(source: Any) -> Any:
        seen.append(list(warnings.filters))
        return open_picture(source)

    monkeypatch.setattr("fairseq_vgs.media.inspection.open_picture", look)
    assert picture_problems(tools.picture(0), width=8, height=6) == []
    assert seen == [before]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_beyond_the_limit_is_not_decoded(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("it was decoded"))
    problem = only(picture_problems(tools.picture(0), width=8, height=6))
    assert problem == "picture must have at most 40 pixels, got more; scale it down"


def test_a_digest_of_files_changes_with_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12")
    (tmp_path / "b.zip").write_bytes(b"123456")
    entries = ["a.png", "b.zip:0:2", "b.zip:2:2", "missing.png", ""]
    found = [media_digest(tmp_path, entries), media_digest(tmp_path, reversed(entries))]
    assert media_digest(tmp_path, entries) == found[0]
    for name in ("a.png", "b.zip"):
        os.utime(tmp_path / name, ns=(0, 1_000))
        found.append(media_digest(tmp_path, entries))
    (tmp_path / "a.png").write_bytes(b"123")
    os.utime(tmp_path / "a.png", ns=(0, 1_000))
    found.append(media_digest(tmp_path, entries))
    (tmp_path / "missing.png").touch()
    found.append(media_digest(tmp_path, entries))
    assert len(set(found)) == len(found)


def test_features(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.ones((3, 2), np.float16))
    features = open_features(tmp_path / "f.npy")
    assert isinstance(features, np.memmap)
    assert features.shape == (3, 2)
    assert non_finite_rows(features) == []


class Trap:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


def write_broken(path: Path, what: str) -> None:
    np.save(path, np.ones((30, 20), np.float16))
    whole = path.read_bytes()
    if what == "object":
        np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    elif what == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif what == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif what == "header":
        path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16)
    elif what == "zip":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(3))
    else:
        path.write_bytes({"empty": b"", "text": b"text"}[what])


@pytest.mark.parametrize("what", ["object", "pickle", "cut", "header", "empty", "text"])
def test_features_that_do_not_load(tmp_path: Path, what: str) -> None:
    write_broken(tmp_path / "f.npy", what)
    with pytest.raises(ValueError, match=r"must be a whole \.npy file of numbers, got ['\"]"):
        open_features(tmp_path / "f.npy")


def test_features_in_an_archive_of_several(tmp_path: Path) -> None:
    write_broken(tmp_path / "f.npy", "zip")
    with pytest.raises(ValueError, match=r"must be one \.npy array"):
        open_features(tmp_path / "f.npy")


def test_missing_features(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file is missing"):
        open_features(tmp_path / "f.npy")


@pytest.mark.parametrize("array", [np.ones((3, 2)), np.ones(3, np.float16), np.ones((0, 2), np.float16)])
def test_features_of_another_kind(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "f.npy", array)
    with pytest.raises(ValueError, match=r"must be float16 \[n_rows, D\], got float"):
        open_features(tmp_path / "f.npy")


def test_rows_that_are_not_finite_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairseq_vgs.media.inspection._BLOCK_VALUES", 4)
    features = np.ones((7, 2), np.float16)
    features[1, 0] = np.nan
    features[6, 1] = np.inf
    assert non_finite_rows(features) == [1, 6]


@pytest.mark.parametrize("kind", PICTURE_FORMATS)
def test_pictures_of_known_formats_open(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "picture", format=kind)
    assert open_picture(tmp_path / "picture").size == (3, 2)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "TGA", "ICO"])
def test_pictures_of_other_formats_do_not_open(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "picture", format=kind)
    with pytest.raises(UnidentifiedImageError):
        open_picture(tmp_path / "picture")
