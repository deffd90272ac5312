"""Exported folders: used without fairseq and this package, and equal to the model they came from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from support.abx_material import write_checkpoint
from support.exported import batch, of_fairseq
from support.faults import raises_fault
from support.tiny_backbones import IMAGE_SIZE, make_backbone
from support.tiny_folder import REGION_DIM, make_folder

import fairseq_vgs as vgs
from fairseq_vgs.checkpoints.exports.folder import Reading, export_checkpoint
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation.evaluators.retrieval import read_retrieval
from fairseq_vgs.files.provenance import plugin_state
from fairseq_vgs.metrics.retrieval import recalls, retrieval_ranks
from fairseq_vgs.modules.hugging_face import read_backbone
from fairseq_vgs.regions.efficientnet import EfficientNetFeatures
from fairseq_vgs.regions.objects import OBJECTS_ON_WHITE

ALONE = """
import json, sys

for name in ("fairseq", "fairseq_cli", "fairseq_vgs", "omegaconf", "hydra"):
    sys.modules[name] = None  # importing them fails
import numpy as np, soundfile, torch
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel

folder, wavs, pictures = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
read_speech = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
with torch.inference_mode():
    waves = [soundfile.read(path, dtype="float32")[0] for path in wavs]
    longest = {"truncation": True, "max_length": read_speech.max_samples, "padding": True}
    batch = read_speech(waves, sampling_rate=16000, return_tensors="pt", **longest)
    speech = model.get_speech_features(**batch)
    if pictures:
        read_pictures = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
        images = model.get_image_features(**read_pictures(pictures))
        np.save(sys.argv[4] + "/images.npy", images.numpy())
np.save(sys.argv[4] + "/speech.npy", speech.numpy())
"""


def export(tmp_path: Path, *arguments: str, name: str = "hub", **settings: object) -> tuple[Path, Path]:
    """Write a checkpoint and export it by the command; return both paths."""
    task = settings.pop("task", {})
    path = write_checkpoint(tmp_path / f"{name}.pt", **settings)
    state = torch.load(path)
    state["cfg"]["task"].update(task)
    torch.save(state, path)
    assert main(["export", str(path), str(tmp_path / name), *arguments]) == 0
    return path, tmp_path / name


def load(folder: Path, **options: object):
    return transformers.AutoModel.from_pretrained(folder, trust_remote_code=True, **options).eval()


def alone(
    folder: Path, wavs: list[Path], pictures: list[Path], output: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Embed files in a process that can import neither fairseq nor this package."""
    lists = [json.dumps([str(path) for path in paths]) for paths in (wavs, pictures)]
    command = [sys.executable, "-c", ALONE, str(folder), *lists, str(output)]
    environment = {**os.environ, "HF_MODULES_CACHE": str(output / "modules_of_its_own")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=output, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return np.load(output / "speech.npy"), np.load(output / "images.npy") if pictures else np.zeros(0)


@pytest.mark.parametrize("fit", ["squeeze", "crop"])
def test_recall_from_the_files_alone(tmp_path, fit):
    """Speech, cut and normalised, and pictures, resized, give the ranks of evaluate retrieval."""
    data = make_folder(tmp_path / "data", lengths={"test": [9600, 6000, 7321, 12000, 5000, 8801]}, n_images=4)
    sizes = [(320, 200), (40, 30), (17, 90), (64, 64)]
    for number, size in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data.path / f"images/{number}.png")
    table = (data.images).read_text(encoding="utf-8")
    for number, (width, height) in enumerate(sizes):
        old = f"images/{number}.png\t20\t10"
        assert old in table
        table = table.replace(old, f"images/{number}.png\t{width}\t{height}")
    data.images.write_text(table, encoding="utf-8")
    task = {"valid_max_seconds": 0.55, "image_fit": fit, "image_size": 16}
    path, folder = export(tmp_path, image_encoder="patches", speech_head="resdavenet", task=task)
    results = tmp_path / "results"
    command = ["evaluate", "retrieval", path, data.path, "--baseline", "none", "--output", results]
    assert main(list(map(str, command))) == 0
    wanted = json.loads((results / "metrics.json").read_text(encoding="utf-8"))["models"]["trained"][
        "metrics"
    ]
    wavs = [data.path / f"test/{number}.wav" for number in range(6)]
    pictures = [data.path / f"images/{number}.png" for number in range(4)]
    speech, images = alone(folder, wavs, pictures, tmp_path)
    np.testing.assert_allclose(speech, np.load(results / "speech_embeddings.npy"), rtol=0, atol=1e-5)
    np.testing.assert_allclose(images, np.load(results / "image_embeddings.npy"), rtol=0, atol=1e-5)
    ranks = retrieval_ranks(speech, images, speech_groups=np.arange(6) % 4, image_groups=np.arange(4))
    _, embedded = read_retrieval(results)
    for found, stored in zip(astuple(ranks), astuple(embedded.ranks), strict=True):
        np.testing.assert_array_equal(found, stored)
    found = recalls(ranks)
    assert found == pytest.approx({name: wanted[name]["value"] for name in found}, abs=1e-12)


