"""Exported folders in place of checkpoints: the same numbers, without fairseq; named where they changed."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.abx_material import write_checkpoint, write_recordings
from support.exported import batch
from support.faults import raises_fault
from support.tiny_backbones import IMAGE_SIZE, make_backbone
from support.tiny_folder import make_folder

import fairseq_vgs as vgs
from fairseq_vgs.checkpoints.exports.modeling import image_vgs
from fairseq_vgs.checkpoints.open import open_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.features.speech import speech_features
from fairseq_vgs.files.provenance import peak_memory_mb
from fairseq_vgs.modules import hugging_face
from fairseq_vgs.modules.alone import speech_embeddings
from fairseq_vgs.modules.hugging_face import read_backbone

PATCHES = {"image_encoder": "patches"}
LENGTHS = {"test": [9600, 6000, 7321, 12000, 5000, 8801]}
WITHOUT_FAIRSEQ = """
import sys

for name in ("fairseq", "fairseq_cli"):
    sys.modules[name] = None  # importing them fails
from fairseq_vgs.cli.main import main

if sys.argv[1] == "load":
    import fairseq_vgs as vgs
    print(vgs.load(sys.argv[2]).embed_speech(sys.argv[3]).tolist())
else:
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "set", lengths=LENGTHS, n_images=4).path


def made(folder: Path, **settings: object) -> tuple[Path, Path]:
    """Write a checkpoint and its export; return both."""
    task = settings.pop("task", {"valid_max_seconds": 0.55, "max_regions": 2, "image_size": 16})
    path = write_checkpoint(folder / "before.pt", **settings)
    state = torch.load(path)
    state["cfg"]["task"].update(task)
    torch.save(state, path)
    assert main(["export", str(path), str(folder / "hub")]) == 0
    return path, folder / "hub"


def with_backbone(folder: Path) -> dict[str, object]:
    """Return the settings of a model with a backbone of Hugging Face."""
    make_backbone(folder, "vit")
    given = {"image_size": IMAGE_SIZE, "image_backbone_config": read_backbone(folder)}
    task = {"valid_max_seconds": 0.55, "image_size": IMAGE_SIZE}
    return {"image_encoder": "hugging_face", "task": task, **given}


def without_fairseq(*arguments: object) -> str:
    command = [sys.executable, "-c", WITHOUT_FAIRSEQ, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("padding", "mode"), [*product(("exact", "fairseq", "fast_vgs"), ("default", "layer_norm"))]
)
def test_each_utterance_as_if_alone(tmp_path, padding, mode):
    """The doors of this package leave padding out, whatever the model's own forward does with it."""
    path, folder = made(tmp_path, padding=padding, extractor_mode=mode, speech_head="resdavenet")
    before, after = open_checkpoint(path), open_checkpoint(folder / "model.safetensors")
    source, padding_mask = batch([8000, 6101, 4003])
    with torch.inference_mode():
        for pad_to_max in (False, True):
            wanted, found = (
                speech_embeddings(one.model, source, padding_mask, pad_to_max=pad_to_max)
                for one in (before, after)
            )
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    together = [source[0], source[1, :6101]] if padding != "fast_vgs" else [source[0], source[0] * 2]
    for found, wanted in zip(*(speech_features(one.model, together) for one in (after, before)), strict=True):
        assert found.layers.keys() == wanted.layers.keys()
        for name, layer in wanted.layers.items():
            torch.testing.assert_close(found.layers[name], layer, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.embedding, wanted.embedding, rtol=0, atol=1e-5)


def test_it_says_of_its_run_what_the_checkpoint_says(tmp_path):
    path, folder = made(tmp_path)
    before, after = open_checkpoint(path), open_checkpoint(folder / "model.safetensors")
    assert (after.n_updates, after.trained, after.similarity) == (7, True, before.similarity)
    assert after.images == before.images
    assert after.config["task"]["valid_max_seconds"] == 0.55
    untrained = [open_checkpoint(one, untrained_seed=3) for one in (path, folder / "model.safetensors")]
    assert [one.trained for one in untrained] == [False, False]
    states = [one.model.state_dict() for one in untrained]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("image_encoder", ["regions", "patches"])
