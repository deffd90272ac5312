"""Objects on white, and their boxes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.source_files import CHECKOUT

from fairseq_vgs.manifest import ManifestFolder, read_images, read_regions
from fairseq_vgs.media.pictures import read_picture
from fairseq_vgs.prepare.scenes.compose import prepare_scenes
from fairseq_vgs.prepare.scenes.plan import ScenesConfig
from fairseq_vgs.regions.objects import OBJECTS_ON_WHITE, object_boxes


def drawn(*boxes, size=(200, 100), colour=(200, 30, 30)):
    picture = Image.new("RGB", size, "white")
    for x0, y0, x1, y1 in boxes:
        ImageDraw.Draw(picture).rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
    return picture


def test_each_object_has_a_box_the_largest_first():
    picture = drawn((150, 10, 180, 30), (20, 40, 80, 90))
    expected = [[0.1, 0.4, 0.4, 0.9], [0.75, 0.1, 0.9, 0.3]]
    np.testing.assert_allclose(object_boxes(picture), expected, atol=1e-6)


def test_parts_that_nearly_touch_are_one_object():
    """Chains, too: the last part meets the first only through the others."""
    picture = drawn((10, 10, 30, 30), (50, 10, 70, 30), (32, 10, 48, 30))
    np.testing.assert_allclose(object_boxes(picture), [[0.05, 0.1, 0.35, 0.3]], atol=1e-6)
    assert len(object_boxes(drawn((10, 10, 30, 30), (40, 10, 60, 30)))) == 2


@pytest.mark.parametrize("colour", [(255, 255, 255), (245, 250, 240)])
def test_nothing_on_white_is_one_box(colour):
    np.testing.assert_array_equal(object_boxes(drawn((10, 10, 60, 60), colour=colour)), [[0, 0, 1, 1]])


def test_specks_are_no_objects():
    assert len(object_boxes(drawn((10, 10, 60, 60), (100, 50, 102, 52)))) == 1


def test_a_photo_is_one_box():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(object_boxes(Image.fromarray(pixels)), [[0, 0, 1, 1]])


def test_scenes_say_so_and_their_objects_are_found(tmp_path):
    source = CHECKOUT / "manifests/embedded"
    config = ScenesConfig(objects=12, train_scenes=6, valid_scenes=2, test_scenes=2, seed=3)
    prepare_scenes(tmp_path / "scenes", source, config=config)
    folder = ManifestFolder(tmp_path / "scenes")
    entry = json.loads(folder.summary.read_text("utf-8"))["regions"]
    assert (entry["where"], entry["network"], entry["dims"]) == (OBJECTS_ON_WHITE, "efficientnet-lite0", 1280)
    assert "grid" not in entry
    boxes = {}
    for row in read_regions(folder.regions):
        boxes.setdefault(row.image_id, []).append((row.x0, row.y0, row.x1, row.y1))
    assert entry["regions"] == sum(map(len, boxes.values()))
    overlaps = []
    for row in read_images(folder.images).rows:
        found = object_boxes(read_picture(folder.path / row.path))
        overlaps += [max(overlap(box, one) for one in found) for box in boxes[row.image_id]]
    assert np.median(overlaps) > 0.95
    assert np.mean(overlaps) > 0.8


def overlap(first, second):
    inner = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = np.prod(np.maximum(inner, 0))
    areas = [np.prod(np.subtract(box[2:], box[:2])) for box in (first, second)]
    return shared / (sum(areas) - shared)
