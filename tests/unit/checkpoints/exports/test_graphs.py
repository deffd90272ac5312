"""Graphs of exported models, run by onnxruntime or torch alone, equal the model they came from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from support.abx_material import write_checkpoint
from support.exported import batch, exported, with_statistics
from support.faults import raises_fault
from support.tiny import tiny_model
from support.tiny_backbones import IMAGE_SIZE, make_backbone

import fairseq_vgs as vgs
from fairseq_vgs.checkpoints.exports import graphs
from fairseq_vgs.checkpoints.exports.folder import Reading
from fairseq_vgs.checkpoints.exports.graph_texts import graph_demo, graph_page
from fairseq_vgs.checkpoints.exports.graphs import Part, export_graphs, parts_of, run_graph, trace
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.modules.hugging_face import read_backbone

READING = Reading(16_000, False, 16, "squeeze")
# as few operators as there can be: what takes time is the tracing
SMALL = {
    "conv_feature_layers": "[(16, 10, 5), (16, 8, 8), (16, 8, 8)]",
    "encoder_layers": 1,
    "vgs_layer": 1,
    "speech_head_widths": [8, 16],
}
# odd lengths, batches of one and of four, with padding and without
BATCHES = ([8000], [7999], [7777] * 4, [8000, 6101, 4003, 1207])
WITHOUT_TORCH = """
import runpy, sys

for name in ("torch", "transformers", "fairseq", "fairseq_vgs", "onnx", "onnxscript"):
    sys.modules[name] = None  # importing them fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0])
