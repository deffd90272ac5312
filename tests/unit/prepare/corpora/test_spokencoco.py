from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.corpus_trees import (
    COCO_RESTVAL,
    COCO_TEST,
    COCO_TRAIN,
    COCO_VALID,
    SPLITS,
    coco_entry,
    lie_about_length,
    read_corpus,
    spoken,
    write_spokencoco,
)
from support.faults import check_folder, raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ManifestFolder, read_audio_list, read_images, read_pairs
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora.spokencoco import KARPATHY_LISTS, SpokenCoco

LISTS = SPLITS / "spokencoco"
TRAIN = [coco_entry(COCO_TRAIN, file="train"), coco_entry(COCO_TEST, first=5, file="train")]
VAL = [coco_entry(COCO_RESTVAL, first=10), coco_entry(COCO_VALID, first=15)]


def config(folder: Path, split: str = "karpathy", **more: Any) -> SpokenCoco:
    return SpokenCoco(split=split, **{"images": folder, "karpathy": LISTS} | more)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("karpathy", ["train", "test", "train", "valid"]),
        ("paper", ["train", "train", "test", "test"]),
        ("published", ["train", "train", "valid", "valid"]),
    ],
)
def test_splits_by_name(tmp_path: Path, split: str, expected: list[str]) -> None:
    write_spokencoco(tmp_path, TRAIN, VAL)
    corpus = read_corpus(config(tmp_path, split), tmp_path)
    assert [caption.split for caption in corpus.captions] == [name for name in expected for _ in range(5)]
    assert dict(corpus.checksums) == (dict(KARPATHY_LISTS.values()) if split == "karpathy" else {})


def test_captions_are_as_the_files_have_them(tmp_path: Path) -> None:
    write_spokencoco(tmp_path / "my corpora/SpokenCOCO", TRAIN, VAL)
    corpus = read_corpus(config(tmp_path), tmp_path / "my corpora")
    assert (corpus.name, corpus.audio_root) == ("spokencoco", tmp_path / "my corpora/SpokenCOCO")
    entry, caption = VAL[0]["captions"][3], corpus.captions[13]
    assert (caption.audio, caption.speaker, caption.text) == (entry["wav"], entry["speaker"], entry["text"])
    assert caption.image == "COCO_val2014_000000325114"
    assert caption.place == "SpokenCOCO_val.json: data[0].captions[3]"
    assert [(picture.image_id, picture.path) for picture in corpus.pictures][2] == (
        "COCO_val2014_000000325114",
        COCO_RESTVAL,
    )


def test_without_pictures_the_captions_keep_the_ids_that_region_features_have(tmp_path: Path) -> None:
    write_spokencoco(tmp_path, TRAIN, VAL)
    corpus = read_corpus(config(tmp_path, images=None), tmp_path)
    assert corpus.pictures == ()
    assert {caption.image for caption in corpus.captions} >= {"COCO_val2014_000000391895"}


def dataset_coco(tmp_path: Path, **other_splits: str) -> Path:
    """Writes Karpathy's file with the published valid and test, and the two pictures for training."""
    names = {"valid": "val", "test": "test"}
    images = [
        {"filename": f"COCO_val2014_{int(number):012}.jpg", "split": names[split], "cocoid": int(number)}
        for split, (name, _) in KARPATHY_LISTS.items()
        for number in (LISTS / name).read_text().split()
    ]
    images += [
        {"filename": Path(COCO_TRAIN).name, "split": "train"},
        {"filename": Path(COCO_RESTVAL).name, "split": "restval"},
    ]
    for image in images:
        image["split"] = other_splits.get(Path(image["filename"]).stem, image["split"])
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    return path


def test_karpathys_own_file_gives_the_same_splits(tmp_path: Path) -> None:
    write_spokencoco(tmp_path, TRAIN, VAL)
    by_lists = read_corpus(config(tmp_path), tmp_path)
    by_file = read_corpus(config(tmp_path, karpathy=dataset_coco(tmp_path)), tmp_path)
    assert by_file == by_lists


def test_karpathys_file_with_other_splits_is_refused(tmp_path: Path) -> None:
    write_spokencoco(tmp_path, TRAIN, VAL)
    path = dataset_coco(tmp_path, COCO_val2014_000000391895="train")
    with raises_fault("corpus.checksum", "dataset_coco.json"):
        read_corpus(config(tmp_path, karpathy=path), tmp_path)
    path = dataset_coco(tmp_path, COCO_val2014_000000391895="testing")
    with raises_fault("corpus.entry"):
        read_corpus(config(tmp_path, karpathy=path), tmp_path)


def test_a_picture_that_karpathys_file_does_not_know_is_a_fault(tmp_path: Path) -> None:
    stranger = coco_entry("train2014/COCO_train2014_000000000025.jpg", first=30)
    write_spokencoco(tmp_path, [*TRAIN, stranger], VAL)
    with raises_fault("split.unknown", "SpokenCOCO_train.json: data[2]"):
        read_corpus(config(tmp_path, karpathy=dataset_coco(tmp_path)), tmp_path)


