from __future__ import annotations

import json
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.faults import raises_fault
from support.region_files import lxmert_fields, write_lxmert

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import (
    AudioRow,
    ImageRow,
    PairRow,
    read_images,
    read_regions,
    write_audio_list,
    write_images,
    write_pairs,
)
from fairseq_vgs.regions.convert import prepare_regions
from fairseq_vgs.regions.lxmert import LxmertSource

FULL = (0.0, 0.0, 8.0, 4.0)


def make_tsv(path: Path, *names: str, dim: int = 3, boxes: tuple[tuple[float, ...], ...] = (FULL,)) -> Path:
    lines = [
        lxmert_fields(
            name,
            size=(8, 4),
            boxes=boxes,  # type: ignore[arg-type]
            features=[[number + row / 10] * dim for row in range(len(boxes))],
        )
        for number, name in enumerate(names)
    ]
    return write_lxmert(path, lines)


def add_pairs(folder: Path, *names: str) -> None:
    write_audio_list(folder / "train.tsv", [AudioRow(f"{name}.wav", 9) for name in names], root=".")
    write_pairs(folder / "train.pairs.tsv", [PairRow(f"{name}.wav", name) for name in names])


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_new_folder_of_all_pictures(tmp_path: Path) -> None:
    path = make_tsv(tmp_path / "x.tsv", "b", "a", boxes=(FULL, (2, 1, 4, 3)))
    summary = prepare_regions(LxmertSource([path]), tmp_path / "data")
    features = np.load(tmp_path / "data/regions.npy", allow_pickle=False)
    assert features.dtype == np.float16
    np.testing.assert_array_equal(features, np.array([[0] * 3, [0.1] * 3, [1] * 3, [1.1] * 3], np.float16))
    assert (tmp_path / "data/regions.tsv").read_text() == (
        "image_id\tfeature_row\tx0\ty0\tx1\ty1\n"
        "b\t0\t0\t0\t1\t1\nb\t1\t0.25\t0.25\t0.5\t0.75\na\t2\t0\t0\t1\t1\na\t3\t0.25\t0.25\t0.5\t0.75\n"
    )
    assert len(read_regions(tmp_path / "data/regions.tsv")) == 4
    assert read_images(tmp_path / "data/images.tsv").rows == (
        ImageRow("b", "", 8, 4),
        ImageRow("a", "", 8, 4),
    )
    assert files_of(tmp_path / "data") == {"regions.npy", "regions.tsv", "images.tsv", "summary.json"}
    written = json.loads((tmp_path / "data/summary.json").read_text())
    assert written == {"made_by": "fairseq-vgs prepare", "regions": summary}
    assert (summary["images"], summary["regions"], summary["dims"]) == (2, 4, 3)
    assert summary["files"] == {"x.tsv": path.stat().st_size}


def test_only_pictures_of_the_image_table(tmp_path: Path) -> None:
    write_images(tmp_path / "images.tsv", [ImageRow("b", "b.png", 8, 4), ImageRow("a", "a.png", 4, 8)])
    before = (tmp_path / "images.tsv").read_bytes()
    (tmp_path / "summary.json").write_text('{"made_by": "me", "seed": 3}')
    paths = [make_tsv(tmp_path / "x.ts", "c", "a"), make_tsv(tmp_path / "y.ts", "d", "b")]
    summary = prepare_regions(LxmertSource(paths), tmp_path)
    assert [(row.image_id, row.feature_row) for row in read_regions(tmp_path / "regions.tsv")] == [
        ("a", 0),
        ("b", 1),
    ]
    assert (tmp_path / "images.tsv").read_bytes() == before
    assert (summary["not_wanted"], summary["images_of_other_size"]) == (2, 1)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert (written["made_by"], written["seed"], written["regions"]["images"]) == ("me", 3, 2)


def test_only_pictures_of_the_pairs_where_there_is_no_image_table(tmp_path: Path) -> None:
    add_pairs(tmp_path, "a", "c")
    prepare_regions(LxmertSource([make_tsv(tmp_path / "x.ts", "a", "b", "c")]), tmp_path)
    assert [row.image_id for row in read_images(tmp_path / "images.tsv").rows] == ["a", "c"]
    made_by = json.loads((tmp_path / "summary.json").read_text())["made_by"]
    assert made_by == "fairseq-vgs prepare regions"  # --force of other commands must not replace the folder


