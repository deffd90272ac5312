"""Every fault kind in an otherwise sound folder: the right line, the right words, and nothing else."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.faults import check_folder

from fairseq_vgs.manifest.check import inspect_folder

TEST_WAVE = "сцены и слова/4.wav"
TEST_PICTURE = "сцены и слова/4.png"


def found(data: Any, **kwargs: Any) -> list[str]:
    return [str(item) for item in check_folder(data.path, **kwargs)]


def only(data: Any, start: str, **kwargs: Any) -> None:
    faults = found(data, **kwargs)
    assert len(faults) == 1, faults
    assert faults[0].startswith(start), faults


@pytest.mark.parametrize("read_media", [True, False])
def test_a_sound_folder_has_no_faults(data: Any, read_media: bool) -> None:
    report = inspect_folder(data.path, read_media=read_media)
    assert report.faults == []
    assert report.notes == []
    assert report.counts["all"] == {"utterances": 6, "pairs": 6, "images": 6, "regions": 6}
    assert report.counts["splits"]["test"] == {"utterances": 2, "samples": 1600, "pairs": 2}
    assert report.media_read == read_media


def test_it_may_be_moved_and_named_by_text(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.move(data.path, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert check_folder(moved) == check_folder("elsewhere") == []  # type: ignore[arg-type]


def test_windows_line_ends_are_read(data: Any) -> None:
    for path in data.path.glob("*.tsv"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert found(data) == []


def test_progress_counts_all_media(data: Any) -> None:
    calls: list[tuple[int, int]] = []
    check_folder(data.path, progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (1, 12)
    assert calls[-1] == (12, 12)


def test_no_folder_and_an_empty_folder(tmp_path: Path) -> None:
    missing, empty = check_folder(tmp_path / "none")[0], check_folder(tmp_path)[0]
    assert (missing.place, missing.code) == (str(tmp_path / "none"), "folder.missing")
    assert (empty.place, empty.code) == (str(tmp_path), "file.missing")


def test_speech_alone_needs_no_pairs(data: Any) -> None:
    for path in [*data.path.glob("*.pairs.tsv"), data.path / "images.tsv", *data.path.glob("regions.*")]:
        path.unlink()
    assert found(data) == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("valid.pairs.tsv", "valid.pairs.tsv"),
        ("images.tsv", "images.tsv"),
        ("regions.tsv", "regions.tsv"),
        ("regions.npy", "regions.npy"),
        ("p.tar", "images.tsv:3"),
        ("speech.zip", "train.tsv:2"),
        (TEST_WAVE, "test.tsv:2"),
        (TEST_PICTURE, "images.tsv:7"),
    ],
)
@pytest.mark.parametrize("read_media", [True, False])
def test_missing_files(data: Any, name: str, place: str, read_media: bool) -> None:
    (data.path / name).unlink()
    code = "archive.missing" if name in ("p.tar", "speech.zip") else "file.missing"
    found = check_folder(data.path, read_media=read_media)
    assert [(fault.place, fault.code) for fault in found] == [(place, code)]


def test_pairs_without_their_audio_list(data: Any) -> None:
    (data.path / "valid.tsv").unlink()
    assert [line.partition("; ")[0] for line in found(data)] == [
        f"{data.path / 'valid.tsv'}: file is missing"
    ]


def test_a_missing_root(data: Any) -> None:
    data.set_line("train.tsv", 1, "nowhere")
    only(data, f"train.tsv:1: root folder must exist, got '{data.path / 'nowhere'}'; ")


@pytest.mark.parametrize("read_media", [True, False])
def test_a_truncated_archive(data: Any, read_media: bool) -> None:
    end = sum(int(part) for part in data.lines("train.tsv")[2].split("\t")[0].split(":")[1:])
    archive = data.path / "speech.zip"
    archive.write_bytes(archive.read_bytes()[: end - 1])
    only(data, f"train.tsv:3: {archive}: archive must hold bytes", read_media=read_media)


def break_wave(make: Callable[[Any], bytes]) -> Callable[[Any, Any], None]:
    return lambda data, tools: (data.path / TEST_WAVE).write_bytes(make(tools)) and None


BROKEN_WAVES = {
    "file must not be empty, got 0 bytes": break_wave(lambda tools: b""),
    "audio must be readable, got ": break_wave(lambda tools: b"noise"),
    "sample rate must be 16000 Hz, got 8000 Hz": break_wave(
        lambda tools: tools.wave(tools.noise(9), rate=8000)
    ),
    "n_samples must be the audio's 801 samples, got 800": break_wave(
        lambda tools: tools.wave(tools.noise(9, 801))
    ),
    "samples must be finite, got 800": break_wave(
        lambda tools: tools.wave(np.full(800, np.nan), subtype="FLOAT")
    ),
    "audio must not be silent": break_wave(lambda tools: tools.wave(np.zeros(800))),
}


@pytest.mark.parametrize("message", BROKEN_WAVES)
def test_broken_audio(data: Any, tools: Any, message: str) -> None:
    BROKEN_WAVES[message](data, tools)
    only(data, f"test.tsv:2: {message}")
    assert found(data, read_media=False) == []


def test_broken_pictures(data: Any, tools: Any) -> None:
    (data.path / TEST_PICTURE).write_bytes(b"x")
    only(data, "images.tsv:7: picture must decode, got ")
    (data.path / TEST_PICTURE).write_bytes(tools.picture(9, width=9))
    only(data, "images.tsv:7: width and height must be the picture's 9 x 6, got 8 x 6; ")


def test_broken_features(data: Any) -> None:
    features = np.ones((6, 4), np.float16)
    features[5, 0] = np.inf
    np.save(data.path / "regions.npy", features)
    only(data, "regions.npy row 5: features must be finite")
    np.save(data.path / "regions.npy", np.ones((5, 4), np.float16))
    only(data, "regions.tsv:7: feature_row must be below the 5 rows of regions.npy, got 5; ")
    np.save(data.path / "regions.npy", np.array([None]), allow_pickle=True)
    only(data, "regions.npy: must be a whole .npy file of numbers")


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [("{", "json.syntax", "summary.json: character 2"), ("[]", "json.kind", "summary.json")],
)
def test_a_broken_summary(data: Any, text: str, code: str, place: str) -> None:
    (data.path / "summary.json").write_text(text)
    assert [(f.code, f.place) for f in check_folder(data.path)] == [(code, f"{data.path}/{place}")]


@pytest.mark.parametrize(
    ("name", "line", "index", "text", "start"),
    [
        (
            "train.pairs.tsv",
            3,
            0,
            "ghost.wav",
            "train.pairs.tsv:3: audio_id must be in train.tsv, got 'ghost.wav'; ",
        ),
        (
            "train.pairs.tsv",
            3,
            1,
            "ghost",
            "train.pairs.tsv:3: image_id must be in images.tsv, got 'ghost'; ",
        ),
        ("regions.tsv", 4, 2, "-0.5", "regions.tsv:4: x0 must be a number in [0, 1], got '-0.5'; "),
        ("regions.tsv", 4, 4, "0.0", "regions.tsv:4: box must have x0 < x1 and y0 < y1, got '0 0.25 0 1'; "),
        (
            "regions.tsv",
            4,
            1,
            "6",
            "regions.tsv:4: feature_row must be below the 6 rows of regions.npy, got 6; ",
        ),
        ("regions.tsv", 4, 1, "one", "regions.tsv:4: feature_row must be a row number"),
        ("images.tsv", 4, 2, "0", "images.tsv:4: width must be a positive integer, got '0'; "),
        ("images.tsv", 4, 1, "/etc/passwd", "images.tsv:4: path must be relative to the root, not absolute"),
        ("train.tsv", 2, 1, "12.5", "train.tsv:2: n_samples must be a positive integer, got '12.5'; "),
        ("test.pairs.tsv", 1, 3, "words", "test.pairs.tsv:1: header "),
    ],
)
def test_one_bad_field(data: Any, name: str, line: int, index: int, text: str, start: str) -> None:
    data.set_field(name, line, index, text)
    faults = found(data)
    assert faults[0].startswith(start), faults
    # A wrong column name is both a missing and an unknown column.
    assert len(faults) == (2 if line == 1 else 1), faults


def test_a_region_of_an_unknown_image(data: Any) -> None:
    number = data.add_line("regions.tsv", "ghost\t0\t0\t0\t1\t1")
    only(data, f"regions.tsv:{number}: image_id must be in images.tsv, got 'ghost'; ")


def test_an_image_without_regions(data: Any) -> None:
    data.set_line("regions.tsv", 7, data.lines("regions.tsv")[5].replace("\t4\t", "\t5\t"))
    only(data, "test.pairs.tsv:3: image must have regions in regions.tsv, got none for 'image 5'; ")


def test_images_without_pictures_need_regions(data: Any) -> None:
    for line in (3, 8):
        data.set_field("images.tsv", line, 1, "")
    assert found(data) == []
    for name in ("regions.tsv", "regions.npy"):
        (data.path / name).unlink()
    expected = "path must name a picture, or regions.tsv regions of the image, got neither; add one of them"
    assert found(data) == [f"images.tsv:3: {expected}", f"images.tsv:8: {expected}"]


@pytest.mark.parametrize("name", ["train.tsv", "train.pairs.tsv", "images.tsv", "regions.tsv"])
def test_duplicates(data: Any, name: str) -> None:
    last = data.lines(name)[-1]
    number = data.add_line(name, last)
    faults = found(data)
    assert len(faults) == 1
    assert faults[0].startswith(f"{name}:{number}: ")
    assert f"must appear only once in the file (first in line {number - 1})" in faults[0]


def test_an_audio_id_paired_twice(data: Any) -> None:
    audio_id = data.lines("train.tsv")[1].split("\t")[0]
    number = data.add_line("train.pairs.tsv", f"{audio_id}\timage 1\t\t")
    only(data, f"train.pairs.tsv:{number}: audio_id must appear only once in the file (first in line 2)")


def test_empty_splits(data: Any) -> None:
    (data.path / "valid.tsv").write_text(".\n")
    (data.path / "valid.pairs.tsv").write_text("audio_id\timage_id\tspeaker\ttext\n")
    faults = found(data)
    assert [line.partition("; ")[0] for line in faults] == [
        "valid.pairs.tsv:1: file must list at least one pair",
        "valid.tsv:1: file must list at least one utterance",
    ]


@pytest.mark.parametrize("name", ["train.tsv", "train.pairs.tsv", "images.tsv", "regions.tsv"])
def test_bytes_that_are_not_utf8(data: Any, name: str) -> None:
    path = data.path / name
    path.write_bytes(path.read_bytes() + b"\xff\xfe\n")
    number = path.read_bytes().count(b"\n")
    only(data, f"{name}:{number}: line must be UTF-8 text (it is not at byte 1)")


def test_the_same_recording_in_two_splits(data: Any) -> None:
    shutil.copy(data.path / "сцены и слова/2.wav", data.path / TEST_WAVE)
    only(
        data,
        "test.tsv:2: splits must not share audio, got the same audio as 'сцены и слова/2.wav' (valid.tsv:2)",
    )
    assert found(data, read_media=False) == []


def test_the_same_file_in_two_splits_is_found_without_reading(data: Any) -> None:
    data.set_line("test.tsv", 2, data.lines("valid.tsv")[1])
    data.set_field("test.pairs.tsv", 2, 0, "сцены и слова/2.wav")
    for read_media in (True, False):
        only(data, "test.tsv:2: splits must not share audio", read_media=read_media)


def test_the_same_image_in_two_splits(data: Any) -> None:
    data.set_field("test.pairs.tsv", 2, 1, "image 2")
    only(data, "test.pairs.tsv:2: splits must not share images, got image_id 'image 2' (valid.pairs.tsv:2); ")


def test_the_same_picture_in_two_splits(data: Any) -> None:
    shutil.copy(data.path / "сцены и слова/2.png", data.path / TEST_PICTURE)
    only(
        data,
        "test.pairs.tsv:2: splits must not share images, got 'image 4' with the same picture as 'image 2'",
    )


def test_the_same_group_in_two_splits(data: Any) -> None:
    data.set_field("images.tsv", 3, 4, "сова")
    data.set_field("images.tsv", 7, 4, "сова")
    only(
        data,
        "test.pairs.tsv:2: splits must not share groups of images, got 'image 4' and 'image 0' of group",
    )


def test_groups_within_a_split_are_fine(data: Any) -> None:
    data.set_field("images.tsv", 7, 4, "сова")
    data.set_field("images.tsv", 8, 4, "сова")
    assert found(data) == []


def test_all_faults_are_listed_file_by_file_in_the_order_of_lines(data: Any, tools: Any) -> None:
    data.set_field("train.tsv", 2, 1, "x")
    data.set_field("train.pairs.tsv", 3, 1, "ghost")
    data.set_field("regions.tsv", 7, 3, "2")
    (data.path / TEST_WAVE).write_bytes(tools.wave(np.zeros(700), rate=8000))
    (data.path / TEST_PICTURE).unlink()
    shutil.copy(data.path / "сцены и слова/3.wav", data.path / "сцены и слова/5.wav")
    places = [item.place for item in check_folder(data.path)]
    assert places == [
        "images.tsv:7",
        "regions.tsv:7",
        "test.tsv:2",
        "test.tsv:2",
        "test.tsv:2",
        "test.tsv:3",
        "train.pairs.tsv:3",
        "train.tsv:2",
    ]


def test_notes(data: Any) -> None:
    lines = data.lines("test.pairs.tsv")
    (data.path / "test.pairs.tsv").write_text("\n".join(lines[:2]) + "\n")
    (data.path / "valid.tsv").unlink()
    (data.path / "valid.pairs.tsv").unlink()
    shutil.copy(data.path / TEST_WAVE, data.path / "сцены и слова/5.wav")
    report = inspect_folder(data.path)
    assert report.faults == []
    assert report.notes == [
        "there is no valid.tsv",
        "images.tsv: 3 of 6 images are in no pair",
        "test.tsv: 1 utterances are copies of others in the same list",
        "test.tsv: 1 of 2 utterances are in no pair",
    ]


def test_threads_change_nothing(data: Any) -> None:
    (data.path / TEST_WAVE).write_bytes(b"")
    (data.path / TEST_PICTURE).unlink()
    one, many = (inspect_folder(data.path, jobs=jobs) for jobs in (1, 5))
    assert len(one.faults) == 2
    assert one == many
    assert one.n_media == 12
    assert one.bytes_read > 0


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_gives_faults_never_an_exception(data: Any, seed: int) -> None:
    rng = random.Random(seed)
    path = rng.choice(sorted(path for path in data.path.rglob("*") if path.is_file()))
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 6)):
        position = rng.randrange(len(content) + 1)
        inserted = rng.choice([b"", b"\t", b"\n", b"\r", b"\0", b"..", b"/", b":", b"-", b"\xff", b"9" * 19])
        content[position : position + rng.choice([0, 1, 30])] = inserted
    path.write_bytes(content)
    for item in check_folder(data.path):
        assert len(str(item).splitlines()) == 1