def changed(change: Callable[[list[dict[str, Any]]], Any]) -> list[dict[str, Any]]:
    entries = json.loads(json.dumps(VAL))
    change(entries)
    return entries


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda val: val[0].pop("image"), ["data[0]: picture must have the field 'image'"]),
        (lambda val: val[0].pop("captions"), ["data[0]: captions must be a list, got None"]),
        (lambda val: val.insert(0, "x"), ["data[0]: picture must be an object, got 'x'"]),
        (lambda val: val[1].update(image="a/dog.jpg"), ["data[1]: image must end in COCO_train2014_ or"]),
        (
            lambda val: [val[1]["captions"][2].pop("wav"), val[1]["captions"][3].update(text=7)],
            [
                "data[1].captions[2]: caption must have the field 'wav'",
                "data[1].captions[3]: text must be text, got 7",
            ],
        ),
        (
            lambda val: val[1]["captions"][0].update(wav="../../etc/passwd"),
            ["data[1].captions[0]: audio path must stay below the root, without '..', got '../../etc"],
        ),
        (
            lambda val: val[1]["captions"][0].update(wav="/a.wav"),
            ["data[1].captions[0]: audio path must be relative to the root, not absolute, got '/a.wav'"],
        ),
        (
            lambda val: val[1]["captions"][0].update(uttid=TRAIN[0]["captions"][4]["uttid"]),
            [
                "data[1].captions[0]: uttid must appear only once (first at SpokenCOCO_train.json: data[0].",
            ],
        ),
        (
            lambda val: val[1]["captions"][0].update(wav=val[0]["captions"][0]["wav"]),
            ["data[1].captions[0]: recording must appear only once"],
        ),
        (
            lambda val: val.append({"image": COCO_TRAIN, "captions": []}),
            ["data[2]: image id must appear only"],
        ),
    ],
)
def test_every_fault_has_its_place(tmp_path: Path, change: Any, messages: list[str]) -> None:
    write_spokencoco(tmp_path, TRAIN, changed(change))
    with pytest.raises(FaultError) as caught:
        read_corpus(config(tmp_path), tmp_path)
    assert len(caught.value.faults) == len(messages)
    for item, message in zip(caught.value.faults, messages, strict=True):
        assert str(item).startswith(f"SpokenCOCO_val.json: {message}")


def test_a_missing_file_is_one_fault_beside_those_of_the_other(tmp_path: Path) -> None:
    write_spokencoco(tmp_path, TRAIN, changed(lambda val: val[0].pop("image")))
    (tmp_path / "SpokenCOCO_train.json").unlink()
    with pytest.raises(FaultError) as caught:
        read_corpus(config(tmp_path), tmp_path)
    assert [item.code for item in caught.value.faults] == ["file.missing", "corpus.entry"]


def test_unknown_fields_and_other_counts_are_noted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = {"image": COCO_VALID, "captions": [spoken(COCO_VALID, number=15, parse_tree="( a )")]}
    write_spokencoco(tmp_path, [TRAIN[0] | {"reassign_id": 3}, TRAIN[1]], [VAL[0], few])
    corpus = read_corpus(config(tmp_path), tmp_path)
    assert len(corpus.captions) == 16
    assert [record.message for record in caplog.records] == [
        "picture: unknown fields were skipped: 'reassign_id' (1)",
        "caption: unknown fields were skipped: 'parse_tree' (1)",
        "not all pictures have 5 captions: 1 have 1",
    ]


def test_unknown_splits_are_refused() -> None:
    with raises_fault("setting.value", "--split"):
        SpokenCoco(split="x")


def test_a_tree_becomes_a_sound_folder(tmp_path: Path) -> None:
    train = [coco_entry(COCO_TRAIN, captions=2, file="train"), coco_entry(COCO_TEST, first=2, captions=1)]
    val = [coco_entry(COCO_RESTVAL, first=5, captions=1), coco_entry(COCO_VALID, first=7, captions=1)]
    root = write_spokencoco(tmp_path / "Déjà vu/SpokenCOCO", train, val, media=True)
    summary = config(root).prepare(root, tmp_path / "out", options=BuildOptions(jobs=2))
    assert check_folder(tmp_path / "out") == []
    files = ManifestFolder(tmp_path / "out")
    pairs = {split: read_pairs(files.pairs(split)) for split in files.splits()}
    assert {split: len(rows) for split, rows in pairs.items()} == {"train": 3, "valid": 1, "test": 1}
    # 16 kHz already: the recordings stay where they are, under the names that the corpus gives them.
    assert read_audio_list(files.audio_list("train")).root == root
    assert pairs["train"][0].audio_id == train[0]["captions"][0]["wav"]
    assert [pair.text for pair in pairs["valid"]] == ["ÉTÉ À LA PLAGE"]
    assert {row.image_id: row.path for row in read_images(files.images).rows}[
        "COCO_val2014_000000391895"
    ] == (COCO_TEST)
    assert summary["captions_per_image"] == {"1": 3, "2": 1}
    assert summary["checksums"] == dict(KARPATHY_LISTS.values())


def test_recordings_whose_header_lies_are_all_named_or_left_out(tmp_path: Path) -> None:
    train, val = [coco_entry(COCO_TRAIN, captions=2)], [coco_entry(COCO_RESTVAL, first=2, captions=2)]
    root = write_spokencoco(tmp_path / "in", train, val, media=True)
    bad = [train[0]["captions"][1]["wav"], val[0]["captions"][0]["wav"]]
    for name in bad:
        lie_about_length(root / name)
    with pytest.raises(FaultError) as caught:
        config(root, "paper").prepare(root, tmp_path / "out")
    assert len(caught.value.faults) == 2
    assert "data[0].captions[1]" in str(caught.value)
    assert not (tmp_path / "out").exists()
    summary = config(root, "paper").prepare(root, tmp_path / "out", options=BuildOptions(skip_bad=True))
    assert sorted(name for item in summary["excluded"].values() for name in item["items"]) == sorted(bad)
    assert check_folder(tmp_path / "out") == []
