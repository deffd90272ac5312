from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.faults import raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import read_images, read_regions
from fairseq_vgs.regions import fast_vgs as regions_hdf5
from fairseq_vgs.regions.convert import prepare_regions
from fairseq_vgs.regions.fast_vgs import FastVgsSource

h5py = pytest.importorskip("h5py")

N_REGIONS, DIM = 2, 3
PLACES = "l/laundromat/gsun_df5b011043802b4049b632a005de20e3.jpg"


def make_hdf5(path: Path, *names: str) -> Path:
    """Write a file with the arrays, types and fixed text length that the authors' script makes."""
    n_images = len(names)
    with h5py.File(path, "w") as file:
        text = h5py.string_dtype("utf-8", 27)
        file.create_dataset("img_id", (n_images,), dtype=text)
        for name in ("img_h", "img_w"):
            file.create_dataset(name, (n_images,), dtype="int64")
        file.create_dataset("features", (n_images, N_REGIONS, DIM), dtype="float32")
        file.create_dataset("boxes", (n_images, N_REGIONS, 4), dtype="float32")
        for kind, dtype in (("id", "int64"), ("conf", "float32")):
            for what in ("objects", "attrs"):
                file.create_dataset(f"{what}_{kind}", (n_images, N_REGIONS), dtype=dtype)
        for number, name in enumerate(names):
            file["img_id"][number] = np.array(name.encode("utf-8"), dtype=text)
            file["img_h"][number], file["img_w"][number] = 4, 8
            file["features"][number] = [[number + 0.25] * DIM, [number + 0.5] * DIM]
            file["boxes"][number] = [[0, 0, 8, 4], [2, 1, 4, 3]]
            file["objects_conf"][number] = [0.25, 0.5]
    return path


def make_index(path: Path, **positions: object) -> Path:
    path.write_text(json.dumps(positions))
    return path


def test_regions_and_ids_of_the_file(tmp_path: Path) -> None:
    path = make_hdf5(tmp_path / "x.hdf5", "COCO_val2014_000000000042", "COCO_train2014_000000000007")
    seen: list[tuple[int, int]] = []
    summary = prepare_regions(
        FastVgsSource([path]), tmp_path / "data", progress=lambda *done: seen.append(done)
    )
    assert seen == [(1, 2), (2, 2)]
    assert (summary["format"], summary["images"], summary["dims"]) == ("fast-vgs", 2, DIM)
    rows = read_regions(tmp_path / "data/regions.tsv")
    # the surer second region comes first
    assert [(row.image_id, row.x0, row.y1) for row in rows] == [
        ("COCO_val2014_000000000042", 0.25, 0.75),
        ("COCO_val2014_000000000042", 0.0, 1.0),
        ("COCO_train2014_000000000007", 0.25, 0.75),
        ("COCO_train2014_000000000007", 0.0, 1.0),
    ]
    assert np.load(tmp_path / "data/regions.npy")[:, 0].tolist() == [0.5, 0.25, 1.5, 1.25]
    assert [(row.width, row.height) for row in read_images(tmp_path / "data/images.tsv").rows] == [(8, 4)] * 2


def test_ids_longer_than_the_files_come_from_the_index(tmp_path: Path) -> None:
    path = make_hdf5(tmp_path / "x.hdf5", PLACES, "short")
    with raises_fault("region.index") as caught:
        FastVgsSource([path])
    assert "--index" in str(caught.value)
    index = make_index(tmp_path / "x.json", **{PLACES: 0, "short": 1})
    prepare_regions(FastVgsSource([path], indexes=[index]), tmp_path / "data")
    assert [row.image_id for row in read_images(tmp_path / "data/images.tsv").rows] == [PLACES, "short"]


def test_an_index_of_another_file(tmp_path: Path) -> None:
    path = make_hdf5(tmp_path / "x.hdf5", "a", "b")
    for positions, expected in (
        ({"a": 1, "b": 0}, r"x.json|x\.hdf5\[1\] must be 'a', as the index has it, got b'b'"),
        ({"a": 0, "b": 2}, "position of 'b' must be from 0 to 1, got 2"),
        ({"a": True}, "position of 'a' must be from 0 to 1, got True"),
        ({"a": 0, "c": 0}, "no two ids may have the same position, as 'a', got 'c'"),
    ):
        with pytest.raises(FaultError, match=expected):
            FastVgsSource([path], indexes=[make_index(tmp_path / "x.json", **positions)])
    (tmp_path / "x.json").write_text("[]")
    with raises_fault("json.kind", "x.json"):
        FastVgsSource([path], indexes=[tmp_path / "x.json"])
    with raises_fault("setting.conflict", "--index"):
        FastVgsSource([path, path], indexes=[tmp_path / "x.json"])