def test_jpegs_and_turned_pictures(tmp_path):
    """JPEGs are decoded at a fraction of their size, as in evaluation, and turned upright."""
    from fairseq_vgs.data.pictures import load_picture
    from fairseq_vgs.files.location import MediaLocation

    _, folder = export(tmp_path, image_encoder="patches", task={"image_size": 16})
    read = transformers.AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((700, 900))
    exif = Image.Exif()
    for turn in (1, 6, 3):
        exif[0x0112] = turn
        path = tmp_path / f"{turn}.jpg"
        picture.save(path, exif=exif)
        wanted = load_picture(MediaLocation(path), place="here", image_size=16)
        np.testing.assert_array_equal(read(path)["pixel_values"][0].numpy(), wanted)
    assert read([path, path])["pixel_values"].shape == (2, 3, 16, 16)
    transparent = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert float(read(transparent)["pixel_values"].min()) == 1.0


def test_saved_again_and_at_half_precision(tmp_path):
    path, folder = export(tmp_path, speech_head="resdavenet")
    source, padding_mask = batch([8000, 4003])
    with torch.inference_mode():
        wanted = load_checkpoint(path).model.encode_speech(source, padding_mask)
        model = load(folder)
        model.save_pretrained(tmp_path / "again")
        for one in (model, load(tmp_path / "again")):
            found = one.get_speech_features(source, ~padding_mask)
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
        for dtype, atol in ((torch.float16, 5e-3), (torch.bfloat16, 5e-2)):
            half = load(folder, dtype=dtype)
            found = half.get_speech_features(source, ~padding_mask)
            assert found.dtype == dtype
            torch.testing.assert_close(found.float(), wanted, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("device_map", "kind"), [("cpu", "patches"), ({"": "cpu"}, "hugging_face"), ("auto", "regions")]
)
def test_loaded_by_a_map_of_devices(tmp_path, device_map, kind):
    """Which transformers makes with accelerate."""
    pytest.importorskip("accelerate")
    settings = {"image_encoder": kind, "speech_head": "resdavenet"}
    if kind == "hugging_face":
        make_backbone(tmp_path / "clip", "clip")
        settings |= {"image_size": IMAGE_SIZE, "image_backbone_config": read_backbone(tmp_path / "clip")}
    path, folder = export(tmp_path, **settings)
    wanted = load_checkpoint(path).model
    source, padding_mask = batch([8000, 4003])
    images = {"pictures": torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1}
    if kind == "regions":
        images = {"features": torch.rand(2, 3, REGION_DIM), "boxes": torch.rand(2, 3, 4)}
        images["padding_mask"] = torch.zeros(2, 3, dtype=torch.bool)
    given = {"regions": images} if kind == "regions" else {"pixel_values": images["pictures"]}
    for dtype, atol in ((torch.float32, 1e-5), (torch.bfloat16, 5e-2)):
        model = load(folder, device_map=device_map, dtype=dtype)
        assert {(one.device.type, one.dtype) for one in model.parameters()} == {("cpu", dtype)}
        with torch.inference_mode():
            output = model(source, (~padding_mask).long(), output_hidden_states=True)
            layers = of_fairseq(wanted, source, padding_mask)
            for found, expected in zip(output.hidden_states, layers["states"], strict=True):
                valid = layers["valid"]
                torch.testing.assert_close(found[valid].float(), expected[valid], rtol=atol, atol=atol)
            speech = model.get_speech_features(source, ~padding_mask)
            torch.testing.assert_close(speech.float(), layers["speech"], rtol=atol, atol=atol)
            found = model.get_image_features(**given).float()
            torch.testing.assert_close(found, wanted.encode_image(images), rtol=atol, atol=atol)


