from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.faults import check_folder, raises_fault
from support.tiny_stamps import folder_content, make_stamps

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ManifestFolder, read_audio_list, read_images, read_pairs, read_regions
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora.tuxpaint import TuxPaint
from fairseq_vgs.prepare.scenes.compose import prepare_scenes
from fairseq_vgs.prepare.scenes.plan import ScenesConfig

EMBEDDED = Path(__file__).parents[4] / "manifests" / "embedded"
CONFIG = ScenesConfig(objects=12, train_scenes=25, valid_scenes=6, test_scenes=8, seed=3)
COUNTS = {"train": 25, "valid": 6, "test": 8}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    prepare_scenes(folder, EMBEDDED, config=CONFIG, options=BuildOptions(relative_root=True))
    return folder


def objects_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the feature rows (one per object) of every image."""
    rows: dict[str, list[int]] = {}
    for region in read_regions(folder / "regions.tsv"):
        rows.setdefault(region.image_id, []).append(region.feature_row)
    return {image_id: tuple(sorted(found)) for image_id, found in rows.items()}


def test_folder_is_sound_and_complete(scenes: Path) -> None:
    assert check_folder(scenes) == []
    files = ManifestFolder(scenes)
    assert files.splits() == list(COUNTS)
    for split, n_scenes in COUNTS.items():
        pairs = read_pairs(files.pairs(split))
        assert [row.audio_id for row in read_audio_list(files.audio_list(split)).rows] == [
            pair.audio_id for pair in pairs
        ]
        assert [pair.image_id for pair in pairs] == [
            f"{split}_{index:05d}" for index in range(n_scenes) for _ in range(2)
        ]
        assert {pair.speaker for pair in pairs} == {"ru"}
    assert len(read_images(files.images).rows) == sum(COUNTS.values())


def test_audio_list_is_in_fairseqs_format(scenes: Path) -> None:
    lines = (scenes / "test.tsv").read_text("utf-8").split("\n")
    assert lines[0] == "."
    assert lines[-1] == ""
    assert len(lines) == 1 + 16 + 1
    for number, line in enumerate(lines[1:-1]):
        assert re.fullmatch(rf"speech/test/{number // 2:05d}_{number % 2}\.flac\t[1-9][0-9]*", line)
        path, length = line.split("\t")
        info = soundfile.info(scenes / path)
        assert (info.format, info.samplerate, info.channels, info.frames) == (
            "FLAC",
            16_000,
            1,
            int(length),
        )


def test_combinations_are_distinct_in_all_splits(scenes: Path) -> None:
    combinations_found = list(objects_of(scenes).values())
    assert len(combinations_found) == sum(COUNTS.values())
    assert len(set(combinations_found)) == len(combinations_found)
    assert {len(found) for found in combinations_found} == {2, 3, 4}
    assert all(len(set(found)) == len(found) for found in combinations_found)


def test_captions_name_the_objects_in_different_orders(scenes: Path) -> None:
    objects = objects_of(scenes)
    names = {}
    for split in COUNTS:
        captions: dict[str, list[list[str]]] = {}
        for pair in read_pairs(scenes / f"{split}.pairs.tsv"):
            captions.setdefault(pair.image_id, []).append(pair.text.split(", "))
        for image_id, (first, second) in captions.items():
            assert sorted(first) == sorted(second)
            assert first != second
            assert len(first) == len(objects[image_id])
            names[frozenset(objects[image_id])] = frozenset(first)
    # scenes with an object in common have its name in common
    for one, other in combinations(names, 2):
        assert len(one & other) == len(names[one] & names[other])


def test_features_are_the_sources(scenes: Path) -> None:
    features = np.load(scenes / "regions.npy", mmap_mode="r", allow_pickle=False)
    assert (features.dtype, features.shape) == (np.float16, (12, 1280))
    chosen = json.loads((scenes / "summary.json").read_text("utf-8"))["objects"]
    rows = {row.image_id: row.feature_row for row in read_regions(EMBEDDED / "regions.tsv")}
    source = np.load(EMBEDDED / "regions.npy", mmap_mode="r", allow_pickle=False)
    np.testing.assert_array_equal(features, source[[rows[name] for name in chosen]])


def test_boxes_show_where_the_pictures_stand(scenes: Path) -> None:
    boxes: dict[str, list[tuple[int, ...]]] = {}
    for region in read_regions(scenes / "regions.tsv"):
        edges = [region.x0, region.y0, region.x1, region.y1]
        assert all(0 <= edge <= 1 for edge in edges)
        pixels = np.array(edges) * 224
        np.testing.assert_allclose(pixels, pixels.round(), atol=1e-9)
        boxes.setdefault(region.image_id, []).append(tuple(int(edge) for edge in pixels.round()))
    images = read_images(scenes / "images.tsv")
    for row in images.rows:
        with Image.open(images.root / row.path) as picture:
            assert picture.size == (row.width, row.height) == (224, 224)
            ink = np.asarray(picture.convert("RGB")).min(axis=2) < 225
        outside = ink.copy()
        for left, upper, right, lower in boxes[row.image_id]:
            assert ink[upper:lower, left:right].mean() > 0.005
            # WebP smears a little over the edge
            outside[max(0, upper - 2) : lower + 2, max(0, left - 2) : right + 2] = False
        assert outside.mean() < 1e-3


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_same_seed_gives_the_same_bytes(scenes: Path, tmp_path: Path, jobs: int) -> None:
    prepare_scenes(
        tmp_path / "data", EMBEDDED, config=CONFIG, options=BuildOptions(relative_root=True, jobs=jobs)
    )
    assert folder_content(tmp_path / "data") == folder_content(scenes)


def test_another_seed_gives_other_scenes(scenes: Path, tmp_path: Path) -> None:
    config = ScenesConfig(objects=12, train_scenes=25, valid_scenes=6, test_scenes=8, seed=4)
    prepare_scenes(tmp_path / "data", EMBEDDED, config=config, options=BuildOptions(relative_root=True))
    assert objects_of(tmp_path / "data") != objects_of(scenes)


def test_held_out_scenes_and_first_captions_stay_when_more_is_asked(scenes: Path, tmp_path: Path) -> None:
    config = ScenesConfig(objects=12, train_scenes=5, valid_scenes=6, test_scenes=8, captions=3, seed=3)
    prepare_scenes(tmp_path / "data", EMBEDDED, config=config, options=BuildOptions(relative_root=True))
    before, after = folder_content(scenes), folder_content(tmp_path / "data")
    kept = [name for name in before if name in after and name.startswith(("speech/", "pictures/"))]
    assert len(kept) == 19 * 3
    assert all(before[name] == after[name] for name in kept)


def test_root_is_absolute_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = ScenesConfig(objects=4, train_scenes=2, valid_scenes=0, test_scenes=0)
    prepare_scenes(Path("data"), EMBEDDED, config=config)
    assert (tmp_path / "data/train.tsv").read_text("utf-8").splitlines()[0] == str(tmp_path / "data")
    assert ManifestFolder(tmp_path / "data").splits() == ["train"]


def test_summary_says_what_was_done(scenes: Path) -> None:
    summary = json.loads((scenes / "summary.json").read_text("utf-8"))
    assert summary["command"].startswith("fairseq-vgs prepare scenes OUTPUT --source SOURCE --objects 12 ")
    assert summary["settings"]["seed"] == 3
    assert summary["source"]["splits_pooled"] == ["train", "valid", "test"]
    assert any("pooled" in note for note in summary["notes"])
    assert len(summary["objects"]) == 12
    assert {split: counts["captions"] for split, counts in summary["splits"].items()} == {
        split: 2 * n_scenes for split, n_scenes in COUNTS.items()
    }
    left_out = sum(reason["count"] for reason in summary["excluded"].values())
    assert left_out + 12 == summary["source"]["objects"] == 418


def test_objects_that_only_held_out_scenes_show_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ScenesConfig(objects=12, train_scenes=1, valid_scenes=0, test_scenes=8)
    summary = prepare_scenes(tmp_path / "data", EMBEDDED, config=config)
    assert 0 < len(summary["held_out_objects_unseen_in_train"]) < 12
    assert "are in no training scene" in caplog.text


def test_a_source_without_features_gives_pictures_only(tmp_path: Path) -> None:
    make_stamps(tmp_path / "stamps", 6)
    tuxpaint = TuxPaint("ru", valid_share=0.2, test_share=0.2)
    tuxpaint.prepare(tmp_path / "stamps", tmp_path / "source")
    config = ScenesConfig(objects=6, train_scenes=8, valid_scenes=2, test_scenes=2)
    prepare_scenes(tmp_path / "data", tmp_path / "source", config=config)
    assert check_folder(tmp_path / "data") == []
    assert not (tmp_path / "data/regions.tsv").exists()


def test_interruption_leaves_nothing_and_force_replaces(tmp_path: Path) -> None:
    config = ScenesConfig(objects=4, train_scenes=6, valid_scenes=0, test_scenes=0)

    def interrupt(done: int, total: int) -> None:
        assert total == 6
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_scenes(
            tmp_path / "data", EMBEDDED, config=config, options=BuildOptions(jobs=2), progress=interrupt
        )
    assert list(tmp_path.iterdir()) == []
    prepare_scenes(tmp_path / "data", EMBEDDED, config=config)
    with raises_fault("output.exists", "data"):
        prepare_scenes(tmp_path / "data", EMBEDDED, config=config)
    config = ScenesConfig(objects=4, train_scenes=2, valid_scenes=0, test_scenes=0)
    prepare_scenes(tmp_path / "data", EMBEDDED, config=config, options=BuildOptions(force=True))
    assert len(read_images(tmp_path / "data/images.tsv").rows) == 2


def test_the_source_is_never_replaced(tmp_path: Path) -> None:
    config = ScenesConfig(objects=4, train_scenes=2, valid_scenes=0, test_scenes=0)
    with raises_fault("output.is_input", "embedded"):
        prepare_scenes(EMBEDDED, EMBEDDED, config=config, options=BuildOptions(force=True))


def test_recordings_of_the_source_are_never_replaced(tmp_path: Path) -> None:
    config = ScenesConfig(objects=4, train_scenes=2, valid_scenes=0, test_scenes=0, pictures_per_scene=(1, 1))
    old = tmp_path / "old"
    prepare_scenes(old, EMBEDDED, config=config)
    tables = tmp_path / "tables"
    tables.mkdir()
    for path in old.glob("*.tsv"):
        (tables / path.name).write_text(path.read_text("utf-8").replace("#root\t.", f"#root\t{old}"), "utf-8")
    config = ScenesConfig(objects=2, train_scenes=1, valid_scenes=0, test_scenes=0, pictures_per_scene=(1, 1))
    with raises_fault("output.is_input", "old"):
        prepare_scenes(old, tables, config=config, options=BuildOptions(force=True))
    prepare_scenes(tmp_path / "new", tables, config=config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objects": 8}, r"scenes: must be at most 154 .* 2 to 4 of 8 objects, got 1800"),
        ({"objects": 0}, "--objects: must be at least 1"),
        ({"train_scenes": 0}, "--train-scenes: must be at least 1"),
        ({"captions": 0}, "--captions: must be at least 1"),
        ({"valid_scenes": -1}, "--valid-scenes: must be at least 0"),
        ({"seed": -1}, "--seed: must be at least 0"),
        ({"max_object_seconds": -1}, "--max-object-seconds: must be at least 0"),
        ({"pictures_per_scene": (0, 2)}, "--pictures-per-scene: must be two rising numbers from 1 to 6"),
        ({"pictures_per_scene": (4, 2)}, "--pictures-per-scene"),
        ({"pictures_per_scene": (2, 7)}, "--pictures-per-scene"),
        ({"canvas_size": 10}, "--canvas-size: must be at least 64"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(FaultError, match=message):
        ScenesConfig(**settings)