def test_files_of_another_layout_are_all_named(tmp_path: Path) -> None:
    first, second = make_hdf5(tmp_path / "x.hdf5", "a"), make_hdf5(tmp_path / "y.hdf5", "b")
    with h5py.File(first, "a") as file:
        del file["boxes"]
        file["boxes"] = np.zeros((1, N_REGIONS, 5), np.float32)
    with h5py.File(second, "a") as file:
        del file["features"], file["img_h"]
        file["features"] = h5py.ExternalLink("x.hdf5", "/features")
        file["img_h"] = [b"4"]
    (tmp_path / "text").write_text("no HDF5")
    with pytest.raises(FaultError) as caught:
        FastVgsSource([first, second, tmp_path / "text", tmp_path / "missing"])
    texts = [str(item) for item in caught.value.faults]
    assert texts[0].startswith("x.hdf5: boxes must be [1, 2, 4], as features, got [1, 2, 5]; ")
    assert any(text.startswith("y.hdf5: must hold an array features of 3 axes, got None; ") for text in texts)
    assert any(text.startswith("y.hdf5: img_h must be numbers, got ") for text in texts)
    assert "must be an HDF5 file" in texts[-2]
    assert "file is missing" in texts[-1]
    assert len(texts) == 5


def test_pictures_that_were_never_filled_in(tmp_path: Path) -> None:
    path = make_hdf5(tmp_path / "x.hdf5", "a", "b")
    with h5py.File(path, "a") as file:
        file["img_h"][1] = 0
        file["objects_conf"][0] = np.nan
    with pytest.raises(FaultError) as caught:
        prepare_regions(FastVgsSource([path]), tmp_path / "data")
    assert [str(item).partition(";")[0] for item in caught.value.faults] == [
        "x.hdf5[0] (a): objects_conf must be numbers, got 'NaN'",
        "x.hdf5[1] (b): img_h must be a positive integer, got 0",
    ]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 4.5, -4.0, 1e30])
@pytest.mark.parametrize("name", ["img_h", "img_w"])
def test_sizes_that_are_no_size_are_bad_pictures(tmp_path: Path, name: str, value: float) -> None:
    path = make_hdf5(tmp_path / "x.hdf5", "a", "b")
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = [4.0, value]
    place = rf"^x\.hdf5\[1\] \(b\): {name} must be a positive integer, got "
    with pytest.raises(FaultError, match=place):
        prepare_regions(FastVgsSource([path]), tmp_path / "data")
    prepare_regions(FastVgsSource([path]), tmp_path / "data", skip_bad=True)
    assert [row.image_id for row in read_images(tmp_path / "data/images.tsv").rows] == ["a"]


def replaced(path: Path, name: str, shape: tuple[int, ...], **settings: Any) -> None:
    """Give an array another shape, without writing any of its chunks."""
    with h5py.File(path, "a") as file:
        kind = settings.pop("dtype", file[name].dtype)
        del file[name]
        file.create_dataset(name, shape, dtype=kind, **settings)


def test_tiny_files_that_stand_for_huge_arrays(tmp_path: Path) -> None:
    wide, many, chunk = (make_hdf5(tmp_path / name, "a", "b") for name in ("w.hdf5", "m.hdf5", "c.hdf5"))
    replaced(wide, "features", (2, N_REGIONS, 1 << 30), chunks=(1, 1, 1 << 20))
    for name, shape in (("features", (N_REGIONS, DIM)), ("boxes", (N_REGIONS, 4)), ("img_h", ())):
        replaced(many, name, (1 << 33, *shape), chunks=(1 << 10, *shape))
    for name, shape in (("objects_conf", (N_REGIONS,)), ("img_w", ()), ("img_id", ())):
        replaced(many, name, (1 << 33, *shape), chunks=(1 << 10, *shape))
    replaced(chunk, "features", (2, N_REGIONS, DIM), chunks=(1 << 24, N_REGIONS, DIM), maxshape=(None,) * 3)
    assert max(path.stat().st_size for path in (wide, many, chunk)) < 1 << 16
    with pytest.raises(FaultError) as caught:
        FastVgsSource([wide, many, chunk])
    assert [str(item).partition(";")[0] for item in caught.value.faults] == [
        f"w.hdf5: features must take at most {1 << 26} bytes per picture, got {1 << 33}",
        f"m.hdf5: must hold at most {1 << 23} pictures, got {1 << 33}",
        f"c.hdf5: features must take at most {1 << 28} bytes per chunk, got {(1 << 27) * 3}",
    ]


@pytest.mark.parametrize("kind", ["S5000", h5py.string_dtype()])
def test_ids_as_long_as_a_book(tmp_path: Path, kind: Any) -> None:
    path = make_hdf5(tmp_path / "x.hdf5", "a", "b")
    replaced(path, "img_id", (2,), dtype=kind)
    with h5py.File(path, "a") as file:
        file["img_id"][1] = b"n" * 4500
    with raises_fault("region.too_large"):
        FastVgsSource([path])


def test_ids_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions_hdf5, "_IDS_AT_ONCE", 2)
    names = ["a", "b", "c", "d", "e"]
    prepare_regions(FastVgsSource([make_hdf5(tmp_path / "x.hdf5", *names)]), tmp_path / "data")
    assert [row.image_id for row in read_images(tmp_path / "data/images.tsv").rows] == names


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)  # its import fails
    with raises_fault("package.missing", "x.hdf5"):
        FastVgsSource([tmp_path / "x.hdf5"])
