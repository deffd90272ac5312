"""Features of a frozen backbone as regions: equal to the backbone's, in the native format, resumable."""

import fcntl
import json
import time

import numpy as np
import pytest
import torch
from PIL import Image
from support.faults import check_folder, raises_fault
from support.tiny_backbones import IMAGE_SIZE, make_backbone
from support.tiny_folder import make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.data.pictures import load_picture
from fairseq_vgs.data.regions import load_regions
from fairseq_vgs.files.location import MediaLocation
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.manifest.tables import read_images, read_regions
from fairseq_vgs.modules.hugging_face import Backbone, read_backbone
from fairseq_vgs.regions import backbone as backbone_features
from fairseq_vgs.regions.backbone import cache_image_features
from fairseq_vgs.regions.store import PARTIAL_FEATURES, PARTIAL_STATE


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data", n_images=7)


def directory(tmp_path, kind="vit"):
    make_backbone(tmp_path / kind, kind)
    return tmp_path / kind


def expected(folder, path):
    """Run the backbone picture by picture: pooled [I, C], tokens of every picture."""
    backbone = Backbone(read_backbone(path)).eval()
    backbone.load_pretrained(path)
    pooled, tokens = [], []
    for i in range(len(read_images(folder.images).rows)):
        location = MediaLocation(folder.path / f"images/{i}.png")
        picture = torch.from_numpy(load_picture(location, place="", image_size=IMAGE_SIZE))
        with torch.no_grad():
            one, some = backbone(picture.unsqueeze(0))
        pooled.append(one[0].numpy())
        tokens.append(some[0].numpy())
    return pooled, tokens


def store(folder):
    images = read_images(folder.images).rows
    return load_regions(folder, image_index={row.image_id: i for i, row in enumerate(images)}, max_regions=99)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_one_region_is_the_pooled_output(folder, tmp_path, kind):
    path = directory(tmp_path, kind)
    found = cache_image_features(folder.path, path, batch_size=3, force=True)
    assert (found.images, found.regions_per_image, found.images_kept) == (7, 1, 0)
    regions, (pooled, _) = store(folder), expected(folder, path)
    for i in range(7):
        np.testing.assert_allclose(regions.features(i), pooled[i][None], rtol=2e-3, atol=2e-3)
        np.testing.assert_array_equal(regions.boxes(i), [[0, 0, 1, 1]])
    assert not [item for item in check_folder(folder.path) if item.place.startswith("regions")]


def test_a_grid_averages_tokens_where_they_are(folder, tmp_path):
    """4 x 4 patches after a CLS, as 2 x 2 cells: the mean of each quarter, with its box."""
    path = directory(tmp_path)
    assert cache_image_features(folder.path, path, grid=2, force=True).dims == 16
    regions, (_, tokens) = store(folder), expected(folder, path)
    for i in range(7):
        patches = tokens[i][1:].reshape(4, 4, 16)
        for cell, (x0, y0, x1, y1) in enumerate(regions.boxes(i).tolist()):
            rows, columns = slice(int(4 * y0), int(4 * y1)), slice(int(4 * x0), int(4 * x1))
            quarter = patches[rows, columns].reshape(4, 16).mean(axis=0)
            np.testing.assert_allclose(regions.features(i)[cell], quarter, rtol=2e-3, atol=2e-3)
    assert regions.boxes(0).tolist() == [
        [0, 0, 0.5, 0.5],
        [0.5, 0, 1, 0.5],
        [0, 0.5, 0.5, 1],
        [0.5, 0.5, 1, 1],
    ]


