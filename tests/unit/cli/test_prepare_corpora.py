from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from support.corpus_trees import (
    COCO_RESTVAL,
    COCO_TEST,
    COCO_TRAIN,
    COCO_VALID,
    coco_entry,
    described_place,
    flickr_images,
    write_flickr8k,
    write_places,
    write_spokencoco,
)

from fairseq_vgs.cli.main import main
from fairseq_vgs.manifest import ManifestFolder, read_pairs
from fairseq_vgs.prepare.corpora.spokencoco import SPLITTINGS


def test_spokencoco_takes_the_lists_of_the_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [coco_entry(COCO_TRAIN, captions=1), coco_entry(COCO_TEST, first=1, captions=1)]
    val = [coco_entry(COCO_RESTVAL, first=2, captions=1), coco_entry(COCO_VALID, first=3, captions=1)]
    root = write_spokencoco(tmp_path / "in", train, val, media=True)
    assert main(["prepare", "spokencoco", str(root), str(tmp_path / "out"), "--images", str(root)]) == 0
    captured = capsys.readouterr()
    assert [line.split()[:3] for line in captured.out.splitlines()[1:4]] == [
        ["train", "2", "2"],
        ["valid", "1", "1"],
        ["test", "1", "1"],
    ]
    options = ["--images", str(root), "--split", "paper", "--pack", "zip", "--json", "--force"]
    assert main(["prepare", "spokencoco", str(root), str(tmp_path / "out"), *options]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {split: counts["pairs"] for split, counts in summary["splits"].items()} == {"train": 2, "test": 2}
    assert (summary["settings"]["split"], summary["settings"]["pack"]) == ("paper", "zip")
    assert str(tmp_path) not in summary["command"]
    typed = ["prepare", "spokencoco", str(root), str(tmp_path / "out"), *options]
    assert summary["command_line"] == shlex.join(["fairseq-vgs", *typed])


def test_flickr8k_options_reach_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [flickr_images(split, 1)[0] for split in ("train", "dev", "test")]
    root = write_flickr8k(tmp_path / "in", images, media=True, text=False)
    (root / "Flicker8k_Dataset").rename(tmp_path / "pictures")
    faulty = tmp_path / "faulty.txt"
    faulty.write_text(f"{Path(images[0]).stem}_1.wav\n")
    options = ["--images", str(tmp_path / "pictures"), "--faulty", str(faulty)]
    assert main(["prepare", "flickr8k", str(root), str(tmp_path / "out"), *options]) == 0
    assert "left out: 1 recording named as faulty" in capsys.readouterr().out
    files = ManifestFolder(tmp_path / "out")
    assert [len(read_pairs(files.pairs(split))) for split in ("train", "valid", "test")] == [1, 2, 2]


def test_faults_are_lines_on_stderr_and_the_status_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [described_place(1, wav=3), described_place(2) | {"image": ""}]
    root = write_places(tmp_path / "in", train=broken)
    assert main(["prepare", "places", str(root), str(tmp_path / "out"), "--without-pictures"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "train_2020.json: data[0]: wav must be text that is not empty, got 3" in captured.err
    assert "train_2020.json: data[1]: image must be text that is not empty, got ''" in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("corpus", "wrong"),
    [
        ("spokencoco", []),
        ("places", []),
        ("places", ["--images", "a", "--without-pictures"]),
        ("spokencoco", ["--images", "a", "--split", "other"]),
    ],
)
def test_wrong_options_are_usage_errors(
    corpus: str, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prepare", corpus, "in", "out", *wrong])
    assert caught.value.code == 2
    assert f"fairseq-vgs prepare {corpus}" in capsys.readouterr().err


@pytest.mark.parametrize("corpus", ["spokencoco", "flickr8k", "places"])
def test_help_names_splits_and_gives_examples(corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", corpus, "--help"])
    text = capsys.readouterr().out
    assert f"examples:\n  fairseq-vgs prepare {corpus} " in text
    if corpus == "spokencoco":
        assert all(f"{split} (" in text for split in SPLITTINGS)
