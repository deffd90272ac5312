"""Every corpus as it may lie on a disk: odd names, links, gaps in lists, files that lie about themselves."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.corpus_trees import (
    COCO_RESTVAL,
    COCO_TRAIN,
    described_place,
    flickr_images,
    spoken,
    write_flickr8k,
    write_jpeg,
    write_places,
    write_spokencoco,
    write_wav,
)
from support.faults import check_folder
from support.tiny_speech import encode, picture, speech, with_data_length, write

from fairseq_vgs.cli.main import main

CORPORA = ("spokencoco", "flickr8k", "places", "librispeech", "pairs")
ROOT = "a корпус é"


@dataclass(frozen=True)
class Tree:
    """A corpus of one recording with an odd name that works, and of two more.

    Attributes:
        arguments: of ``prepare``, without the output.
        audio: the three recordings.
        places: where the corpus lists the last two of them.
        image: a picture; None where there are none.
        break_list: spoils an entry of the lists that is none of these; returns its place.
    """

    arguments: list[str]
    audio: list[Path]
    places: list[str]
    image: Path | None
    break_list: Callable[[], str]


def spokencoco(folder: Path) -> Tree:
    odd = {"wav": "wavs/val/ё ж/é 1.WAV", "text": "", "note": 1}
    captions = [spoken(COCO_RESTVAL, number=number, **(odd if not number else {})) for number in range(3)]
    image = COCO_RESTVAL.replace(".jpg", ".JPG")
    train = [{"image": COCO_TRAIN, "captions": [spoken(COCO_TRAIN, number=9)], "licence": 3}]
    val = [{"image": image, "captions": captions}, {"image": "val2014/no caption.jpg", "captions": []}]
    root = write_spokencoco(folder, train, val, media=True)

    def break_list() -> str:
        del val[1]["captions"]
        write_spokencoco(folder, train, val)
        return "SpokenCOCO_val.json: data[1]"

    places = [f"SpokenCOCO_val.json: data[0].captions[{number}]" for number in (1, 2)]
    arguments = ["spokencoco", str(root), "--images", str(root), "--split", "paper"]
    return Tree(arguments, [root / item["wav"] for item in captions], places, root / image, break_list)


def flickr8k(folder: Path) -> Tree:
    root = write_flickr8k(folder, [flickr_images(split, 1)[0] for split in ("train", "dev")], media=True)
    lists = root / "flickr_audio/wav2capt.txt"
    names = [line.split()[0] for line in lists.read_text().splitlines()]
    upper = names[0].replace(".wav", ".WAV")
    (root / "flickr_audio/wavs" / names[0]).rename(root / "flickr_audio/wavs" / upper)
    lists.write_text(lists.read_text().replace(names[0], upper))
    texts = root / "Flickr8k_text/Flickr8k.token.txt"
    first, *others = texts.read_text().splitlines()
    texts.write_text("\n".join([others[0].replace("A dog", "Ein Dackel, größer"), *others[1:], ""]), "utf-8")
    assert first.startswith(Path(names[0]).stem[:-2])

    def break_list() -> str:
        lists.write_text(lists.read_text() + "x.wav y.jpg 1\n")
        return "wav2capt.txt:5"

    audio = [root / "flickr_audio/wavs" / name for name in (upper, *names[1:3])]
    image = root / "Flicker8k_Dataset" / flickr_images("train", 1)[0]
    return Tree(["flickr8k", str(root)], audio, ["wav2capt.txt:2", "wav2capt.txt:3"], image, break_list)


def places(folder: Path) -> Tree:
    odd = described_place(1, "b/bad lands/é ё.JPG", wav="wavs/ж 1/é 1.WAV", note=2)
    del odd["asr_text"]
    train = [odd, described_place(2), described_place(3)]
    root = write_places(folder, train=train, media=True)

    def break_list() -> str:
        path = root / "metadata/test_seen_2020.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "data": [*content["data"], "wavs/x.wav"]}))
        return "test_seen_2020.json: data[1]"

    listed = [f"train_2020.json: data[{number}]" for number in (1, 2)]
    arguments = ["places", str(root), "--images", str(root / "images")]
    audio = [root / entry["wav"] for entry in train]
    return Tree(arguments, audio, listed, root / "images" / odd["image"], break_list)


def librispeech(folder: Path) -> Tree:
    home = folder / "LibriSpeech/dev-clean/84/121123"
    names = [f"84-121123-000{number}" for number in range(3)]
    audio = [home / f"{names[0]}.FLAC", home / f"{names[1]}.wav", home / f"{names[2]}.wav"]
    for number, path in enumerate(audio):
        write(path, encode(speech(number), kind="FLAC" if not number else "WAV"))
    transcript = write(home / "84-121123.trans.txt", f"{names[1]} DON'T É Ё\n{names[2]} GO\n".encode())

    def break_list() -> str:
        transcript.write_text(transcript.read_text("utf-8") + "85-1-0000 OF ANOTHER\n", "utf-8")
        return "dev-clean/84/121123/84-121123.trans.txt:3"

    listed = [path.relative_to(folder / "LibriSpeech").as_posix() for path in audio[1:]]
    return Tree(["librispeech", str(folder)], audio, listed, None, break_list)


def pairs(folder: Path) -> Tree:
    audio = [folder / name for name in ("звук 1/é.WAV", "2.wav", "3.wav")]
    for number, path in enumerate(audio):
        write_wav(path, number)
    image = folder / "p/é ё.JPEG"
    write_jpeg(image)
    rows = ["audio,image,text,mood", "звук 1/é.WAV,p/é ё.JPEG,,x", "2.wav,p/é ё.JPEG,ё,", "3.wav,,,"]
    table = write(folder / "my table.CSV", "\n".join(rows).encode())

    def break_list() -> str:
        table.write_text("\n".join([*rows, "4.wav"]), "utf-8")
        return "my table.CSV:5"

    arguments = ["pairs", str(table), "--valid-share", "0", "--test-share", "0"]
    return Tree(arguments, audio, ["my table.CSV:3", "my table.CSV:4"], image, break_list)


MAKERS = {maker.__name__: maker for maker in (spokencoco, flickr8k, places, librispeech, pairs)}


def make(corpus: str, folder: Path) -> Tree:
    """Write a corpus whose first recording and picture are links to files elsewhere."""
    tree = MAKERS[corpus](folder / ROOT)
    if tree.image is not None:
        write_jpeg(tree.image.with_name("no caption.jpg"), 5)
    for number, path in enumerate((tree.audio[0], tree.image)):
        if path is not None:
            moved = folder / f"elsewhere {number}"
            path.rename(moved)
            path.symlink_to(os.path.relpath(moved, path.parent) if number else moved)
    return tree


def command(tree: Tree, folder: Path, *options: str) -> list[str]:
    corpus, source, *rest = tree.arguments
    return ["prepare", corpus, source, str(folder / "out é"), *rest, *options]


@pytest.mark.parametrize("options", [(), ("--pack", "zip"), ("--convert", "always")], ids=" ".join)
@pytest.mark.parametrize("corpus", CORPORA)
def test_odd_names_links_and_gaps_are_fine(tmp_path: Path, corpus: str, options: tuple[str, ...]) -> None:
    tree = make(corpus, tmp_path)
    assert main(command(tree, tmp_path, *options)) == 0
    assert check_folder(tmp_path / "out é") == []
    summary = json.loads((tmp_path / "out é/summary.json").read_text("utf-8"))
    counts = summary["splits"].values()
    n_recordings = sum(split["recordings"] for split in counts)
    assert n_recordings >= 3
    # At least one has no text, and one has.
    assert 0 < sum(split["with_text"] for split in counts) < n_recordings
    assert summary["excluded"] == {}


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_wav_whose_header_lies_is_the_one_fault_or_left_out(
    tmp_path: Path, corpus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make(corpus, tmp_path)
    lying = tree.audio[1]
    lying.write_bytes(with_data_length(lying.read_bytes(), 1 << 20))
    assert main(command(tree, tmp_path)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "--skip-bad" in line]
    assert line.startswith(f"{tree.places[0]}: ")
    assert "1048576 bytes of sound where the file holds" in line
    assert not (tmp_path / "out é").exists()
    assert main(command(tree, tmp_path, "--skip-bad")) == 0
    summary = json.loads((tmp_path / "out é/summary.json").read_text("utf-8"))
    assert summary["excluded"]["speech that is cut short"]["count"] == 1
    assert lying.name in summary["excluded"]["speech that is cut short"]["items"][0]
    assert check_folder(tmp_path / "out é") == []


@pytest.mark.parametrize("corpus", CORPORA)
def test_faults_of_lists_paths_and_media_are_a_line_each_and_nothing_is_made(
    tmp_path: Path, corpus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make(corpus, tmp_path)
    tree.audio[1].write_bytes(b"")
    if corpus == "librispeech":  # what is not there is not listed, but in the transcripts
        tree.audio[2].write_bytes(b"no sound")
    else:
        tree.audio[2].unlink()
    place = tree.break_list()
    assert main(command(tree, tmp_path)) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "checking all other files" not in line]
    for expected in (place, *tree.places):
        assert len([line for line in lines if line.startswith(f"{expected}: ")]) == 1, expected
    assert len([line for line in lines if "; " in line and "must" in line]) == 3
    assert captured.out == ""
    assert not (tmp_path / "out é").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {ROOT, "elsewhere 0", "elsewhere 1", ".out é.work"}


def test_a_killed_run_is_gone_on_with(tmp_path: Path) -> None:
    n_files = 400
    rows = ["audio,image"]
    for number in range(n_files):
        write(tmp_path / f"in/{number}.wav", encode(speech(number, seconds=2, rate=44_100), rate=44_100))
        rows.append(f"{number}.wav,p.png")
    write(tmp_path / "in/p.png", picture(1))
    table, out = write(tmp_path / "in/t.csv", "\n".join(rows).encode()), tmp_path / "out"
    arguments = ["prepare", "pairs", str(table), str(out), "--pack", "tar", "--jobs", "1"]
    arguments += ["--valid-share", "0", "--test-share", "0"]
    code = f"from fairseq_vgs.cli.main import main; main({arguments!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    journal = tmp_path / ".out.work/journal.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not (journal.exists() and journal.read_bytes().count(b"\n") > 20):
            assert process.poll() is None
            assert time.monotonic() < deadline, shlex.join(arguments)
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    n_finished = journal.read_bytes().count(b"\n") - 1
    assert not out.exists()
    assert main(arguments) == 0
    summary = json.loads((out / "summary.json").read_text())
    # The one that was being written when it was killed may lack its archive's end, and is then done again.
    assert n_finished - 1 <= summary["files"]["finished_by_an_earlier_run"] <= n_finished < n_files
    assert check_folder(out) == []
    assert not (tmp_path / ".out.work").exists()