def test_backbones_load_with_their_buffers(tmp_path):
    """Loading makes weights only: what else a model needs must follow from its settings."""
    make_backbone(tmp_path / "clip", "clip")
    given = {"image_size": IMAGE_SIZE, "image_backbone_config": read_backbone(tmp_path / "clip")}
    path, folder = export(tmp_path, image_encoder="hugging_face", **given)
    pictures = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1
    with torch.inference_mode():
        wanted = load_checkpoint(path).model.encode_image({"pictures": pictures})
        for one in (load(folder), load(folder)):
            torch.testing.assert_close(one.get_image_features(pictures), wanted, rtol=0, atol=1e-5)


def test_normalisation_is_that_of_the_run(tmp_path):
    """Quiet speech, for which the epsilon of wav2vec 2.0's own feature extractor is another."""
    from fairseq_vgs.data.waveform import normalize_waveform

    _, folder = export(tmp_path)
    read = transformers.AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
    waves = [(0.01 * np.random.default_rng(n).standard_normal(n)).astype(np.float32) for n in (801, 533)]
    found = read(waves, sampling_rate=16_000, padding=True, return_tensors="np")
    for row, wave in enumerate(waves):
        np.testing.assert_allclose(
            found["input_values"][row, : len(wave)], normalize_waveform(wave), atol=1e-6
        )
    assert not found["input_values"][1, 533:].any()
    one = read(waves[0], sampling_rate=16_000)["input_values"][0]
    np.testing.assert_allclose(one, normalize_waveform(waves[0]), atol=1e-6)
    _, raw = export(tmp_path, name="raw", task={"normalize": False})
    read = transformers.AutoFeatureExtractor.from_pretrained(raw, trust_remote_code=True)
    np.testing.assert_array_equal(read(waves[0], sampling_rate=16_000)["input_values"][0], waves[0])


def test_models_that_were_trained_on_padded_speech_get_it(tmp_path):
    task = {"valid_max_seconds": 0.5, "pad_to_max": True}
    path, folder = export(tmp_path, padding="fast_vgs", speech_head="resdavenet", task=task)
    read = transformers.AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
    given = read(
        [np.ones(9000, dtype="f"), np.ones(300, dtype="f")], sampling_rate=16_000, return_tensors="pt"
    )
    assert given["input_values"].shape == (2, 8000)
    assert given["attention_mask"].sum(dim=1).tolist() == [8000, 300]
    with torch.inference_mode():
        found = load(folder).get_speech_features(**given)
        wanted = load_checkpoint(path).model.encode_speech(
            given["input_values"], given["attention_mask"] == 0
        )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("image_encoder", ["regions", "patches"])
def test_demo_runs(tmp_path, image_encoder):
    _, folder = export(tmp_path, image_encoder=image_encoder, task={"image_size": 16})
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal(8000) / 10, 16_000)
    Image.new("RGB", (30, 20), (200, 30, 30)).save(tmp_path / "a.jpg")
    command = [sys.executable, str(folder / "demo.py"), "a.wav", "a.jpg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tensor([[")


