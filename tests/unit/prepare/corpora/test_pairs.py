from __future__ import annotations

import logging
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.corpus_trees import read_corpus
from support.faults import check_folder, raises_fault
from support.tiny_speech import encode, picture, speech, write

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ManifestFolder, read_images, read_pairs
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora.pairs import Pairs, standard_split
from fairseq_vgs.regions.pictures import PictureRegions

N_IMAGES = 10


def make_table(folder: Path, *, columns: str = "audio,image,speaker,text", extra: str = "") -> Path:
    """Write two captions of each of ten pictures, and their table."""
    lines = [columns + extra]
    for number in range(2 * N_IMAGES):
        write(folder / f"звук/{number} a.wav", encode(speech(number)))
        write(folder / f"pics/{number // 2}.JPEG", picture(number // 2, kind="JPEG"))
        lines.append(f"звук/{number} a.wav,pics/{number // 2}.JPEG,s{number % 4},text {number}")
    return write(folder / "pairs.csv", "\n".join(lines).encode())


def prepare(table: Path, output: Path, **settings: object) -> dict[str, set[str]]:
    """Prepare a table; return the images of every split."""
    Pairs(**settings).prepare(table, output)
    return images_of(output)


def images_of(output: Path) -> dict[str, set[str]]:
    folder = ManifestFolder(output)
    return {split: {pair.image_id for pair in read_pairs(folder.pairs(split))} for split in folder.splits()}


def test_images_are_divided(tmp_path: Path) -> None:
    images = prepare(make_table(tmp_path), tmp_path / "out", valid_share=0.2, test_share=0.3)
    assert {split: len(found) for split, found in images.items()} == {"train": 5, "valid": 2, "test": 3}
    assert len(set.union(*images.values())) == N_IMAGES
    assert check_folder(tmp_path / "out") == []


def test_the_seed_decides_and_decides_alike(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    first, again, other = (prepare(table, tmp_path / f"{i}", seed=seed) for i, seed in enumerate((1, 1, 2)))
    assert first == again != other


def test_copies_of_pictures_are_one_group_in_one_split(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    for number in range(5):
        (tmp_path / f"pics/{number + 5}.JPEG").write_bytes((tmp_path / f"pics/{number}.JPEG").read_bytes())
    images = prepare(table, tmp_path / "out", valid_share=0.3, test_share=0.3)
    assert min(map(len, images.values())) >= 2
    for found in images.values():
        numbers = {int(name[5]) % 5 for name in found}
        assert found == {f"pics/{n}.JPEG" for n in numbers} | {f"pics/{n + 5}.JPEG" for n in numbers}
    groups = {row.image_id: row.group for row in read_images(tmp_path / "out/images.tsv").rows}
    assert groups["pics/7.JPEG"] == groups["pics/2.JPEG"] == "pics/2.JPEG"
    assert check_folder(tmp_path / "out") == []


def test_copies_of_recordings_stay_in_one_split(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    for number in range(0, 20, 2):  # the first caption of every image sounds like that of its neighbour
        source = tmp_path / f"звук/{number // 4 * 4} a.wav"
        (tmp_path / f"звук/{number} a.wav").write_bytes(source.read_bytes())
    images = prepare(table, tmp_path / "out", valid_share=0.3, test_share=0.3)
    for found in images.values():
        numbers = {int(name[5]) // 2 for name in found}
        assert found == {f"pics/{n}.JPEG" for pair in numbers for n in (2 * pair, 2 * pair + 1)}
    assert check_folder(tmp_path / "out") == []


def test_a_recording_in_two_wrappings_stays_in_one_split(tmp_path: Path) -> None:
    """Streams have numbers of their own, and headers notes: the sound counts, as in the check."""
    lines = ["audio,image"]
    for number in range(12):
        name = f"{number}.{'wav' if number % 2 else 'flac'}"
        samples = np.rint(speech(number // 2) * 32767).astype(np.int16)
        write(tmp_path / name, encode(samples, kind="WAV" if number % 2 else "FLAC"))
        write(tmp_path / f"{number}.png", picture(number, kind="PNG"))
        lines.append(f"{name},{number}.png")
    (tmp_path / "mine.csv").write_text("\n".join(lines), "utf-8")
    config = Pairs(valid_share=0.3, test_share=0.3)
    options = BuildOptions(convert="always")
    config.prepare(tmp_path / "mine.csv", tmp_path / "out", options=options)
    images = images_of(tmp_path / "out")
    assert len(images) == 3
    for found in images.values():
        numbers = {int(name.split(".")[0]) // 2 for name in found}
        assert found == {f"{n}.png" for pair in numbers for n in (2 * pair, 2 * pair + 1)}
    assert check_folder(tmp_path / "out") == []


def test_recordings_alone(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    lines = [",".join(line.split(",")[:1]) for line in table.read_text("utf-8").splitlines()]
    table.write_text("\n".join(lines), "utf-8")
    with raises_fault("table.column"):
        prepare(table, tmp_path / "out")
    Pairs(image_column="NONE").prepare(table, tmp_path / "out")
    assert (tmp_path / "out/train.tsv").exists() and not list((tmp_path / "out").glob("*pairs*"))
    assert check_folder(tmp_path / "out") == []


@pytest.mark.parametrize(("kind", "n_splits"), [("text", 3), ("speaker", 1)])
def test_texts_and_speakers_can_be_kept_together(
    tmp_path: Path, kind: str, n_splits: int, caplog: pytest.LogCaptureFixture
) -> None:
    table = make_table(tmp_path)
    lines = table.read_text("utf-8").splitlines()
    # equal but for case and punctuation: images 0 and 1, 2 and 3, ...
    lines[1:] = [f"{line.rpartition(',')[0]},{'A dog!' if i % 2 else 'a  dog'} {i // 4}"
                 for i, line in enumerate(lines[1:])]  # fmt: skip
    table.write_text("\n".join(lines), "utf-8")
    with caplog.at_level(logging.WARNING):
        images = prepare(table, tmp_path / "out", keep_together=(kind,), valid_share=0.3, test_share=0.3)
    assert len(images) == n_splits
    if kind == "text":
        for found in images.values():
            assert {int(name[5]) ^ 1 for name in found} == {int(name[5]) for name in found}
    else:  # all four speakers meet on neighbouring images
        assert "test is empty and left out" in caplog.text


def test_splits_of_the_table_are_taken(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    lines = table.read_text("utf-8").splitlines()
    names = ["train", "dev", "test_seen"]
    with_splits = [f"{lines[0]},part", *(f"{line},{names[i // 2 % 3]}" for i, line in enumerate(lines[1:]))]
    table.write_text("\n".join(with_splits), "utf-8")
    images = prepare(table, tmp_path / "out", split_column="part")
    assert {split: len(found) for split, found in images.items()} == {"train": 4, "valid": 3, "test_seen": 3}


def test_a_split_must_stand_everywhere_or_nowhere(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([f"{lines[0]},split", f"{lines[1]},train", f"{lines[2]},"]), "utf-8")
    with raises_fault("split.missing", "pairs.csv:3"):
        prepare(table, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dev", "valid"), ("val_seen", "valid_seen"), ("training", "train"), ("test-2", "test-2")],
)
def test_usual_names_of_splits_are_known(name: str, expected: str) -> None:
    assert standard_split(name) == expected
    assert standard_split(name, extra=[name]) == name


def test_a_misspelt_split_is_a_fault_that_names_the_nearest(tmp_path: Path) -> None:
    rows = ["audio,image,split", "a.wav,,trian", "b.wav,,trian", "c.wav,,train", "d.wav,,Test", "e.wav,,qq"]
    table = write(tmp_path / "t.csv", "\n".join(rows).encode())
    with pytest.raises(FaultError) as caught:
        read_corpus(Pairs(), table)
    trian, test, qq = map(str, caught.value.faults)
    assert trian.startswith("t.csv:2: split must be train, valid, test, or begin so, as in test_seen (2 li")
    assert "got 'trian'; did you mean 'train'? Correct it, or allow it with --extra-split trian" in trian
    assert test.startswith("t.csv:5: ")
    assert "did you mean 'test'" in test
    assert qq.endswith("got 'qq'; correct it, or allow it with --extra-split qq")
    corpus = read_corpus(Pairs(extra_split=("trian", "Test", "qq")), table)
    assert [caption.split for caption in corpus.captions] == ["trian", "trian", "train", "Test", "qq"]


def test_faulty_lines_do_not_hide_each_other_nor_faulty_media(tmp_path: Path) -> None:
    write(tmp_path / "empty.wav", b"")
    write(tmp_path / "good.wav", encode(speech(1)))
    write(tmp_path / "p.png", picture(1)[:60])
    rows = [
        "audio,image,split",
        "empty.wav,p.png,train",
        "good.wav,p.png,train",
        "good.wav,p.png",
        "../x.wav,p.png,train",
        "missing.wav,p.png,trian",
    ]
    table = write(tmp_path / "t.csv", "\n".join(rows).encode())
    with pytest.raises(FaultError) as caught:
        Pairs().prepare(table, tmp_path / "out")
    assert [(item.place, item.message.partition(", got")[0]) for item in caught.value.faults] == [
        ("t.csv:2", "empty.wav: must be a usable recording"),
        ("t.csv:2", "p.png: must be a usable picture"),
        ("t.csv:4", "line must have the header's 3 fields"),
        ("t.csv:5", f"audio must be a file below {tmp_path.name}/"),
        ("t.csv:6", "split must be train, valid, test, or begin so, as in test_seen (1 line)"),
        ("t.csv:6", "missing.wav: must be a usable recording"),
    ]
    assert not (tmp_path / "out").exists()


def test_captions_may_lack_pictures_and_texts(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", encode(speech(1)))
    write(tmp_path / "b.wav", encode(speech(2)))
    write(tmp_path / "p.png", picture(1))
    table = write(tmp_path / "t.tsv", b"image\taudio\np.png\ta.wav\n\tb.wav\n")
    Pairs(valid_share=0, test_share=0).prepare(table, tmp_path / "out")
    assert len(read_pairs(tmp_path / "out/train.pairs.tsv")) == 1
    assert check_folder(tmp_path / "out") == []


def test_a_split_of_recordings_alone_is_refused_where_others_have_pictures(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.wav", encode(speech(number)))
    write(tmp_path / "p.png", picture(1))
    rows = "audio,image,split\n0.wav,p.png,train\n1.wav,,{}\n2.wav,,train\n"
    with raises_fault("split.unpaired"):
        Pairs().prepare(write(tmp_path / "t.csv", rows.format("test").encode()), tmp_path / "out")
    Pairs().prepare(write(tmp_path / "t.csv", rows.format("test_alone").encode()), tmp_path / "out")
    assert check_folder(tmp_path / "out") == []


def test_paths_may_be_absolute_or_roundabout_below_the_roots(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    write(tmp_path / "data/audio/x/a.wav", encode(speech(1)))
    write(tmp_path / "data/audio/b.wav", encode(speech(2)))
    write(tmp_path / "data/p.png", picture(1))
    rows = [f"{tmp_path}/data/audio/x/a.wav,./p.png", "y/../b.wav,p.png"]
    table = write(tmp_path / "t.csv", "\n".join(["audio,image", *rows]).encode())
    config = Pairs(audio_root=tmp_path / "linked/audio", image_root=tmp_path / "linked")
    corpus = read_corpus(config, table)
    assert [caption.audio for caption in corpus.captions] == ["x/a.wav", "b.wav"]
    assert [item.image_id for item in corpus.pictures] == ["p.png"]


def test_all_paths_that_leave_the_roots_are_faults(tmp_path: Path) -> None:
    paths = ["../a.wav", "x/../../a.wav", "/etc/passwd", "..", "", ".", f"{tmp_path}/data2/a.wav"]
    rows = ["audio,image", *(f"{path},p.png" for path in paths), "a.wav,../p.png"]
    table = write(tmp_path / "data/t.csv", "\n".join(rows).encode())
    with pytest.raises(FaultError) as caught:
        read_corpus(Pairs(), table)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"t.csv:{number}" for number in range(2, 10)]
    assert "audio must be a file below data/, got '../a.wav'" in lines[0]
    assert "image must be a file below data/, got '../p.png'" in lines[-1]


def test_a_recording_stands_once(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([*lines, lines[1]]), "utf-8")
    with raises_fault("name.duplicate", "pairs.csv:22"):
        prepare(table, tmp_path / "out")


@pytest.mark.parametrize(
    "settings",
    [
        {"valid_share": -0.1},
        {"test_share": 1.0},
        {"valid_share": 0.5, "test_share": 0.5},
        {"keep_together": ("x",)},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    place = ", ".join("--" + name.replace("_", "-") for name in settings)
    with raises_fault("setting.value", place):
        Pairs(**settings)


def test_the_summary_holds_settings_but_no_paths(tmp_path: Path) -> None:
    config = Pairs(audio_root=tmp_path, seed=3, keep_together=("text",))
    summary = config.prepare(make_table(tmp_path), tmp_path / "out", options=BuildOptions(pack="zip"))
    assert summary["settings"]["seed"] == 3
    assert summary["command"] == "fairseq-vgs prepare pairs TABLE OUTPUT --keep-together text --seed 3"
    assert str(tmp_path) not in (tmp_path / "out/summary.json").read_text("utf-8")


@pytest.mark.parametrize(
    "what", ["table", "audio_root", "image_root", "boxes", "linked recording", "recordings below both"]
)
def test_force_deletes_no_source_inside_the_output(tmp_path: Path, what: str) -> None:
    table, output = make_table(tmp_path), tmp_path / "out"
    Pairs().prepare(table, output)
    roots = {"audio_root": tmp_path, "image_root": tmp_path}
    network: Any = None  # never asked
    regions = None
    if what == "table":
        table = table.rename(output / "pairs.csv")
    elif what in roots:
        folder = "звук" if what == "audio_root" else "pics"
        (tmp_path / folder).rename(output / folder)
        roots[what] = output
    elif what == "boxes":
        regions = PictureRegions(network, boxes=write(output / "boxes.tsv", b""))
    elif what == "linked recording":
        recording = tmp_path / "звук/7 a.wav"
        recording.symlink_to(recording.rename(output / "7.wav"))
    else:
        (tmp_path / "звук").rename(output / "звук")
        table.write_text(table.read_text("utf-8").replace("звук/", "out/звук/"), "utf-8")
    before = sorted(tmp_path.rglob("*"))
    options = BuildOptions(force=True, regions=regions)
    with raises_fault("output.is_input", "out"):
        Pairs(**roots).prepare(table, output, options=options)
    assert sorted(tmp_path.rglob("*")) == before


def test_copies_that_splits_share_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By content, whatever their names."""
    for number, same_as in enumerate((0, 1, 0)):
        write(tmp_path / f"{number}.wav", encode(speech(same_as)))
        write(tmp_path / f"{number}.png", picture(number, kind="PNG"))
    lines = ["audio,image,split", "0.wav,0.png,train", "1.wav,1.png,train_extra", "2.wav,2.png,test"]
    summary = Pairs().prepare(write(tmp_path / "list.csv", "\n".join(lines).encode()), tmp_path / "out")
    assert summary["shared_by_splits"] == {"recordings": 1, "pictures": 0}
    assert "splits share 1 recordings and 0 pictures" in caplog.text


@pytest.mark.parametrize("form", ["NFC", "NFD", "backslashes"])
def test_tables_in_another_spelling_than_the_files(tmp_path: Path, form: str) -> None:
    names = {"audio": "Zoë/é 1.wav", "image": "Fotos é/1.png"}
    disk = {"NFC": "NFD", "NFD": "NFC", "backslashes": "NFD"}[form]
    audio, image = (unicodedata.normalize(disk, name) for name in names.values())
    write(tmp_path / audio, encode(speech(1)))
    write(tmp_path / image, picture(1))
    # The same picture, in the disk's own spelling, is the same picture.
    write(tmp_path / "2.wav", encode(speech(2)))
    listed = ",".join(
        name.replace("/", "\\") if form == "backslashes" else unicodedata.normalize(form, name)
        for name in names.values()
    )
    table = write(tmp_path / "t.csv", f"audio,image\n{listed}\n2.wav,{image}\n".encode())
    images = prepare(table, tmp_path / "out", valid_share=0, test_share=0)
    assert images == {"train": {image}}
    assert check_folder(tmp_path / "out") == []


@pytest.mark.parametrize("entry", ["..\\1.wav", "C:\\data\\1.wav"])
def test_windows_paths_that_leave_the_folder_are_refused(tmp_path: Path, entry: str) -> None:
    write(tmp_path / "1.wav", encode(speech(1)))
    write(tmp_path / "in/1.png", picture(1))
    table = write(tmp_path / "in/t.csv", f"audio,image\n{entry},1.png\n".encode())
    with raises_fault("file.path", "t.csv:2"):
        prepare(table, tmp_path / "out")