def test_evaluation_without_fairseq(tmp_path, data, image_encoder):
    path, folder = made(tmp_path, image_encoder=image_encoder)
    command = ["evaluate", "retrieval", path, data, "--baseline", "none", "--output", tmp_path / "wanted"]
    assert main(list(map(str, command))) == 0
    without_fairseq("evaluate", "retrieval", folder, data, "--baseline", "none")
    results = tmp_path / "hub_retrieval_test"
    wanted, found = (
        json.loads((one / "metrics.json").read_text(encoding="utf-8"))["models"]["trained"]["metrics"]
        for one in (tmp_path / "wanted", results)
    )
    assert found == wanted
    for name in ("speech_embeddings.npy", "image_embeddings.npy"):
        np.testing.assert_allclose(
            np.load(results / name), np.load(tmp_path / "wanted" / name), rtol=0, atol=1e-5
        )
    if image_encoder == "patches":
        without_fairseq("gallery", results, data, tmp_path / "page", "--queries", "2")
        assert (tmp_path / "page/index.html").is_file()


def test_features_without_fairseq(tmp_path, data):
    path, folder = made(tmp_path)
    assert main(["extract", str(path), str(data), "--output", str(tmp_path / "wanted")]) == 0
    without_fairseq("extract", folder, data, "--output", tmp_path / "found")
    names = sorted(one.relative_to(tmp_path / "wanted") for one in (tmp_path / "wanted").rglob("*.npy"))
    assert len(names) == 6 * 5 + 4
    for name in names:
        wanted, found = (np.load(tmp_path / part / name) for part in ("wanted", "found"))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_load(tmp_path, data):
    path, folder = made(tmp_path, image_encoder="patches")
    before, after = vgs.load(path, device="cpu"), vgs.load(folder, device="cpu")
    wavs = [data / f"test/{number}.wav" for number in range(6)]
    pictures = [data / f"images/{number}.png" for number in range(4)]
    np.testing.assert_allclose(after.similarity(wavs, pictures), before.similarity(wavs, pictures), atol=1e-5)
    assert str(folder) in repr(after)
    for layer in (1, 3):
        wanted = before.attention(wavs[0], layer)
        np.testing.assert_allclose(after.attention(wavs[0], layer), wanted, rtol=0, atol=1e-5)
    again = pickle.loads(pickle.dumps(after))
    np.testing.assert_array_equal(again.embed_images(pictures), after.embed_images(pictures))
    alone = json.loads(without_fairseq("load", folder, wavs[0]))
    np.testing.assert_allclose(alone, before.embed_speech(wavs[0]), rtol=0, atol=1e-5)


def test_changed_folders_are_named(tmp_path):
    _, folder = made(tmp_path)
    weights, code = folder / "model.safetensors", folder / "speech_vgs.py"
    (folder / "README.md").write_text("my own card", encoding="utf-8")
    open_checkpoint(weights)
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with raises_fault("export.changed", "hub"):
        open_checkpoint(weights)
    weights.write_bytes(kept)
    code.write_text(code.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    with raises_fault("export.changed", "hub"):
        open_checkpoint(weights)
    (folder / "export.json").unlink()
    assert open_checkpoint(weights).n_updates == 0
    weights.write_bytes(b"no weights at all")
    with raises_fault("checkpoint.unreadable", "model.safetensors"):
        open_checkpoint(weights)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights.write_bytes(kept)
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}), encoding="utf-8")
    with raises_fault("checkpoint.mismatch", "model.safetensors"):
        open_checkpoint(weights)
    (folder / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}), encoding="utf-8")
    with raises_fault("checkpoint.kind", "config.json"):
        open_checkpoint(weights)


