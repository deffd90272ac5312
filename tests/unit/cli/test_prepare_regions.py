from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.corpus_trees import (
    COCO_RESTVAL,
    COCO_TEST,
    COCO_TRAIN,
    COCO_VALID,
    coco_entry,
    flickr_images,
    write_flickr8k,
    write_jpeg,
    write_places,
    write_spokencoco,
    write_wav,
)
from support.faults import check_folder
from support.region_files import lxmert_fields, write_lxmert

from fairseq_vgs.cli.main import main
from fairseq_vgs.manifest import ImageRow, read_regions, write_images
from fairseq_vgs.manifest.check import inspect_folder
from fairseq_vgs.regions import efficientnet as regions_efficientnet


def make_tsv(path: Path) -> str:
    boxes = [(0, 0, 8, 4), (-2, 0, 4, 4), (5, 1, 5, 2)]
    lines = [lxmert_fields(name, size=(8, 4), boxes=boxes, features=[(1.0, 2049.0)] * 3) for name in "ab"]
    return str(write_lxmert(path, lines))


def test_lxmert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prepare", "regions", "lxmert", make_tsv(tmp_path / "x.tsv"), str(tmp_path / "data")]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "4 regions of 2 images, 2 dims",
        "  float16: at most 1 off, 0.000488 of a value (largest 2049)",
        "  2 boxes clipped, by up to 2 pixels",
        "  2 regions left out whose box has no area",
    ]
    assert captured.err == f"written to {tmp_path / 'data'}\n"
    assert main(command) == 1
    assert "already holds regions.tsv, regions.npy; pass --force" in capsys.readouterr().err
    assert main([*command, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["regions"] == 4


def test_faults_are_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(b"a\t1\nb\n")
    command = ["prepare", "regions", "lxmert", str(path), str(tmp_path / "data")]
    assert main(command) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line[:8] for line in lines] == ["x.tsv:1:", "x.tsv:2:"]
    assert not (tmp_path / "data").exists()


def test_options_reach_the_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [ImageRow(name, "", 8, 4) for name in ("x/a.jpg", "x/c.jpg")]
    write_images(tmp_path / "images.tsv", rows)
    command = ["prepare", "regions", "lxmert", make_tsv(tmp_path / "x.ts"), str(tmp_path)]
    assert main([*command, "--match", "stem"]) == 1
    assert "images.tsv:4: image must be in the source" in capsys.readouterr().err
    assert main([*command, "--match", "stem", "--skip-missing", "--skip-bad"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  1 images of the source are not in the data folder",
        "left out: 1 without regions",
    ]


class Network:
    """Its features are the mean of the colours, from -1 to 1."""

    def to(self, device: str, dtype: object) -> Network:
        if device == "cuda:99":
            raise RuntimeError("invalid device ordinal\nand more")
        return self

    def extract_features(self, values):  # type: ignore[no-untyped-def]
        return values.mean(dim=(1, 2, 3), keepdim=True).repeat(1, 1280, 1, 1)


def test_efficientnet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regions_efficientnet, "load_network", Network)
    Image.new("RGB", (4, 4), (255, 255, 255)).save(tmp_path / "a.png")
    write_images(tmp_path / "images.tsv", [ImageRow("a", "a.png", 4, 4)])
    options = ["--grid", "2x1", "--precision", "float64", "--batch-size", "1", "--jobs", "1"]
    assert main(["prepare", "regions", "efficientnet", str(tmp_path), *options]) == 0
    assert capsys.readouterr().out == "2 regions of 1 images, 1280 dims\n"
    assert np.load(tmp_path / "regions.npy").tolist() == [[1.0] * 1280] * 2
    command = ["prepare", "regions", "efficientnet", str(tmp_path), "--force"]
    assert main([*command, "--grid", "2"]) == 0
    assert capsys.readouterr().out == "4 regions of 1 images, 1280 dims\n"
    assert main([*command, "--device", "cuda:99"]) == 1
    assert capsys.readouterr().err.startswith("--device: must be a device of this machine")


def make_trees(folder: Path) -> dict[str, list[str]]:
    """Write a small tree of every corpus with pictures; return the arguments that prepare it."""
    images = [flickr_images(split, 1)[0] for split in ("train", "dev", "test")]
    flickr = write_flickr8k(folder / "flickr", images, media=True)
    train, val = [coco_entry(COCO_TRAIN, captions=1)], [coco_entry(COCO_TEST, first=1, captions=1)]
    coco = write_spokencoco(folder / "coco", train, val, media=True)
    places = write_places(folder / "places", media=True)
    rows = ["audio,image,split"]
    for number, split in enumerate(("train", "valid", "test")):
        write_wav(folder / f"own/{number}.wav", number)
        write_jpeg(folder / f"own/{number}.jpg", number)
        rows.append(f"{number}.wav,{number}.jpg,{split}")
    (folder / "own/t.csv").write_text("\n".join(rows))
    return {
        "flickr8k": [str(flickr)],
        "spokencoco": [str(coco), "--images", str(coco)],
        "places": [str(places), "--images", str(places / "images")],
        "pairs": [str(folder / "own/t.csv")],
    }


@pytest.mark.parametrize("corpus", ["flickr8k", "spokencoco", "places", "pairs"])
def test_corpora_get_the_regions_in_the_same_run(
    tmp_path: Path, corpus: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regions_efficientnet, "load_network", Network)
    source, *options = make_trees(tmp_path)[corpus]
    command = ["prepare", corpus, source]
    assert main([*command, str(tmp_path / "later"), *options]) == 0
    assert main(["prepare", "regions", "efficientnet", str(tmp_path / "later"), "--grid", "1x2"]) == 0
    capsys.readouterr()
    wanted = ["--regions", "efficientnet", "--grid", "1x2", "--pack", "zip"]
    assert main([*command, str(tmp_path / "at once"), *options, *wanted]) == 0
    n_pictures = 5 if corpus == "places" else 2 if corpus == "spokencoco" else 3
    assert f"{2 * n_pictures} regions of {n_pictures} pictures, 1280 dims" in capsys.readouterr().out
    for name in ("regions.npy", "regions.tsv"):
        assert (tmp_path / "at once" / name).read_bytes() == (tmp_path / "later" / name).read_bytes()
    first, again = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("later", "at once")
    )
    assert again["regions"] == first["regions"]
    assert again["made_by"] == first["made_by"] == "fairseq-vgs prepare"
    assert check_folder(tmp_path / "at once") == []
    assert not [path for path in (tmp_path / "at once").iterdir() if path.name.startswith(".")]