def interrupt_after_four(folder, path, **settings):
    """Let a run stop in its third batch of two pictures."""
    loaded, load = [], backbone_features.load_picture

    def interrupt(location, **settings):
        if len(loaded) == 5:
            raise KeyboardInterrupt
        loaded.append(location)
        return load(location, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone_features, "load_picture", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache_image_features(folder.path, path, batch_size=2, jobs=1, force=True, **settings)


def test_an_interrupted_run_goes_on(folder, tmp_path):
    path = directory(tmp_path)
    cache_image_features(folder.path, path, batch_size=2, force=True)
    whole = np.load(folder.region_features)
    interrupt_after_four(folder, path)
    np.testing.assert_array_equal(np.load(folder.region_features), whole)
    assert cache_image_features(folder.path, path, batch_size=2, force=True).images_kept == 4
    np.testing.assert_array_equal(np.load(folder.region_features), whole)
    assert not (folder.path / PARTIAL_FEATURES).exists() and not (folder.path / PARTIAL_STATE).exists()


def test_what_image_features_of_a_former_version_began_goes_on(folder, tmp_path):
    path = directory(tmp_path)
    cache_image_features(folder.path, path, batch_size=2, grid=2, force=True)
    whole = np.load(folder.region_features)
    interrupt_after_four(folder, path, grid=2)
    of = json.loads((folder.path / PARTIAL_STATE).read_text())["of"]
    (folder.path / PARTIAL_STATE).unlink()
    (folder.path / PARTIAL_FEATURES).rename(folder.path / ".image-features.partial.npy")
    (folder.path / ".image-features.partial.json").write_text(json.dumps({"of": of, "images": 4}))
    with raises_fault("work.settings", PARTIAL_FEATURES):
        cache_image_features(folder.path, path, grid=1, force=True)
    assert cache_image_features(folder.path, path, batch_size=2, grid=2, force=True).images_kept == 4
    np.testing.assert_array_equal(np.load(folder.region_features), whole)
    assert not list(folder.path.glob(".*"))


def test_features_of_pictures_that_changed_are_not_taken(folder, tmp_path):
    path = directory(tmp_path)
    interrupt_after_four(folder, path)
    Image.new("RGB", (20, 10), (255, 0, 255)).save(folder.path / "images/0.png")
    assert cache_image_features(folder.path, path, batch_size=2, force=True).images_kept == 0
    resumed = np.load(folder.region_features)
    cache_image_features(folder.path, path, batch_size=2, force=True)
    np.testing.assert_array_equal(resumed, np.load(folder.region_features))


@pytest.mark.parametrize("state", ["[" * 100_000, "[]", "{", '{"of": {}}'])
def test_a_state_that_is_none_is_not_taken(folder, tmp_path, state):
    (folder.path / PARTIAL_STATE).write_text(state)
    assert cache_image_features(folder.path, directory(tmp_path), force=True).images_kept == 0


def test_the_summary_says_where_regions_come_from(folder, tmp_path, monkeypatch):
    """In place of what it said of regions before; the rest stays."""
    path = directory(tmp_path)
    folder.summary.write_text('{"made_by": "me", "pairs": 3, "regions": {"format": "lxmert"}}')
    load, began = Backbone.load_pretrained, []

    def load_slowly(self, *args):
        load(self, *args)
        time.sleep(0.3)
        began.append(time.monotonic())

    monkeypatch.setattr(Backbone, "load_pretrained", load_slowly)
    found = cache_image_features(folder.path, path, grid=(1, 2), image_size=IMAGE_SIZE, force=True)
    assert found.seconds <= time.monotonic() - began[0]
    summary = json.loads(folder.summary.read_text())
    weights = {file.name: sha256_file(file) for file in path.glob("*.safetensors")}
    assert weights
    files = (folder.regions, folder.region_features)
    assert summary["regions"].pop("sha256") == {file.name: sha256_file(file) for file in files}
    assert summary == {
        "made_by": "me",
        "pairs": 3,
        "regions": {
            "format": "hugging-face",
            "backbone": path.name,
            "model_type": "vit",
            "weights_sha256": weights,
            "output": "tokens",
            "grid": [1, 2],
            "image_size": IMAGE_SIZE,
            "images": 7,
            "regions": 14,
            "dims": 16,
            "images_kept": 0,
        },
    }
    folder.summary.unlink()
    cache_image_features(folder.path, path, force=True)
    summary = json.loads(folder.summary.read_text())
    assert summary["made_by"] == "fairseq-vgs prepare image-features"
    assert (summary["regions"]["output"], summary["regions"]["grid"]) == ("pooled", [1, 1])
    folder.summary.write_text("[]")
    with raises_fault("json.kind", "summary.json"):
        cache_image_features(folder.path, path, force=True)


def test_two_runs_do_not_mix(folder, tmp_path):
    with (folder.path / PARTIAL_FEATURES).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with raises_fault("output.busy", "data"):
            cache_image_features(folder.path, directory(tmp_path), force=True)


def test_the_disk_is_asked_for_all_features_at_once(tmp_path):
    """Where it is full, this is an error; later, it would end a run in its middle."""
    folder = make_folder(tmp_path / "many", n_images=40)
    interrupt_after_four(folder, directory(tmp_path), grid=4)
    status = (folder.path / PARTIAL_FEATURES).stat()
    assert 512 * status.st_blocks >= status.st_size


def test_what_another_command_left_is_not_taken(folder, tmp_path, monkeypatch):
    path = directory(tmp_path)
    monkeypatch.setattr(backbone_features.F, "adaptive_avg_pool2d", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache_image_features(folder.path, path, grid=2, force=True)
    (folder.path / PARTIAL_STATE).write_text('{"of": {"grid": 2}, "rows": 3}')
    np.save(folder.path / PARTIAL_FEATURES, np.zeros((7, 16), dtype=np.float16))
    assert cache_image_features(folder.path, path, force=True).images_kept == 0
    assert np.load(folder.region_features).any(axis=1).all()


def _interrupt(*args):
    raise KeyboardInterrupt


def test_regions_that_are_there_are_kept(folder, tmp_path, capsys):
    before = folder.region_features.read_bytes()
    assert main(["prepare", "image-features", str(folder.path), "--backbone", str(directory(tmp_path))]) == 1
    assert "already holds regions.tsv, regions.npy; pass --force" in capsys.readouterr().err
    assert folder.region_features.read_bytes() == before


def test_command_line(folder, tmp_path, capsys):
    arguments = ["--backbone", str(directory(tmp_path)), "--grid", "3", "--force"]
    assert main(["prepare", "image-features", str(folder.path), *arguments]) == 0
    assert "7 pictures, 9 regions each, 16 dims" in capsys.readouterr().out
    assert main(["prepare", "image-features", str(folder.path), *arguments, "--grid", "5"]) == 1
    assert "--grid: must be at most 4, the backbone's own cells in a row, got" in capsys.readouterr().err
    assert main(["prepare", "image-features", str(folder.path), *arguments, "--grid", "1x2"]) == 0
    assert "7 pictures, 2 regions each, 16 dims" in capsys.readouterr().out
    boxes = [(row.x0, row.y0, row.x1, row.y1) for row in read_regions(folder.regions)[:2]]
    assert boxes == [(0, 0, 0.5, 1), (0.5, 0, 1, 1)]


def test_a_broken_picture_is_named(folder, tmp_path):
    (folder.path / "images/3.png").write_bytes(b"")
    with raises_fault("file.empty", "images.tsv:6 (images/3.png)"):
        cache_image_features(folder.path, directory(tmp_path), force=True)
