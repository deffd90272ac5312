import logging

import numpy as np
import pytest
from support.faults import raises_fault
from support.tiny_folder import LAYERS, make_folder

from fairseq_vgs.data.tables import PackedStrings, draw_pairs, load_audio_table, load_split
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.modules.conv_spec import parse_conv_layers

CONV = parse_conv_layers(LAYERS)


def test_packed_strings():
    strings = ["", "a/ж.wav", "b", "", "日本"]
    packed = PackedStrings(strings)
    assert [packed[i] for i in range(len(packed))] == strings
    assert len(PackedStrings([])) == 0


def test_pairs_are_joined_by_id(tmp_path):
    folder = make_folder(tmp_path / "m", groups={1: "g", 4: "g"})
    lines = folder.pairs("train").read_text().splitlines()
    folder.pairs("train").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    table = load_split(folder, "train", layers=CONV)
    assert len(table) == 12
    assert table.audio_row.tolist() == list(range(12))[::-1]
    assert table.image_row.tolist() == [i % 6 for i in range(12)][::-1]
    np.testing.assert_array_equal(table.n_samples, [6000 + 400 * i for i in range(12)][::-1])
    assert table.images.groups.tolist() == [0, 1, 2, 3, 1, 4]
    assert table.audio.place(3) == "train.tsv:5 (train/3.wav)"
    assert table.audio.location(3).path == tmp_path / "m" / "train" / "3.wav"
    assert table.images.place(2) == "images.tsv:5 (images/2.png)"
    lines = folder.images.read_text().splitlines()
    assert "images/2.png" in lines[5 - 1]


def test_unknown_ids_are_listed_with_their_lines(tmp_path):
    folder = make_folder(tmp_path / "m")
    text = folder.pairs("train").read_text()
    text = text.replace("train/2.wav", "train/nowhere.wav").replace("image3", "image99")
    folder.pairs("train").write_text(text)
    with pytest.raises(FaultError) as caught:
        load_split(folder, "train", layers=CONV)
    assert [(fault.place, fault.code) for fault in caught.value.faults] == [
        ("train.pairs.tsv:4", "sound.unknown"),
        ("train.pairs.tsv:5", "picture.unknown"),
        ("train.pairs.tsv:11", "picture.unknown"),
    ]


def test_an_empty_split_is_an_error(tmp_path):
    folder = make_folder(tmp_path / "m")
    header = folder.pairs("train").read_text().splitlines()[0]
    folder.pairs("train").write_text(header + "\n")
    with raises_fault("table.empty", "train.pairs.tsv:1"):
        load_split(folder, "train", layers=CONV)


def test_a_missing_split_names_the_remedy(tmp_path):
    folder = make_folder(tmp_path / "m")
    with raises_fault("file.missing", "other.tsv"):
        load_split(folder, "other", layers=CONV)


def test_too_short_speech(tmp_path, caplog):
    folder = make_folder(tmp_path / "m", lengths={"train": [6000, 399, 7000, 1039, 1040]})
    with pytest.raises(FaultError) as caught:
        load_split(folder, "train", layers=CONV)
    assert [fault.place[:11] for fault in caught.value.faults] == ["train.tsv:3", "train.tsv:5"]
    assert set(caught.value.codes) == {"sound.too_short"}
    with caplog.at_level(logging.WARNING):
        table = load_split(folder, "train", layers=CONV, skip_bad=True)
    assert table.audio_row.tolist() == [0, 2, 4]
    assert "2 too short utterances" in caplog.text
    assert "train.tsv:3" in caplog.text


def test_unpaired_list(tmp_path):
    folder = make_folder(tmp_path / "m", lengths={"train": [6000, 399, 7000]})
    path = folder.audio_list("train")
    with raises_fault("sound.too_short", "train.tsv:3 (train/1.wav)"):
        load_audio_table(path, layers=CONV)
    table = load_audio_table(path, layers=CONV, skip_bad=True)
    assert table.n_samples.tolist() == [6000, 0, 7000]
    short = make_folder(tmp_path / "short", lengths={"train": [399, 400]}).audio_list("train")
    with raises_fault("split.empty", "train.tsv"):
        load_audio_table(short, layers=CONV, skip_bad=True)
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with raises_fault("table.empty", "train.tsv:1"):
        load_audio_table(path, layers=CONV)


