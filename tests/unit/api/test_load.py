"""What a path may be, what is said of others, and how regions are named where the file does not."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import wav2vec2_files
from support.faults import raises_fault
from support.tiny_backbones import make_backbone
from support.tiny_folder import make_folder

import fairseq_vgs as vgs
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.features.embeddings import embed_split, open_split
from fairseq_vgs.manifest.summary import read_summary, region_recipe
from fairseq_vgs.regions.backbone import cache_image_features
from fairseq_vgs.regions.efficientnet import FEATURE_DIM


def test_a_run_gives_its_best_checkpoint(run):
    model = vgs.load(run, device="cpu")
    assert model.path == run / "checkpoints/checkpoint_best.pt"
    assert vgs.load_checkpoint(str(model.path)).version == vgs.__version__
    assert (model.measure, model.dim, model.frame_rate, model.device) == ("dot", 20, 50.0, "cpu")


def test_the_last_one_where_there_is_no_best(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    folder = tmp_path / "copy/checkpoints"
    (folder / "checkpoint_best.pt").rename(folder / "checkpoint_last.pt")
    for path in (tmp_path / "copy", folder, folder / "checkpoint_last.pt"):
        assert vgs.load(path).path == folder / "checkpoint_last.pt"


@pytest.mark.parametrize(
    ("name", "code"), [("empty", "model.kind"), ("missing", "file.missing"), ("page.pt", "checkpoint.kind")]
)
def test_other_paths_are_named(tmp_path, name, code):
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.pt").write_text("<html>")
    with raises_fault(code, name):
        vgs.load(tmp_path / name)


def test_unknown_devices_are_named(run):
    with raises_fault("setting.value", "device"):
        vgs.load(run, device="toaster")


def test_stock_wav2vec2_has_layers_and_attention_alone(tmp_path, media):
    stock = wav2vec2_files.stock_model({})
    torch.save(wav2vec2_files.new_state(stock, {}), tmp_path / "wav2vec_small.pt")
    model = vgs.load(tmp_path / "wav2vec_small.pt")
    layers = model.layers(media / "a.wav")
    n_frames = len(layers[1])
    assert len(layers) == len(stock.encoder.layers) + 1
    n_heads = stock.cfg.encoder_attention_heads
    assert model.attention(media / "a.wav", layer=1).shape == (n_heads, n_frames, n_frames)
    for embed, path in ((model.embed_speech, "a.wav"), (model.embed_images, "x.jpg")):
        with raises_fault("checkpoint.kind", "wav2vec_small.pt"):
            embed(media / path)


def test_a_model_of_text_says_so(make_run, media):
    run = make_run(images={}, caption_encoder="text", text_vocabulary=9)
    model = vgs.load(run)
    for use in (model.embed_speech, model.layers, lambda path: model.attention(path, layer=1)):
        with raises_fault("model.text", "checkpoint_best.pt"):
            use(media / "a.wav")


def test_a_checkpoint_that_does_not_say_it_is_told_what_regions_are(make_run, run, data, media):
    path = make_run(image_dim=FEATURE_DIM)  # the same weights, as before version 0.1.0
    model = vgs.load(path)
    assert model.embed_speech(media / "a.wav").shape == (1, 20)  # which needs none
    with raises_fault("regions.unknown", "checkpoint_best.pt") as caught:
        model.embed_images(media / "x.jpg")
    assert "regions=" in str(caught.value)
    expected = vgs.load(run).embed_images(media / "x.jpg")
    for regions in ("1x2", (1, 2), data, str(data)):
        found = vgs.load(path, regions=regions).embed_images(media / "x.jpg")
        np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(vgs.load(path, regions="2").embed_images(media / "x.jpg"), expected)


def test_what_names_no_regions_is_refused(run, tmp_path):
    for given in ("2by3", str(tmp_path)):
        with raises_fault("regions.recipe", "regions"):
            vgs.load(run, regions=given)


@pytest.mark.parametrize(
    "changed",
    [{"format": "fast-vgs"}, {"network": "other"}, {"weights_sha256": "0" * 64}],
    ids=lambda changed: next(iter(changed)),
)
def test_regions_of_another_network_are_named(make_run, recipe, media, changed):
    model = vgs.load(make_run(images={**recipe, **changed}, image_dim=FEATURE_DIM))
    with raises_fault("regions.extractor", "checkpoint_best.pt"):
        model.embed_images(media / "x.jpg")


def test_a_model_of_other_dims_is_refused(make_run, media):
    model = vgs.load(make_run(image_dim=FEATURE_DIM - 1), regions="2")
    with raises_fault("regions.dims", "checkpoint_best.pt"):
        model.embed_images(media / "x.jpg")


def test_missing_network(run, media, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    model = vgs.load(run)
    with raises_fault("package.missing"):
        model.embed_images(media / "x.jpg")


def test_a_pickled_model_is_the_same(run, media, tmp_path):
    copied = shutil.copytree(run, tmp_path / "copy")
    model = vgs.load(copied)
    pickled = pickle.dumps(model)
    shutil.rmtree(copied)  # the weights travel with it
    again = pickle.loads(pickled)
    for name, embed in (("a.wav", "embed_speech"), ("x.jpg", "embed_images")):
        np.testing.assert_array_equal(
            getattr(again, embed)(media / name), getattr(model, embed)(media / name)
        )
    assert (again.path, again.measure, again.config) == (model.path, model.measure, model.config)


def test_a_pickled_model_of_another_machine_finds_a_device(run, media):
    model = vgs.load(run)
    model.device = "cuda:7"
    assert pickle.loads(pickle.dumps(model)).device in ("cpu", "cuda")


def test_a_model_on_a_gpu_is_pickled_as_on_a_cpu(run, tmp_path, monkeypatch):
    """An exported model is pickled whole; tensors of a GPU could be read on machines with one alone."""
    assert main(["export", str(run / "checkpoints/checkpoint_best.pt"), str(tmp_path / "exported")]) == 0
    model = vgs.load(tmp_path / "exported", device="cpu")
    network, moved = model.checkpoint.model, []
    network.to("meta")  # stands for a GPU
    monkeypatch.setattr(
        torch.nn.Module, "cpu", lambda self: moved.append(self) or self.to_empty(device="cpu")
    )
    again = pickle.loads(pickle.dumps(model.checkpoint))
    assert len(moved) == 1
    assert moved[0] is not network  # which stays where it is
    assert {one.device.type for one in network.parameters()} == {"meta"}
    assert {one.device.type for one in again.model.parameters()} == {"cpu"}


def test_a_checkpoint_names_no_folder_to_read(make_run, tmp_path):
    """A backbone's folder is the user's to name: a checkpoint may come from anybody."""
    data = make_folder(tmp_path / "data", lengths={"test": [6000] * 3}, n_images=3).path
    make_backbone(tmp_path / "vit", "vit")
    dims = cache_image_features(data, tmp_path / "vit", grid=2, force=True).dims
    recipe = {**region_recipe(read_summary(data)), "backbone_folder": str(tmp_path / "vit")}
    run = make_run(images={"reads": "regions", **recipe}, image_dim=dims)
    with raises_fault("regions.backbone", "checkpoint_best.pt"):
        vgs.load(run).embed_images(data / "images/0.png")
    content = json.loads((data / "summary.json").read_text(encoding="utf-8"))
    assert "backbone_folder" not in json.dumps(content)
    with raises_fault("regions.backbone", "checkpoint_best.pt"):
        (data / "summary.json").write_text(with_folder(content, tmp_path / "vit"), encoding="utf-8")
        vgs.load(run, regions=data).embed_images(data / "images/0.png")


def with_folder(summary, folder):
    """Write a folder into the recipe of a summary, as no command does."""
    summary["regions"]["backbone_folder"] = str(folder)
    return json.dumps(summary)


@pytest.mark.parametrize("grid", [0, 2])
def test_regions_of_a_backbone_need_its_folder(make_run, tmp_path, grid):
    """Then they are those of ``prepare image-features``."""
    data = make_folder(tmp_path / "data", lengths={"test": [6000] * 3}, n_images=3).path
    backbone, other = tmp_path / "vit", tmp_path / "other"
    make_backbone(backbone, "vit")
    dims = cache_image_features(data, backbone, grid=grid, force=True).dims
    images = {"reads": "regions", **region_recipe(read_summary(data))}
    run = make_run(images=images, image_dim=dims)
    with raises_fault("regions.backbone", "checkpoint_best.pt"):
        vgs.load(run).embed_images(data / "images/0.png")
    checkpoint = load_checkpoint(run / "checkpoints/checkpoint_best.pt")
    expected = embed_split(checkpoint.model, open_split(data, "test", config=checkpoint.config)).images
    model = vgs.load(run, regions=backbone)
    found = model.embed_images(data / f"images/{number}.png" for number in range(3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    with raises_fault("regions.boxes"):
        model.embed_images(data / "images/0.png", boxes=[[0, 0, 1, 1]])
    shutil.copytree(backbone, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, other / "model.safetensors")
    with raises_fault("regions.extractor", "other"):
        vgs.load(run, regions=other).embed_images(data / "images/0.png")


def test_an_exported_folder_does_what_its_checkpoint_does(run, media, tmp_path):
    assert main(["export", str(run / "checkpoints/checkpoint_best.pt"), str(tmp_path / "exported")]) == 0
    model, exported = vgs.load(run), vgs.load(tmp_path / "exported")
    again = pickle.loads(pickle.dumps(exported))
    recording, picture = media / "a.wav", media / "x.jpg"
    for one in (exported, again):
        for use in (
            lambda model: model.embed_speech(recording),
            lambda model: model.embed_images(picture),
            lambda model: np.stack(model.layers(recording)),
            lambda model: model.attention(recording, layer=2),
            lambda model: model.heat_map(recording, picture).values,
        ):
            np.testing.assert_allclose(use(one), use(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changed",
    [
        {"grid": [10**9, 10**9]},
        {"grid": "all"},
        {"grid": [0, 1]},
        {"precision": "int8"},
        {"format": "hugging-face", "dims": None},
        {"format": "hugging-face", "image_size": 10**6},
    ],
    ids=str,
)
def test_what_an_odd_file_says_of_regions_is_refused(make_run, recipe, media, changed):
    """Before memory is taken for it."""
    model = vgs.load(make_run(images={**recipe, "image_size": 16, **changed}, image_dim=FEATURE_DIM))
    with raises_fault("regions.recipe", "checkpoint_best.pt"):
        model.embed_images(media / "x.jpg")