def test_missing_pictures_are_faults_or_counted(tmp_path: Path) -> None:
    add_pairs(tmp_path, "a", "b", "c")
    source = LxmertSource([make_tsv(tmp_path / "x.ts", "b")])
    before = files_of(tmp_path)
    with pytest.raises(FaultError) as caught:
        prepare_regions(source, tmp_path)
    assert [str(item).partition(";")[0] for item in caught.value.faults] == [
        "train.pairs.tsv:2: image must be in the source of regions, got 'a'",
        "train.pairs.tsv:4: image must be in the source of regions, got 'c'",
    ]
    assert files_of(tmp_path) == before
    summary = prepare_regions(source, tmp_path, skip_missing=True)
    assert summary["excluded"] == {"without regions": {"count": 2, "names": ["a", "c"]}}
    assert summary["images"] == 1


@pytest.mark.parametrize(
    ("match", "source_id", "own_id"),
    [
        ("name", "l/lobby/x.jpg", "x.jpg"),
        ("stem", "COCO_1", "val2014/COCO_1.jpg"),
        ("exact", "a/b", "a/b"),
        ("exact", "Zoe\u0308\\b", "Zoë/b"),
    ],
)
def test_ids_may_agree_in_parts(tmp_path: Path, match: str, source_id: str, own_id: str) -> None:
    add_pairs(tmp_path, own_id)
    source = LxmertSource([make_tsv(tmp_path / "x.ts", source_id)])
    if match != "exact":
        with raises_fault("region.missing", "train.pairs.tsv:2"):
            prepare_regions(source, tmp_path)
    prepare_regions(source, tmp_path, match=match)
    assert [row.image_id for row in read_regions(tmp_path / "regions.tsv")] == [own_id]


def test_ids_that_a_match_confuses(tmp_path: Path) -> None:
    add_pairs(tmp_path, "a/x.jpg", "b/x.png")
    with raises_fault("setting.conflict", "train.pairs.tsv:3"):
        prepare_regions(LxmertSource([make_tsv(tmp_path / "x.ts", "x")]), tmp_path, match="stem")


NAN, HUGE = float("nan"), 65520.0


def bad_tsv(path: Path) -> Path:
    def fields(name: str, box: tuple[float, ...] = FULL, value: float = 1.0, dim: int = 3) -> list[str]:
        return lxmert_fields(name, size=(8, 4), boxes=[box], features=[[1.0] * (dim - 1) + [value]])  # type: ignore[list-item]

    return write_lxmert(
        path,
        [
            fields("good"),
            fields("box", box=(0, NAN, 1, 1)),
            fields("nan", value=NAN),
            fields("infinite", value=float("inf")),
            fields("overflow", value=-HUGE),
            fields("dims", dim=4),
            fields("flat", box=(3, 1, 3, 2)),
            fields("outside", box=(9, 1, 12, 2)),
            fields("good"),
            [*fields("cut")[:-1], "AAA"],
            fields(" blank"),
            fields("last", value=65519.0),
        ],
    )


def test_all_faults_are_listed_and_nothing_is_written(tmp_path: Path) -> None:
    source = LxmertSource([bad_tsv(tmp_path / "x.tsv")])
    with pytest.raises(FaultError) as caught:
        prepare_regions(source, tmp_path / "data")
    texts = [str(item).partition(";")[0] for item in caught.value.faults]
    assert texts[:10] == [
        "x.tsv:2: boxes must be finite numbers (1 are not), got nan",
        "x.tsv:3: features must be finite numbers (1 are not), got nan",
        "x.tsv:4: features must be finite numbers (1 are not), got inf",
        "x.tsv:5: features must be at most 65504, which float16 can hold, got 65520.0",
        "x.tsv:6: features must have 3 dims, as in x.tsv:1, got 4",
        "x.tsv:7: a box must have an area within the picture of 8 x 4, got [3.0, 1.0, 3.0, 2.0]",
        "x.tsv:8: a box must have an area within the picture of 8 x 4, got [9.0, 1.0, 12.0, 2.0]",
        "x.tsv:9: a picture must have one record (the first is x.tsv:1), got 'good'",
        texts[8],
        "x.tsv:11: image_id must not begin or end with blanks, got ' blank'",
    ]
    assert texts[8].startswith("x.tsv:10: features must be whole base64")
    assert len(texts) == 10
    assert files_of(tmp_path) == {"x.tsv"}


def test_faulty_pictures_may_be_left_out(tmp_path: Path) -> None:
    summary = prepare_regions(LxmertSource([bad_tsv(tmp_path / "x.tsv")]), tmp_path / "data", skip_bad=True)
    assert [row.image_id for row in read_images(tmp_path / "data/images.tsv").rows] == ["good", "last"]
    features = np.load(tmp_path / "data/regions.npy")
    assert features.tolist() == [[1, 1, 1], [1, 1, 65504]]
    excluded = summary["excluded"]
    assert isinstance(excluded, dict)
    assert excluded["faulty"]["count"] == 10
    assert excluded["faulty"]["names"][0].startswith("x.tsv:2: boxes must be finite")