def edit(path, *replacements):
    text = path.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def spoil_tables(folder):
    """Spoil pairs 0 (faulty line), 2 (unknown utterance), 3 and 9 (unknown picture), 5 and 11 (its line)."""
    edit(
        folder.pairs("train"),
        ("train/0.wav\timage0\t", "train/0.wav\t\t"),
        ("train/2.wav", "train/nowhere.wav"),
        ("image3", "image99"),
    )
    edit(folder.images, ("images/1.png\t20", "images/1.png\t-20"), ("image1\t", "image1x\t"))
    edit(folder.audio_list("train"), ("train/5.wav\t8000", "train/5.wav\t0"))


def test_pairs_that_the_tables_spoil_are_skipped_on_request(tmp_path, caplog):
    folder = make_folder(tmp_path / "m")
    spoil_tables(folder)
    with pytest.raises(FaultError):
        load_split(folder, "train", layers=CONV)
    with caplog.at_level(logging.WARNING):
        table = load_split(folder, "train", layers=CONV, skip_bad=True)
    kept = [4, 6, 8, 10, 11]
    assert [table.audio.paths[row] for row in table.audio_row] == [f"train/{i}.wav" for i in kept]
    assert [table.images.paths[row] for row in table.image_row] == [f"images/{i % 6}.png" for i in kept]
    assert table.n_skipped == 12 - len(kept)
    assert table.audio.place(table.audio_row[1]) == "train.tsv:8 (train/6.wav)"  # lines of the file
    assert table.images.place(table.image_row[0]) == "images.tsv:7 (images/4.png)"
    messages = [record.getMessage() for record in caplog.records]
    for place in (
        "train.tsv:7",
        "images.tsv:4",
        *(f"train.pairs.tsv:{line}" for line in (2, 3, 4, 5, 7, 9, 11)),
    ):
        assert sum(message.startswith(f"skipped: {place}: ") for message in messages) == 1, place
    assert "split 'train': 7 pairs are skipped for what its tables hold, 5 are left" in messages


def test_a_split_that_becomes_empty_is_an_error(tmp_path):
    folder = make_folder(tmp_path / "m")
    edit(folder.pairs("train"), ("train/", "nowhere/"))
    with raises_fault("split.empty", "train.tsv"):
        load_split(folder, "train", layers=CONV, skip_bad=True)
    header = folder.pairs("train").read_text().splitlines()[0]
    folder.pairs("train").write_text(header + "\n")
    with raises_fault("table.empty", "train.pairs.tsv:1"):
        load_split(folder, "train", layers=CONV, skip_bad=True)


@pytest.mark.parametrize("table", ["audio_list", "images"])
def test_faulty_heads_are_never_skipped(tmp_path, table):
    folder = make_folder(tmp_path / "m")
    path = folder.audio_list("train") if table == "audio_list" else folder.images
    path.write_text("\n".join(["", *path.read_text().splitlines()[1:]]) + "\n")
    with raises_fault("table.root", f"{path.name}:1"):
        load_split(folder, "train", layers=CONV, skip_bad=True)


def test_faulty_lines_of_an_unpaired_list(tmp_path):
    folder = make_folder(tmp_path / "m", lengths={"train": [6000, 6400, 7000]})
    path = folder.audio_list("train")
    edit(path, ("\t6000", "\tmany"))
    with raises_fault("table.value", "train.tsv:2"):
        load_audio_table(path, layers=CONV)
    table = load_audio_table(path, layers=CONV, skip_bad=True)
    assert [table.place(row) for row in range(2)] == [
        "train.tsv:3 (train/1.wav)",
        "train.tsv:4 (train/2.wav)",
    ]


def test_fewer_pairs_are_among_more(tmp_path):
    table = load_split(make_folder(tmp_path / "m"), "train", layers=CONV)
    few, more = (set(draw_pairs(table, n, seed=3).audio_row.tolist()) for n in (4, 7))
    assert (len(few), len(more)) == (4, 7)
    assert few < more
    assert draw_pairs(table, 4, seed=3).n_skipped == 0
    assert set(draw_pairs(table, 4, seed=4).audio_row.tolist()) != few
    assert set(draw_pairs(table, len(table), seed=3).audio_row.tolist()) == set(table.audio_row.tolist())