def test_what_cannot_be_exported_is_named(tmp_path):
    reading = Reading(16_000, False, 16, "squeeze")
    path = write_checkpoint(tmp_path / "one.pt")
    checkpoint = load_checkpoint(path)
    for changes, code in (
        ({"caption_encoder": "text"}, "export.text"),
        ({"speech_head": "mine"}, "export.extension"),
        ({"image_encoder": "mine"}, "export.extension"),
        ({"quantize_input": True}, "export.settings"),
    ):
        checkpoint.config["model"] = {**load_checkpoint(path).config["model"], **changes}
        with raises_fault(code, "one.pt"):
            export_checkpoint(checkpoint, tmp_path / "hub", reading=reading)
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("spoiled", ["encode_speech", "encode_image", "extract_features"])
def test_a_folder_that_would_compute_something_else_is_not_published(tmp_path, spoiled):
    checkpoint = load_checkpoint(write_checkpoint(tmp_path / "one.pt"))
    forward = getattr(checkpoint.model, spoiled)

    def other(*given, **more):
        found = forward(*given, **more)
        if spoiled != "extract_features":
            return found + 0.01
        layers = [(result[0] + 0.01, *result[1:]) for result in found["layer_results"]]
        return {**found, "layer_results": layers}

    setattr(checkpoint.model, spoiled, other)
    with raises_fault("export.inexact", "one.pt"):
        export_checkpoint(checkpoint, tmp_path / "hub", reading=Reading(16_000, False, 16, "squeeze"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pt"]


def test_only_an_export_is_replaced(tmp_path):
    path, folder = export(tmp_path)
    with raises_fault("output.exists", "hub"):
        main(["export", str(path), str(folder), "--debug"])
    assert main(["export", str(path), str(folder), "--force"]) == 0
    (folder / "export.json").unlink()
    with raises_fault("output.not_ours", "hub"):
        main(["export", str(path), str(folder), "--force", "--debug"])


def test_a_run_stands_for_its_best_checkpoint(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    write_checkpoint(run / "checkpoints/checkpoint_best.pt")
    assert main(["export", str(run), str(tmp_path / "hub")]) == 0
    record = json.loads((tmp_path / "hub/export.json").read_text(encoding="utf-8"))
    assert record["checkpoint"]["name"] == "checkpoint_best.pt"
    assert record["checkpoint"]["n_updates"] == 7


@pytest.mark.parametrize(("mode", "norm_first"), [("default", False), ("layer_norm", True)])
def test_plain_speech_encoders(tmp_path, mode, norm_first):
    """transformers' own class, without code of ours, gives the same layers."""
    settings = {
        "use_cls": False,
        "extractor_mode": mode,
        "layer_norm_first": norm_first,
        "activation_fn": "relu",
    }
    path, folder = export(tmp_path, "--plain", **settings)
    plain = transformers.AutoModel.from_pretrained(folder).eval()
    assert type(plain) is transformers.Wav2Vec2Model
    assert (
        type(transformers.AutoFeatureExtractor.from_pretrained(folder))
        is transformers.Wav2Vec2FeatureExtractor
    )
    source, padding_mask = batch([8000, 4003] if mode == "layer_norm" else [7999])
    wanted = of_fairseq(load_checkpoint(path).model, source, padding_mask)
    with torch.inference_mode():
        output = plain(source, attention_mask=(~padding_mask).long(), output_hidden_states=True)
    for state, expected in zip(output.hidden_states, wanted["states"], strict=True):
        torch.testing.assert_close(state[wanted["valid"]], expected[wanted["valid"]], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "code"),
    [({}, "export.cls"), ({"use_cls": False, "padding": "fast_vgs"}, "export.settings")],
)
def test_plain_speech_encoders_are_refused_where_they_would_differ(tmp_path, settings, code):
    path = write_checkpoint(tmp_path / "one.pt", **settings)
    with raises_fault(code, "one.pt"):
        main(["export", str(path), str(tmp_path / "hub"), "--plain", "--debug"])
    assert not (tmp_path / "hub").exists()


OWN_REGIONS = dict(EfficientNetFeatures(precision="float64").describe())


@pytest.mark.parametrize(
    "where", [{"grid": [1, 1]}, {"grid": [2, 3]}, {"where": OBJECTS_ON_WHITE}], ids=lambda one: str(one)
)
def test_folders_compute_their_regions(tmp_path, where):
    """A picture is enough, where the network of this package made the regions of the training."""
    path = write_checkpoint(tmp_path / "one.pt", image_dim=1280)
    state = torch.load(path)
    state["task_state"] = plugin_state({**OWN_REGIONS, **where, "dims": 1280})
    torch.save(state, path)
    assert main(["export", str(path), str(tmp_path / "hub")]) == 0
    pictures = []
    for number, spots in enumerate(([(5, 10, 60, 50)], [(20, 20, 40, 90), (70, 5, 110, 30)])):
        picture = Image.new("RGB", (120, 100), (255, 255, 255))
        for spot in spots:
            pixels = np.random.default_rng(number).integers(0, 200, (spot[3] - spot[1], spot[2] - spot[0], 3))
            picture.paste(Image.fromarray(pixels.astype(np.uint8)), spot[:2])
        picture.save(tmp_path / f"{number}.png")
        pictures.append(tmp_path / f"{number}.png")
    wanted = vgs.load(path, device="cpu").embed_images(pictures)
    _, found = alone(tmp_path / "hub", [write_noise(tmp_path)], pictures, tmp_path)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        vgs.load(tmp_path / "hub", device="cpu").embed_images(pictures), wanted, atol=1e-5
    )
    assert main(["import", "hub", str(tmp_path / "hub"), str(tmp_path / "again.pt")]) == 0
    np.testing.assert_allclose(vgs.load(tmp_path / "again.pt").embed_images(pictures), wanted, atol=1e-5)


def write_noise(folder: Path) -> Path:
    soundfile.write(folder / "a.wav", np.random.default_rng(0).standard_normal(8000) / 10, 16_000)
    return folder / "a.wav"


def test_weights_in_half_precision(tmp_path, capsys):
    """Half the space, computed in fp32; for this package alone, neither code nor region network."""
    path = write_checkpoint(tmp_path / "model.pt", image_dim=1280, speech_head="resdavenet")
    state = torch.load(path)
    state["task_state"] = plugin_state({**OWN_REGIONS, "grid": [1, 1], "dims": 1280})
    state["cfg"]["task"].update(data=str(make_folder(tmp_path / "data").path))
    torch.save(state, path)
    folders = {}
    for name, words in (("full", ()), ("half", ("--half",)), ("bare", ("--half", "--bare"))):
        folders[name] = tmp_path / name
        assert main(["export", str(path), str(folders[name]), *words]) == 0
    assert 'fairseq_vgs.load("' in capsys.readouterr().out
    before, halves, bare = (load_file(folders[name] / "model.safetensors") for name in folders)
    for name, tensor in halves.items():
        keeps = name.startswith("region_network.") or not tensor.is_floating_point()
        assert tensor.dtype == (before[name].dtype if keeps else torch.float16), name
        torch.testing.assert_close(tensor.float(), before[name].float(), rtol=1e-3, atol=1e-6)
    assert bare.keys() == {name for name in halves if not name.startswith("region_network.")}
    assert not [one for one in folders["bare"].iterdir() if one.suffix == ".py"]
    source, padding_mask = batch([8000, 4003])
    with torch.inference_mode():
        wanted = load_checkpoint(path).model.encode_speech(source, padding_mask)
        found = [
            vgs.load(folders[name]).checkpoint.model.encode_speech(source, padding_mask) for name in folders
        ]
        found.append(load(folders["half"]).get_speech_features(source, ~padding_mask))
    for one in found:
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, wanted, rtol=0, atol=1e-2 * float(wanted.abs().max()))
    known = vgs.load(folders["bare"]).config["training_data"]
    assert (known["captions"], known["images"]) == (12, 6)