def test_clipped_boxes_and_boxes_without_area_are_counted(tmp_path: Path) -> None:
    boxes = (FULL, (-2.0, 0.0, 4.0, 9.5), (5.0, 1.0, 5.0, 2.0), (0.0, 0.0, 8.005, 4.0))
    summary = prepare_regions(
        LxmertSource([make_tsv(tmp_path / "x.tsv", "a", boxes=boxes)]), tmp_path / "data"
    )
    assert (summary["boxes_clipped"], summary["largest_overhang_pixels"]) == (1, 5.5)
    assert (summary["boxes_without_area"], summary["regions"]) == (1, 3)
    rows = read_regions(tmp_path / "data/regions.tsv")
    assert [(row.x0, row.y0, row.x1, row.y1) for row in rows] == [(0, 0, 1, 1), (0, 0, 0.5, 1), (0, 0, 1, 1)]
    np.testing.assert_array_equal(
        np.load(tmp_path / "data/regions.npy")[:, 0], np.array([0, 0.1, 0.3], np.float16)
    )


def test_the_error_of_float16_is_measured(tmp_path: Path) -> None:
    # 2049 lies between 2048 and 2050, float16's neighbours there; 1e-8 is less than half its smallest number
    values = [2049.0, 1.0, 1e-8]
    fields = lxmert_fields("a", size=(8, 4), boxes=[FULL], features=[values])
    summary = prepare_regions(LxmertSource([write_lxmert(tmp_path / "x.tsv", [fields])]), tmp_path / "data")
    assert summary["float16_max_absolute_error"] == 1.0
    assert summary["float16_max_relative_error"] == pytest.approx(1 / 2049)
    assert summary["largest_feature"] == 2049.0


def test_regions_are_replaced_on_demand_only(tmp_path: Path) -> None:
    old, new = make_tsv(tmp_path / "x.tsv", "a"), make_tsv(tmp_path / "y.tsv", "b", "a", dim=5)
    prepare_regions(LxmertSource([old]), tmp_path / "data")
    before = (tmp_path / "data/regions.npy").read_bytes()
    with raises_fault("output.exists"):
        prepare_regions(LxmertSource([new]), tmp_path / "data")
    assert (tmp_path / "data/regions.npy").read_bytes() == before
    prepare_regions(LxmertSource([new]), tmp_path / "data", force=True)
    assert np.load(tmp_path / "data/regions.npy").tolist() == [[1] * 5]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_the_older_files(tmp_path: Path, error: type[BaseException]) -> None:
    prepare_regions(LxmertSource([make_tsv(tmp_path / "x.tsv", "a")]), tmp_path / "data")
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}

    def stop(done: int, total: int) -> None:
        raise error

    source = LxmertSource([make_tsv(tmp_path / "y.tsv", "a")])
    for folder in (tmp_path / "data", tmp_path / "new"):
        with pytest.raises(error):
            prepare_regions(source, folder, force=True, progress=stop)
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before
    assert not (tmp_path / "new").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from fairseq_vgs.regions.convert import prepare_regions
from fairseq_vgs.regions.lxmert import LxmertSource
stop = lambda done, total: os.kill(os.getpid(), signal.SIGKILL)
prepare_regions(LxmertSource([Path(sys.argv[1])]), Path(sys.argv[2]), progress=stop)
"""


def test_what_a_killed_run_left_is_gone_after_the_next(tmp_path: Path) -> None:
    source = make_tsv(tmp_path / "x.tsv", "a")
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "data")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert files_of(tmp_path / "data") == {".regions.npy.partial", ".regions.tsv.partial"}
    prepare_regions(LxmertSource([source]), tmp_path / "data")
    assert files_of(tmp_path / "data") == {"images.tsv", "regions.npy", "regions.tsv", "summary.json"}
    # as that of a new folder, which --force may replace
    assert json.loads((tmp_path / "data/summary.json").read_text())["made_by"] == "fairseq-vgs prepare"


def test_one_picture_at_a_time_is_in_memory(tmp_path: Path) -> None:
    """Eight times the pictures need no more memory, bar a few ids."""

    def peak(n_images: int) -> int:
        names = [f"{number:04d}" for number in range(n_images)]
        path = make_tsv(tmp_path / f"{n_images}.tsv", *names, dim=1000, boxes=(FULL,) * 10)
        tracemalloc.start()
        try:
            prepare_regions(LxmertSource([path]), tmp_path / str(n_images))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(10), peak(80)
    assert many - few < 10 * 1000 * 4, (few, many)