def test_boxes_are_checked_first_and_those_of_pictures_left_out_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regions_efficientnet, "load_network", Network)
    command = ["prepare", "pairs", *make_trees(tmp_path)["pairs"], str(tmp_path / "out")]
    (tmp_path / "own/2.jpg").write_bytes(b"")
    boxes = tmp_path / "boxes.tsv"
    boxes.write_text("image_id\tx0\ty0\tx1\ty1\n0.jpg\t0\t0\t1\t1\n2.jpg\t0\t0\t1\t1\nx\t0\t0\t1\t1\n")
    wanted = ["--regions", "efficientnet", "--boxes", str(boxes)]
    assert main([*command, *wanted]) == 1
    faults = [line for line in capsys.readouterr().err.splitlines() if "looking at all other" not in line]
    assert [line.split(": ")[0] for line in faults] == ["the boxes", "t.csv:3", "t.csv:4"]
    boxes.write_text(boxes.read_text().replace("x\t", "1.jpg\t"))
    assert main([*command, *wanted, "--skip-bad"]) == 0
    assert np.load(tmp_path / "out/regions.npy").shape == (2, 1280)
    assert check_folder(tmp_path / "out") == []


def test_regions_that_cannot_be_computed_are_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regions_efficientnet, "load_network", Network)
    flickr = make_trees(tmp_path)["flickr8k"]
    options = ["--without-pictures", "--regions", "efficientnet"]
    assert main(["prepare", "flickr8k", *flickr, str(tmp_path / "out"), *options]) == 1
    assert "--regions: needs pictures to compute them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["lxmert", "fast-vgs"])
def test_spokencoco_without_pictures_gets_regions_of_others(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [coco_entry(COCO_TRAIN, captions=2), coco_entry(COCO_TEST, first=2, captions=1)]
    val = [coco_entry(COCO_RESTVAL, first=3, captions=1), coco_entry(COCO_VALID, first=4, captions=1)]
    root, data = write_spokencoco(tmp_path / "in", train, val, media=True), tmp_path / "data"
    assert main(["prepare", "spokencoco", str(root), str(data), "--without-pictures"]) == 0
    assert "there are no regions" in "\n".join(inspect_folder(data).notes)
    # As published: the ids are COCO's names without ending, of more pictures than are wanted.
    ids = [Path(entry["image"]).stem for entry in (*train, *val)] + ["COCO_val2014_000000000042"]
    features = np.random.default_rng(1).standard_normal((len(ids), 36, 8)).astype(np.float32)
    boxes = np.tile(np.float32([0, 0, 320, 240]), (len(ids), 36, 1))
    if kind == "lxmert":
        lines = [
            lxmert_fields(name, size=(640, 480), boxes=box.tolist(), features=feature.tolist())
            for name, box, feature in zip(ids, boxes, features, strict=True)
        ]
        sources = [str(write_lxmert(tmp_path / "val2014_obj36.tsv", lines))]
        options = []
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "val.hdf5", "w") as file:
            file["img_id"] = np.array(ids, dtype="S27")
            file["img_w"], file["img_h"] = np.full(len(ids), 640), np.full(len(ids), 480)
            file["boxes"], file["features"] = boxes, features
            file["objects_conf"] = np.tile(np.linspace(1, 0, 36, dtype=np.float32), (len(ids), 1))
        (tmp_path / "index.json").write_text(json.dumps({name: at for at, name in enumerate(ids)}))
        sources, options = [str(tmp_path / "val.hdf5")], ["--index", str(tmp_path / "index.json")]
    capsys.readouterr()
    assert main(["prepare", "regions", kind, *sources, str(data), *options]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "144 regions of 4 images, 8 dims"
    assert "1 images of the source are not in the data folder" in captured.out
    assert main(["prepare", "regions", kind, *sources, str(data), "--force"]) == 0  # without an index
    assert main(["check", str(data)]) == 0
    found = inspect_folder(data)
    assert found.notes == []
    assert found.counts["all"] == {"utterances": 5, "pairs": 5, "images": 4, "regions": 144}
    rows = [row for row in read_regions(data / "regions.tsv") if row.image_id == ids[2]]
    half = np.load(data / "regions.npy")[[row.feature_row for row in rows]]
    assert np.array_equal(half, features[2].astype(np.float16))
    assert (rows[0].x1, rows[0].y1) == (0.5, 0.5)
    summary = json.loads((data / "summary.json").read_text())
    assert (summary["corpus"], summary["regions"]["format"]) == ("spokencoco", kind)


@pytest.mark.parametrize(
    "arguments",
    [[], ["lxmert", "x"], ["fast-vgs"], ["efficientnet"], ["efficientnet", "x", "--grid", "0x1"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prepare", "regions", *arguments])
    assert caught.value.code == 2