@pytest.mark.parametrize(
    "extra",
    [
        {"attn_implementation": "somebody/kernels"},
        {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        {"transformers_weights": "evil.bin"},
    ],
)
@pytest.mark.parametrize("place", ["model", "backbone"])
def test_nothing_of_a_folder_but_settings_and_weights_is_read(tmp_path, data, place, extra):
    _, folder = made(tmp_path, **(with_backbone(tmp_path / "vit") if place == "backbone" else PATCHES))
    before = vgs.load(folder, device="cpu")
    (folder / "export.json").unlink()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    changed = config if place == "model" else config["image_encoder_settings"]["backbone"]["model"]
    changed.update(extra)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for file in ("evil.py", *(path.name for path in folder.glob("*.py"))):
        (folder / file).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    (folder / "evil.bin").write_bytes(pickle.dumps([]))
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    after = vgs.load(folder, device="cpu")
    assert not (tmp_path / "ran").exists()
    np.testing.assert_array_equal(
        after.embed_speech(data / "test/0.wav"), before.embed_speech(data / "test/0.wav")
    )
    np.testing.assert_array_equal(
        after.embed_images(data / "images/0.png"), before.embed_images(data / "images/0.png")
    )


def test_what_is_left_out_of_backbones_is_the_same_list():
    assert image_vgs.LEFT_OUT == hugging_face.LEFT_OUT


@pytest.mark.parametrize("plain", [image_vgs._plain, hugging_face._plain])
def test_names_of_code_are_left_out_at_any_depth(plain):
    bad = dict.fromkeys(hugging_face.LEFT_OUT, "somebody/kernels")
    given = {"model_type": "clip", **bad, "vision_config": {"a": 1, **bad}, "parts": [{"b": [{**bad}]}, 2]}
    assert plain(given) == {"model_type": "clip", "vision_config": {"a": 1}, "parts": [{"b": [{}]}, 2]}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"num_hidden_layers": 10**6}, "config.json"),
        ({"num_hidden_layers": 10**9}, "config.json"),
        ({"hidden_size": 10**6}, "config.json"),
        ({"intermediate_size": 24_000}, "model.safetensors"),
    ],
)
def test_models_larger_than_their_weights_are_not_built(tmp_path, change, place):
    _, folder = made(tmp_path)
    (folder / "export.json").unlink()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
    code = "checkpoint.settings" if place == "config.json" else "checkpoint.mismatch"
    before = peak_memory_mb()
    with raises_fault(code, place):
        open_checkpoint(folder / "model.safetensors")
    assert peak_memory_mb() - before < 200


def test_an_exported_folder_is_not_exported_again(tmp_path):
    _, folder = made(tmp_path)
    with raises_fault("checkpoint.kind", "hub"):
        main(["export", str(folder), str(tmp_path / "again"), "--debug"])


def test_weights_of_half_precision_are_computed_in_fp32(tmp_path, data):
    _, folder = made(tmp_path, image_encoder="patches")
    (folder / "export.json").unlink()
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in weights.items()}, folder / "model.safetensors")
    model = vgs.load(folder, device="cpu")
    assert {one.dtype for one in model.checkpoint.model.parameters()} == {torch.float32}
    assert np.isfinite(model.embed_speech(data / "test/0.wav")).all()


def test_phones_without_fairseq(tmp_path):
    """The values of evaluate abx, every one of them, to the digit."""
    path, folder = made(tmp_path)
    phones = write_recordings(tmp_path / "phones")
    command = ["evaluate", "abx", path, phones, "--baseline", "none", "--output", tmp_path / "wanted"]
    assert main(list(map(str, command))) == 0
    without_fairseq("evaluate", "abx", folder, phones, "--baseline", "none", "--output", tmp_path / "found")
    wanted, found = (
        json.loads((tmp_path / one / "metrics.json").read_text(encoding="utf-8"))["models"]["trained"]
        for one in ("wanted", "found")
    )
    assert len(wanted["metrics"]) >= 4  # layers
    assert found["metrics"] == wanted["metrics"]


def test_results_go_next_to_the_folder_however_it_is_given(tmp_path, data, monkeypatch):
    _, folder = made(tmp_path, image_encoder="patches")
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.chdir(folder)
    assert main(["evaluate", "retrieval", ".", str(data), "--baseline", "none"]) == 0
    assert (tmp_path / "hub_retrieval_test/metrics.json").is_file()
    assert sorted(path.name for path in folder.iterdir()) == before
