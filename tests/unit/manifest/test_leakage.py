from __future__ import annotations

import pytest

from fairseq_vgs.files.tables import Table
from fairseq_vgs.manifest.leakage import audio_leakage, image_leakage, split_role
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow


def audio(name: str, *ids: str) -> Table[AudioRow]:
    return Table(f"{name}.tsv", tuple(AudioRow(i, 1) for i in ids), tuple(range(2, 2 + len(ids))))


def pairs(name: str, *image_ids: str) -> Table[PairRow]:
    rows = tuple(PairRow(f"{name} {n}", image_id) for n, image_id in enumerate(image_ids))
    return Table(f"{name}.pairs.tsv", rows, tuple(range(2, 2 + len(rows))))


def images(**groups: str) -> dict[str, ImageRow]:
    return {image_id: ImageRow(image_id, "p", 1, 1, group) for image_id, group in groups.items()}


@pytest.mark.parametrize(
    ("split", "role"),
    [("train", "train"), ("train_unpaired", "train"), ("train-100", "train"), ("dev.clean", "dev")],
)
def test_split_role(split: str, role: str) -> None:
    assert split_role(split) == role


def test_audio_shared_with_an_earlier_split() -> None:
    lists = {
        "train": audio("train", "a", "b"),
        "valid": audio("valid", "c"),
        "test": audio("test", "d", "e", "f"),
    }
    prints = {"train": ["1", "2"], "valid": ["3"], "test": ["4", "2", "3"]}
    faults = audio_leakage(lists, prints)
    assert [item.place for item in faults] == ["test.tsv:3", "test.tsv:4"]
    assert {item.code for item in faults} == {"split.leakage"}
    assert "'b' (train.tsv:3)" in faults[0].message
    assert "'c' (valid.tsv:2)" in faults[1].message


def test_copies_within_a_role_and_unread_audio_do_not_leak() -> None:
    lists = {
        "train": audio("train", "a", "b", "c"),
        "test": audio("test", "d"),
        "train_all": audio("train_all", "a"),
    }
    prints = {"train": ["1", "1", None], "test": [None], "train_all": ["1"]}
    assert audio_leakage(lists, prints) == []


def test_image_ids_leak_once_per_split() -> None:
    tables = {"train": pairs("train", "i", "i", "j"), "test": pairs("test", "k", "i", "i")}
    faults = image_leakage(tables, images(i="", j="", k=""), {"i": "1", "j": "2", "k": "3"})
    assert [(item.place, item.code) for item in faults] == [("test.pairs.tsv:3", "split.leakage")]
    assert "'i' (train.pairs.tsv:2)" in faults[0].message


def test_the_same_picture_under_two_ids_leaks() -> None:
    tables = {"train": pairs("train", "i"), "test": pairs("test", "k")}
    faults = image_leakage(tables, images(i="", k=""), {"i": "1", "k": "1"})
    assert [item.place for item in faults] == ["test.pairs.tsv:2"]
    assert "'i' (train.pairs.tsv:2)" in faults[0].message


def test_groups_leak() -> None:
    tables = {"train": pairs("train", "i"), "valid": pairs("valid", "j"), "test": pairs("test", "k", "l")}
    groups = images(i="g", j="", k="g", l="j")
    faults = image_leakage(tables, groups, {"i": "1", "j": "2", "k": "3"})
    assert [item.place for item in faults] == ["test.pairs.tsv:2", "test.pairs.tsv:3"]
    assert all(value in faults[0].message for value in ("'k'", "'i'", "'g'", "(train.pairs"))
    assert all(value in faults[1].message for value in ("'l'", "'j'", "(valid.pairs.tsv:2)"))


def test_unknown_images_do_not_leak() -> None:
    tables = {"train": pairs("train", "i"), "test": pairs("test", "k")}
    assert image_leakage(tables, {}, {}) == []
