"""Faults of a corpus: all are listed, and nothing is made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.faults import check_folder, raises_fault
from support.small_corpus import build, entries, make_corpus
from support.tiny_speech import encode, picture, with_data_length, write

from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.prepare.build.folder import build_folder
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpus import Corpus


def spoil(corpus: Corpus) -> None:
    """Break every recording but the last in its own way, and the second picture."""
    paths = [corpus.audio_root / caption.audio for caption in corpus.captions]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(with_data_length(paths[1].read_bytes(), 1 << 20))
    paths[2].write_bytes(encode(np.full(400, np.nan), subtype="FLOAT"))
    paths[3].write_bytes(encode(np.zeros(400)))
    (corpus.image_root / corpus.pictures[1].path).write_bytes(picture(1)[:60])


def test_all_faulty_media_are_listed_and_nothing_is_made(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    spoil(corpus)
    with pytest.raises(FaultError) as caught:
        build(corpus, tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["list:0", "list:1", "list:2", "list:3", "images:1"]
    for line, reason in zip(
        lines,
        [
            "empty file",
            "1048576 bytes of sound where the file holds 8000",
            "NaN",
            "silent",
            "unreadable picture",
        ],
        strict=True,
    ):
        assert reason in line
        assert "--skip-bad" in line
    assert not (tmp_path / "out").exists()


def test_faulty_media_are_left_out_on_demand_and_named(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    spoil(corpus)
    (corpus.audio_root / corpus.captions[5].audio).unlink()
    build(corpus, tmp_path / "out", skip_bad=True)
    summary = json.loads((tmp_path / "out/summary.json").read_text("utf-8"))
    names = [corpus.captions[number].audio for number in (0, 1, 2, 3, 5)]
    assert {reason: found["items"] for reason, found in summary["excluded"].items()} == {
        "empty file": names[:1],
        "speech that is cut short": names[1:2],
        "speech with NaN or infinite samples": names[2:3],
        "silent speech": names[3:4],
        "missing file": names[4:],
        "unreadable picture": [corpus.pictures[1].path],
    }
    assert entries(tmp_path / "out") == ["images.tsv", "summary.json", "test.pairs.tsv", "test.tsv"]
    assert summary["captions_per_image"] == {"0": 1, "1": 1}
    assert check_folder(tmp_path / "out") == []


def test_recordings_of_a_picture_that_is_left_out_go_with_it(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    (corpus.image_root / corpus.pictures[0].path).unlink()
    summary = build(corpus, tmp_path / "out", skip_bad=True)
    assert summary["excluded"]["recording of a picture that is left out"]["count"] == 2
    assert not (tmp_path / "out/train.tsv").exists()


def test_nothing_usable_is_said(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    for caption in corpus.captions:
        (corpus.audio_root / caption.audio).write_bytes(b"")
    with raises_fault("recording.missing") as caught:
        build(corpus, tmp_path / "out", skip_bad=True)
    assert "6: empty file" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_wrong_root_is_one_fault(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FaultError) as caught:
        build(replace(corpus, audio_root=tmp_path / "empty"), tmp_path / "out")
    assert len(caught.value.faults) == 1
    assert "must hold the 6 files that the corpus lists" in str(caught.value)
    with raises_fault("folder.missing"):
        build(replace(corpus, image_root=tmp_path / "missing"), tmp_path / "out")
    assert entries(tmp_path) == ["audio", "empty", "pictures"]


def test_links_are_followed_even_out_of_the_root(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    inside, outside = (tmp_path / "audio" / caption.audio for caption in corpus.captions[:2])
    inside.rename(tmp_path / "audio/real.wav")
    inside.symlink_to(tmp_path / "audio/real.wav")
    outside.rename(tmp_path / "elsewhere.wav")
    outside.symlink_to(tmp_path / "elsewhere.wav")
    build(corpus, tmp_path / "out")
    assert check_folder(tmp_path / "out") == []


def test_what_is_no_file_is_a_fault(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    path = tmp_path / "audio" / corpus.captions[0].audio
    path.unlink()
    path.mkdir()
    with raises_fault("file.unreadable", "list:0"):
        build(corpus, tmp_path / "out")


def test_faulty_names_do_not_hide_faulty_media(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = make_corpus(tmp_path)
    first, second = corpus.captions[:2]
    captions = [
        replace(first, audio="../escape.wav", place="list:1"),
        replace(first, audio="/absolute.wav", place="list:2"),
        replace(first, audio="a\tb.wav", place="list:3"),
        replace(first, image="unknown", place="list:4"),
        replace(first, place="list:5"),
        replace(second, split="images", place="list:6"),
        replace(second, audio="c.wav", split="", place="list:7"),
        replace(second, audio="a.zip:0:20", place="list:8"),
    ]
    (tmp_path / "audio" / second.audio).write_bytes(b"")
    write(tmp_path / "escape.wav", b"")
    with pytest.raises(FaultError) as caught:
        build(replace(corpus, captions=captions), tmp_path / "out")
    places = [f"list:{number}" for number in range(1, 9)]
    # Beside the names: a file that is missing, one that is empty; none that is not below the root.
    assert [fault.place for fault in caught.value.faults] == sorted([*places, "list:7", "list:6"])
    assert "empty file" in str(caught.value.faults[6])
    assert "no such file" in str(caught.value.faults[8])
    assert "list:1: audio path must stay below the root" in caplog.text
    assert "found 9 faults, the first; checking all other files" in caplog.text
    assert entries(tmp_path) == [".out.work", "audio", "escape.wav", "pictures"]


def test_text_that_utf_8_cannot_hold_is_a_fault_of_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = make_corpus(tmp_path)
    one, other, third, *rest = corpus.captions
    captions = [replace(one, text="a \ud800"), replace(other, speaker="\udfff"), third, *rest]
    captions = [replace(caption, image="") for caption in captions]
    captions[2] = replace(third, image="im\t1")
    with pytest.raises(FaultError) as caught:
        build(replace(corpus, captions=captions, pictures=()), tmp_path / "out", convert="always")
    assert "list:0: text must be text that UTF-8 can hold" in caplog.text  # before the media are worked on
    assert [(fault.place, fault.message.partition(",")[0]) for fault in caught.value.faults] == [
        ("list:0", "text must be text that UTF-8 can hold"),
        ("list:1", "speaker must be text that UTF-8 can hold"),
        ("list:2", "image id must not contain tabs"),
    ]


def test_missing_files_do_not_hide_faulty_ones(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    spoil(corpus)
    (corpus.audio_root / corpus.captions[5].audio).unlink()
    (corpus.image_root / corpus.pictures[0].path).unlink()
    with pytest.raises(FaultError) as caught:
        build(corpus, tmp_path / "out")
    places = ["list:0", "list:1", "list:2", "list:3", "list:5", "images:0", "images:1"]
    assert [fault.place for fault in caught.value.faults] == places
    assert not (tmp_path / "out").exists()


def test_faults_of_the_lists_are_raised_even_if_faulty_media_are_left_out(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    (corpus.audio_root / corpus.captions[0].audio).unlink()
    listed = Fault("list:9", "line must be read")
    with pytest.raises(FaultError) as caught:
        build_folder(corpus, tmp_path / "out", options=BuildOptions(skip_bad=True), faults=[listed])
    assert caught.value.faults == (listed,)
    assert not (tmp_path / "out").exists()


def test_never_converting_makes_other_rates_a_fault(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, rate=8_000)
    with raises_fault("sound.sample_rate") as caught:
        build(corpus, tmp_path / "out", convert="never")
    assert len(caught.value.faults) == 6
