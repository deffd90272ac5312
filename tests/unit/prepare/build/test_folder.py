from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.faults import check_folder, raises_fault
from support.small_corpus import SPLITS, build, entries, make_corpus
from support.tiny_speech import encode, speech, write
from support.tiny_stamps import folder_content

from fairseq_vgs.cli.summaries import summary_table
from fairseq_vgs.files import archives
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.location import read_bytes, resolve
from fairseq_vgs.manifest import read_audio_list, read_images, read_pairs, read_utterances
from fairseq_vgs.prepare.build import media as build_media
from fairseq_vgs.prepare.build.folder import build_folder
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpus import Caption, Corpus
from fairseq_vgs.regions.pictures import PictureRegions


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str, *, fail_at: int = 0) -> list[int]:
    """Count calls of a function; the given one raises as if the user had interrupted."""
    calls: list[int] = []
    real: Callable[..., object] = getattr(build_media, name)

    def counting(*args: Any, **kwargs: Any) -> object:
        calls.append(1)
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(build_media, name, counting)
    return calls


def test_sound_of_16_khz_stays_where_it_is(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    summary = build(corpus, tmp_path / "out")
    assert entries(tmp_path / "out") == sorted(
        [f"{split}{ending}" for split in SPLITS for ending in (".tsv", ".pairs.tsv")]
        + ["images.tsv", "summary.json"]
    )
    audio = read_audio_list(tmp_path / "out/train.tsv")
    assert audio.root == tmp_path / "audio"
    assert [(row.audio_id, row.n_samples) for row in audio.rows] == [
        ("спикер 0/0 ёж.WAV", 4000),
        ("спикер 1/1 ёж.WAV", 4000),
    ]
    images = read_images(tmp_path / "out/images.tsv")
    assert images.root == tmp_path / "pictures"
    assert {(row.width, row.height) for row in images.rows} == {(12, 8)}
    assert [pair.text for pair in read_pairs(tmp_path / "out/train.pairs.tsv")] == ["", "caption 1"]
    assert check_folder(tmp_path / "out") == []
    assert summary["files"]["converted"] == 0


def test_other_rates_convert_everything(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    odd = tmp_path / "audio" / corpus.captions[3].audio
    odd.write_bytes(encode(np.stack([speech(3, rate=44_100)] * 2, axis=1), rate=44_100))
    summary = build(corpus, tmp_path / "out", relative_root=True)
    audio = read_audio_list(tmp_path / "out/valid.tsv")
    assert audio.root == tmp_path / "out/speech"
    assert [row.audio_id for row in audio.rows] == ["спикер 0/2 ёж.flac", "спикер 1/3 ёж.flac"]
    assert (tmp_path / "out/valid.tsv").read_text("utf-8").startswith("speech\n")
    assert summary["files"]["converted"] == 6
    assert summary["converted"] == {"at 44100 Hz": 1, "at 16000 Hz already, because others are not": 5}
    assert list(summary_table(summary))[4] == (
        f"converted: 6 recordings to 16 kHz mono FLAC ({summary['resampler']}): 1 at 44100 Hz, "
        "5 at 16000 Hz already, because others are not"
    )
    assert summary["resampler"].split()[0] in ("scipy", "soxr")
    assert check_folder(tmp_path / "out") == []


def test_conversion_and_animated_pictures_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = make_corpus(tmp_path)
    frames = [Image.new("RGB", (12, 8), colour) for colour in ("red", "blue")]
    animated = corpus.pictures[1].path
    frames[0].save(tmp_path / "pictures" / animated, "GIF", save_all=True, append_images=frames[1:])
    summary = build(corpus, tmp_path / "out", convert="always")
    assert summary["converted"] == {"--convert always": 6}
    assert summary["files"]["animated_pictures"] == 1
    assert f"1 animated pictures: only the first frame is used ({animated}, ...)" in caplog.text


@pytest.mark.parametrize("pack", ["zip", "tar"])
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_packed_folders_can_be_moved(tmp_path: Path, pack: str, rate: int) -> None:
    summary = build(make_corpus(tmp_path, rate=rate), tmp_path / "out", pack=pack, relative_root=True)
    assert summary["files"]["archives"] == 2
    for name in ("audio", "pictures"):
        (tmp_path / name).rename(tmp_path / f"{name} gone")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert check_folder(tmp_path / "moved") == []
    assert entries(tmp_path / "moved/speech") == [f"speech-00000.{pack}"]
    assert read_audio_list(tmp_path / "moved/test.tsv").rows[0].audio_id.startswith(f"speech-00000.{pack}:")


def test_names_that_become_one_by_their_new_ending_stay_apart(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    write(tmp_path / "audio/x.wav", encode(speech(10)))
    write(tmp_path / "audio/x.flac", encode(speech(11), kind="FLAC"))
    captions = [Caption("x.wav", "train"), Caption("x.flac", "train")]
    build(replace(corpus, captions=captions, pictures=()), tmp_path / "out", convert="always")
    ids = [row.audio_id for row in read_audio_list(tmp_path / "out/train.tsv").rows]
    assert ids == ["x.wav.flac", "x.flac.flac"]
    assert check_folder(tmp_path / "out") == []


@pytest.mark.parametrize("pack", ["", "zip"])
@pytest.mark.parametrize(
    "names",
    [
        ("a.wav", "a.ogg", "a.wav.flac"),
        ("a.wav", "a.ogg", "a.wav.ogg", "a.wav.flac.wav", "a.wav.flac.ogg", "a.ogg.flac.flac"),
        ("a.wav", "a.flac/b.wav"),
        ("a.wav", "a.ogg", "a.wav.flac/b.wav"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_converted_recordings_never_share_a_name(
    tmp_path: Path, names: tuple[str, ...], pack: str, order: int
) -> None:
    for number, name in enumerate(names):
        write(tmp_path / "r" / name, encode(speech(number, seconds=0.1 + number / 100)))
    captions = [Caption(name, "train") for name in names[::order]]
    corpus = Corpus("tiny", tmp_path / "r", tmp_path / "r", captions)
    build(corpus, tmp_path / "out", convert="always", pack=pack)
    rows = read_audio_list(tmp_path / "out/train.tsv").rows
    assert [row.n_samples for row in rows][::order] == [1600 + 160 * number for number in range(len(names))]
    assert check_folder(tmp_path / "out") == []
    if not pack:
        files = [path for path in (tmp_path / "out/speech").rglob("*") if path.is_file()]
        assert len(files) == len({row.audio_id for row in rows}) == len(names)


def test_speech_alone_keeps_speakers_and_texts(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    captions = [replace(caption, image="") for caption in corpus.captions]
    build(replace(corpus, captions=captions, pictures=()), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.pairs.tsv"))
    assert not (tmp_path / "out/images.tsv").exists()
    row = read_utterances(tmp_path / "out/valid.utterances.tsv")[0]
    assert (row.audio_id, row.speaker, row.text) == ("спикер 0/2 ёж.WAV", "s0", "caption 2")
    assert check_folder(tmp_path / "out") == []


@pytest.mark.parametrize(
    "options", [{"convert": "always"}, {"pack": "zip"}, {"pack": "tar", "convert": "always"}]
)
@pytest.mark.parametrize("fail_at", [1, 4, 6])
def test_interrupted_work_is_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], fail_at: int
) -> None:
    corpus = make_corpus(tmp_path)
    build(corpus, tmp_path / "reference/out", **options)
    with monkeypatch.context() as patch:
        count_calls(patch, "decode", fail_at=fail_at)
        with pytest.raises(KeyboardInterrupt):
            build(corpus, tmp_path / "run/out", **options)
    assert not (tmp_path / "run/out").exists()
    calls = count_calls(monkeypatch, "decode")
    summary = build(corpus, tmp_path / "run/out", **options)
    assert len(calls) == 6 - (fail_at - 1)
    assert summary["files"]["finished_by_an_earlier_run"] == fail_at - 1
    assert entries(tmp_path / "run") == ["out"]
    reference, found = (folder_content(tmp_path / name / "out") for name in ("reference", "run"))
    for content in (reference, found):
        del content["summary.json"]
        for name in [name for name in content if name in {f"{split}.tsv" for split in SPLITS}]:
            content[name] = content[name].partition(b"\n")[2]
    assert found == reference


class Colours:
    """A network whose feature is the number of a picture's brightest pixel; may stop as if it was killed."""

    dim = 1

    def __init__(self, *, fail_at: int = 0) -> None:
        self.n_seen, self._fail_at = 0, fail_at

    def describe(self) -> dict[str, object]:
        return {"format": "colours"}

    def network_input(self, square: Image.Image) -> NDArray[np.uint8]:
        return np.array([np.asarray(square.convert("L")).argmax() % 256], np.uint8)

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float16]:
        self.n_seen += len(batch)
        if self._fail_at and self.n_seen >= self._fail_at:
            raise KeyboardInterrupt
        return batch.astype(np.float16)


def test_interrupted_regions_go_on_and_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path)
    build(corpus, tmp_path / "whole", regions=PictureRegions(Colours(), batch_size=1))
    for name in ("same", "other"):
        with pytest.raises(KeyboardInterrupt):
            build(corpus, tmp_path / name, regions=PictureRegions(Colours(fail_at=3), batch_size=1))
    calls = count_calls(monkeypatch, "decode")
    network = Colours()
    summary = build(corpus, tmp_path / "same", regions=PictureRegions(network, batch_size=1))
    assert (network.n_seen, len(calls)) == (1, 0)
    assert summary["regions"]["regions"] == 3
    assert entries(tmp_path / "same") == entries(tmp_path / "whole")
    assert (tmp_path / "same/regions.npy").read_bytes() == (tmp_path / "whole/regions.npy").read_bytes()
    # Without regions, and with other splits: what the first run had begun must not be in the way.
    captions = [replace(caption, split="train") for caption in corpus.captions]
    build(replace(corpus, captions=captions), tmp_path / "other")
    assert entries(tmp_path / "other") == ["images.tsv", "summary.json", "train.pairs.tsv", "train.tsv"]
    assert check_folder(tmp_path / "same") == check_folder(tmp_path / "other") == []


def test_a_recording_that_changed_in_between_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path)
    with monkeypatch.context() as patch:
        count_calls(patch, "decode", fail_at=5)
        with pytest.raises(KeyboardInterrupt):
            build(corpus, tmp_path / "out", pack="tar")
    first = tmp_path / "audio" / corpus.captions[0].audio
    first.write_bytes(encode(speech(50, seconds=0.5)))
    summary = build(corpus, tmp_path / "out", pack="tar")
    assert summary["files"]["finished_by_an_earlier_run"] == 3
    assert read_audio_list(tmp_path / "out/train.tsv").rows[0].n_samples == 8000
    assert check_folder(tmp_path / "out") == []


def test_a_converted_file_that_was_lost_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path)
    with monkeypatch.context() as patch:
        count_calls(patch, "decode", fail_at=5)
        with pytest.raises(KeyboardInterrupt):
            build(corpus, tmp_path / "out", convert="always")
    lost, cut, *_ = sorted((tmp_path / ".out.work/data/speech").rglob("*.flac"))
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    summary = build(corpus, tmp_path / "out", convert="always")
    assert summary["files"]["finished_by_an_earlier_run"] == 2
    assert check_folder(tmp_path / "out") == []


STORAGE = [
    {"convert": "always"},
    {"pack": "zip", "shard_bytes": 9000},
    {"pack": "tar", "shard_bytes": 1 << 20},
    {"pack": "zip", "convert": "always"},
]


def stored(folder: Path) -> dict[str, bytes]:
    """Return the bytes that each row of a folder names, by its caption's text."""
    found = {}
    for split in SPLITS:
        if (folder / f"{split}.tsv").exists():
            root = read_audio_list(folder / f"{split}.tsv").root
            for pair in read_pairs(folder / f"{split}.pairs.tsv"):
                found[pair.text] = read_bytes(resolve(root, pair.audio_id))
    return found


def bytes_below(folder: Path) -> int:
    """Count the bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def stopped(corpus: Corpus, output: Path, **options: Any) -> None:
    """Build until all recordings are stored; then a picture turns out to be faulty."""
    last = corpus.image_root / corpus.pictures[-1].path
    content = last.read_bytes()
    last.write_bytes(b"")
    with pytest.raises(FaultError):
        build(corpus, output, **options)
    write(last, content)


@pytest.mark.parametrize("options", STORAGE)
@pytest.mark.parametrize("withdrawn", [{0}, {1, 2}, {4, 5}, {0, 2, 5}])
def test_recordings_that_were_withdrawn_after_an_aborted_run_are_not_in_the_folder(
    tmp_path: Path, options: dict[str, Any], withdrawn: set[int]
) -> None:
    corpus = make_corpus(tmp_path)
    texts = [replace(caption, text=str(number)) for number, caption in enumerate(corpus.captions)]
    corpus = replace(corpus, captions=texts)
    left = replace(corpus, captions=[texts[number] for number in range(6) if number not in withdrawn])
    reference = build(left, tmp_path / "reference", **options)
    stopped(corpus, tmp_path / "out", **options)
    summary = build(left, tmp_path / "out", **options)
    assert summary["files"]["bytes_written"] == reference["files"]["bytes_written"]
    assert bytes_below(tmp_path / "out/speech") == bytes_below(tmp_path / "reference/speech")
    assert stored(tmp_path / "out") == stored(tmp_path / "reference")
    assert check_folder(tmp_path / "out") == []
    if options.get("pack") == "zip":
        names = [name for path in (tmp_path / "out/speech").iterdir() for name in ZipFile(path).namelist()]
        assert len(names) == 6 - len(withdrawn)


@pytest.mark.parametrize("options", STORAGE)
def test_a_recording_that_comes_back_is_not_taken_for_what_is_in_its_place_now(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    corpus = make_corpus(tmp_path)
    texts = [replace(caption, text=str(number)) for number, caption in enumerate(corpus.captions)]
    whole = replace(corpus, captions=texts)
    build(whole, tmp_path / "reference", **options)
    stopped(replace(corpus, captions=[*texts[:3], *texts[4:]]), tmp_path / "out", **options)
    stopped(replace(corpus, captions=texts[:4]), tmp_path / "out", **options)  # in the place of the last two
    build(whole, tmp_path / "out", **options)
    assert stored(tmp_path / "out") == stored(tmp_path / "reference")


@pytest.mark.parametrize("options", STORAGE)
def test_a_recording_that_changed_leaves_nothing_of_its_older_content(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    corpus = make_corpus(tmp_path)
    stopped(corpus, tmp_path / "out", **options)
    write(tmp_path / "audio" / corpus.captions[1].audio, encode(speech(50, seconds=0.3)))
    build(corpus, tmp_path / "reference", **options)
    build(corpus, tmp_path / "out", **options)
    assert bytes_below(tmp_path / "out/speech") == bytes_below(tmp_path / "reference/speech")
    assert stored(tmp_path / "out") == stored(tmp_path / "reference")


@pytest.mark.parametrize("options", STORAGE)
def test_recordings_of_a_picture_that_is_left_out_are_not_in_the_folder(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    corpus = make_corpus(tmp_path)
    left = replace(corpus, captions=corpus.captions[2:], pictures=corpus.pictures[1:])
    reference = build(left, tmp_path / "reference", **options)
    (corpus.image_root / corpus.pictures[0].path).write_bytes(b"")
    summary = build(corpus, tmp_path / "out", skip_bad=True, **options)
    assert summary["files"] == reference["files"]
    assert bytes_below(tmp_path / "out/speech") == bytes_below(tmp_path / "reference/speech")
    assert stored(tmp_path / "out") == stored(tmp_path / "reference")


def test_pictures_that_were_withdrawn_are_not_in_the_folder(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    stopped(corpus, tmp_path / "out", pack="zip")
    captions = [replace(caption, image="") for caption in corpus.captions]
    build(replace(corpus, captions=captions, pictures=()), tmp_path / "out", pack="zip")
    assert not (tmp_path / "out/pictures").exists()


@pytest.mark.parametrize("pack", ["zip", "tar"])
def test_a_run_that_ends_after_packing_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: str
) -> None:
    corpus = make_corpus(tmp_path)
    options: dict[str, Any] = {"pack": pack, "shard_bytes": 9000}
    stopped(corpus, tmp_path / "out", **options)
    left = replace(corpus, captions=corpus.captions[1:])
    build(left, tmp_path / "reference", **options)

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(archives, "remove_empty_folders", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(left, tmp_path / "out", **options)
    calls = count_calls(monkeypatch, "decode")
    build(left, tmp_path / "out", **options)
    assert len(calls) == 0
    assert stored(tmp_path / "out") == stored(tmp_path / "reference")
    assert bytes_below(tmp_path / "out/speech") == bytes_below(tmp_path / "reference/speech")


def test_a_movable_folder_must_hold_its_speech(tmp_path: Path) -> None:
    with raises_fault("setting.conflict"):
        build(make_corpus(tmp_path), tmp_path / "out", relative_root=True)


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, rate=8_000)
    contents = []
    for jobs in (1, 4):
        build(corpus, tmp_path / f"{jobs}/out", pack="zip", relative_root=True, jobs=jobs)
        contents.append(folder_content(tmp_path / f"{jobs}/out"))
    assert contents[0] == contents[1]


def test_progress_counts_every_file_twice(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    corpus = make_corpus(tmp_path)
    build_folder(
        corpus, tmp_path / "out", options=BuildOptions(), progress=lambda *counts: seen.append(counts)
    )
    assert seen[-1] == (18, 18)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_summary_tells_what_there_is(tmp_path: Path) -> None:
    corpus = replace(make_corpus(tmp_path), excluded={"known": ["b", "a"]}, checksums={"list": "ab"})
    summary = build(corpus, tmp_path / "out")
    assert summary["splits"]["train"] == {
        "recordings": 2,
        "pairs": 2,
        "images": 1,
        "speakers": 2,
        "with_text": 1,
        "hours": 0.0,
    }
    assert summary["speakers"] == 2
    assert summary["captions_per_image"] == {"2": 3}
    assert summary["seconds"]["mean"] == 0.25
    assert summary["seconds"]["histogram"]["0-1"] == sum(summary["seconds"]["histogram"].values()) == 6
    assert summary["excluded"] == {"known": {"count": 2, "items": ["a", "b"]}}
    assert summary["checksums"] == {"list": "ab"}


def test_finish_and_arrange_have_their_say(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    corpus = replace(corpus, captions=[replace(caption, split="") for caption in corpus.captions])

    def arrange(usable: Corpus, speech_prints: dict[str, str], picture_prints: dict[str, str]) -> Corpus:
        assert len(set(speech_prints.values())) == 6
        assert len(set(picture_prints.values())) == 3
        return replace(usable, captions=[replace(caption, split="test") for caption in usable.captions])

    def finish(folder: Path) -> dict[str, object]:
        (folder / "more.txt").write_text("x")
        return {"more": 1}

    summary = build_folder(corpus, tmp_path / "out", options=BuildOptions(), arrange=arrange, finish=finish)
    assert list(summary["splits"]) == ["test"]
    assert summary["more"] == 1
    assert (tmp_path / "out/more.txt").exists()


def test_a_rerun_says_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = make_corpus(tmp_path)
    with monkeypatch.context() as patch:
        count_calls(patch, "inspect_picture", fail_at=2)
        with pytest.raises(KeyboardInterrupt):
            build(corpus, tmp_path / "out")
    with caplog.at_level(logging.INFO):
        build(corpus, tmp_path / "out")
    assert "7 files were finished by an earlier run" in caplog.text