"""


def part_of(model: Any, name: str, *, reading: Reading = READING) -> Part:
    """Return a part of a model of this package."""
    return {part.name: part for part in parts_of(exported(model), reading)}[name]


def assert_same_speech(model: Any, run: Any, *, atol: float = 1e-5) -> None:
    """Compare a graph's embeddings with those of the model; ``run`` takes waveforms and attention mask."""
    for lengths in BATCHES:
        source, padding_mask = batch(lengths)
        with torch.no_grad():
            found = run(source, (~padding_mask).long())
            wanted = model.encode_speech(source, padding_mask)
        torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def onnx_export(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and its graphs, written by the command."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("graphs")
    path = write_checkpoint(folder / "one.pt", image_encoder="patches", speech_head="resdavenet", **SMALL)
    assert main(["export", str(path), str(folder / "onnx"), "--graphs", "onnx"]) == 0
    return path, folder / "onnx"


def test_onnx_equals_the_model(onnx_export):
    from onnxruntime import InferenceSession

    path, folder = onnx_export
    model: Any = load_checkpoint(path).model
    session = InferenceSession(folder / "speech.onnx")

    def run(speech: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        inputs = {"input_values": speech.numpy(), "attention_mask": mask.numpy()}
        return torch.from_numpy(session.run(["speech_embeds"], inputs)[0])

    assert_same_speech(model, run, atol=1e-4)
    for shape in ((1, 3, 16, 16), (4, 3, 8, 24)):
        pictures = torch.rand(shape) * 2 - 1
        with torch.no_grad():
            wanted = model.encode_image({"pictures": pictures})
        found = run_graph(folder / "image.onnx", {"pixel_values": pictures})
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_onnx_names_its_inputs_and_axes(onnx_export):
    import onnx

    def named(file: str) -> tuple[dict[str, list[object]], list[str]]:
        graph = onnx.load(onnx_export[1] / file).graph
        axes = {one.name: one.type.tensor_type.shape.dim for one in graph.input}
        found = {name: [axis.dim_param or axis.dim_value for axis in dims] for name, dims in axes.items()}
        return found, [one.name for one in graph.output]

    inputs, outputs = named("speech.onnx")
    assert inputs == {name: ["batch", "samples"] for name in ("input_values", "attention_mask")}
    assert outputs == ["speech_embeds"]
    inputs, outputs = named("image.onnx")
    assert inputs["pixel_values"][:2] == ["batch", 3]
    assert outputs == ["image_embeds"]


def test_the_example_runs_without_torch(onnx_export, tmp_path):
    """Its preprocessing of a recording and a picture is that of the evaluation."""
    path, folder = onnx_export
    wave = 0.01 * np.random.default_rng(0).standard_normal(9001) + 0.002
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    pixels = np.random.default_rng(1).integers(0, 256, (30, 21, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).resize((210, 300)).save(tmp_path / "a.png", exif=exif)
    command = [sys.executable, "-c", WITHOUT_TORCH, str(folder / "demo.py")]
    done = subprocess.run(
        [*command, str(tmp_path / "a.wav"), str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    model = vgs.load(path, device="cpu")
    speech, image = model.embed_speech([tmp_path / "a.wav"]), model.embed_images([tmp_path / "a.png"])
    assert float(done.stdout.strip("[]\n")) == pytest.approx(float((speech @ image.T).item()), abs=1e-4)


def test_the_example_refuses_other_rates_and_averages_channels(tmp_path):
    settings = {"normalize": False, "similarity": "dot", "image_encoder": "regions"}
    settings["image_encoder_settings"] = {"input_dim": 10}
    code = graph_demo(settings, READING, graph_format="onnx")
    read = "\n".join(line for line in code.splitlines() if "onnxruntime" not in line).partition("speech =")[0]

    def run(name: str, rate: int) -> dict[str, Any]:
        wave = np.stack([np.full(900, 0.5), np.full(900, 0.25)], axis=1)
        soundfile.write(tmp_path / name, wave, rate)
        found: dict[str, Any] = {"__file__": str(tmp_path / "demo.py")}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["demo.py", str(tmp_path / name)])
            exec(compile(read, "demo.py", "exec"), found)  # noqa: S102 - the text under test
        return found

    np.testing.assert_allclose(run("two.wav", 16_000)["inputs"]["input_values"], np.full((1, 900), 0.375))
    with pytest.raises(SystemExit, match=r"fast\.wav.*16000 Hz.*44100"):
        run("fast.wav", 44_100)


def test_torch_graphs_of_a_folder_and_its_checkpoint(tmp_path):
    """An exported folder gives the graphs of the checkpoint; torch alone loads them."""
    path = write_checkpoint(tmp_path / "one.pt", use_cls=False, **SMALL)
    assert main(["export", str(path), str(tmp_path / "hub")]) == 0
    assert main(["export", str(tmp_path / "hub"), str(tmp_path / "graphs"), "--graphs", "torch"]) == 0
    model: Any = load_checkpoint(path).model
    assert_same_speech(model, torch.export.load(tmp_path / "graphs/speech.pt2").module())
    mask = torch.tensor([[True, True, False], [True, True, True]])
    images = {"features": torch.rand(2, 3, 10), "boxes": torch.rand(2, 3, 4)}
    found = run_graph(tmp_path / "graphs/image.pt2", {**images, "region_mask": mask})
    with torch.no_grad():
        wanted = model.encode_image({**images, "padding_mask": ~mask})
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"speech_head": "attention", "padding": "fairseq", "extractor_mode": "layer_norm"},
        {"speech_head": "resdavenet", "padding": "fast_vgs", "crop_seq_to_multiple": 2},
    ],
    ids=lambda settings: settings["padding"],
)
def test_graphs_of_other_paddings(settings):
    model = with_statistics(tiny_model(**SMALL, **settings))
    program = trace(part_of(model, "speech"))
    assert_same_speech(model, program.module())


def test_graphs_of_backbones(tmp_path):
    make_backbone(tmp_path, "clip")
    given = {"image_size": IMAGE_SIZE, "image_backbone_config": read_backbone(tmp_path)}
    model = tiny_model(image_encoder="hugging_face", **given).eval()
    reading = Reading(16_000, False, IMAGE_SIZE, "squeeze")
    program = trace(part_of(model, "image", reading=reading))
    pictures = torch.rand(4, 3, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1
    with torch.no_grad():
        wanted = model.encode_image({"pictures": pictures})
        torch.testing.assert_close(program.module()(pictures), wanted, rtol=0, atol=1e-5)


def test_a_padded_row_norm_without_a_loop_is_the_same():
    """What graphs compute in place of the loop over utterances."""
    norm = exported(tiny_model()).feature_extractor.conv_layers[0][2]
    norm.weight.data.uniform_(0.5, 2.0)
    norm.bias.data.uniform_(-1.0, 1.0)
    x, n_valid = torch.randn(3, 16, 50) + 3.0, torch.tensor([50, 9, 17])
    with torch.no_grad():
        torch.testing.assert_close(norm._normalize_masked(x, n_valid), norm(x, n_valid))


def written(path: Path, criterion: dict[str, object], **settings: object) -> Path:
    """Write a tiny checkpoint whose run had a criterion."""
    state = torch.load(write_checkpoint(path, **SMALL, **settings))
    state["cfg"]["criterion"].update(criterion)
    torch.save(state, path)
    return path


@pytest.mark.parametrize("from_folder", [False, True])
def test_models_that_never_saw_images_are_refused(tmp_path, from_folder):
    """Nor does an exported folder hide what its checkpoint was trained on."""
    silent = {"alpha_schedule": "constant", "alpha_values": [0.0], "alpha_boundaries": []}
    path = written(tmp_path / "one.pt", silent)
    if from_folder:
        assert main(["export", str(path), str(tmp_path / "hub")]) == 0
        path = tmp_path / "hub"
    with raises_fault("export.untrained", "hub/model.safetensors" if from_folder else "one.pt"):
        main(["export", str(path), str(tmp_path / "out"), "--graphs", "torch", "--debug"])
    assert not (tmp_path / "out").exists()


def test_text_models_are_refused(tmp_path):
    checkpoint = load_checkpoint(write_checkpoint(tmp_path / "one.pt", **SMALL))
    checkpoint.config["model"] = {**checkpoint.config["model"], "caption_encoder": "text"}
    with raises_fault("export.text", "one.pt"):
        export_graphs(checkpoint, tmp_path / "out", reading=READING, graph_format="torch")


def test_operators_and_packages_come_first(tmp_path, monkeypatch):
    """Before the checkpoint is read."""
    (tmp_path / "one.pt").write_bytes(b"nothing")
    command = ["export", str(tmp_path / "one.pt"), str(tmp_path / "out"), "--graphs", "onnx", "--debug"]
    for opset in (17, 26):
        with raises_fault("export.opset", "--opset"):
            main([*command, "--opset", str(opset)])
    with raises_fault("export.settings", "--half"):
        main([*command, "--half"])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with raises_fault("package.missing", "--graphs"):
        main(command)


def test_parts_without_a_graph_and_graphs_that_differ_are_not_published(tmp_path, monkeypatch):
    class Decides(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if bool(x.sum() > 0) else x

    checkpoint = load_checkpoint(write_checkpoint(tmp_path / "one.pt", **SMALL))
    for module, code in ((Decides(), "export.graph"), (torch.nn.Dropout(0.5), "export.inexact")):
        draw = lambda rows, length: {"x": torch.ones(rows, length)}  # noqa: E731
        part = Part("image", module, draw, {"x": {0: ("batch", 1)}}, "y", (2, 4), ((3, 4),))
        monkeypatch.setattr(graphs, "parts_of", lambda *_, part=part: [part])
        if code == "export.inexact":
            monkeypatch.setattr(graphs, "run_graph", lambda _, inputs: inputs["x"] + 0.01)
        with raises_fault(code, "one.pt"):
            export_graphs(checkpoint, tmp_path / "out", reading=READING, graph_format="torch")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one.pt"]


@pytest.mark.parametrize("graph_format", ["onnx", "torch"])
def test_texts_follow_the_settings(graph_format):
    """Examples are valid Python for every kind of model, and say how speech and pictures were read."""
    settings = {
        "image_encoder": "hugging_face",
        "image_encoder_settings": {},
        "similarity": "cosine",
        "normalize": False,
        "embed_dim": 20,
    }
    cropped = Reading(8000, True, 32, "crop")
    code = graph_demo(settings, cropped, graph_format=graph_format)
    compile(code, "demo.py", "exec")
    assert "np.pad" in code
    assert "wave.mean()" not in code
    assert "linalg.norm" in code
    assert "box=" in code
    page = graph_page(settings, cropped, graph_format=graph_format, name="mine")
    assert "cosine" in page
    assert "32 x 32" in page
    assert "unit variance" not in page
