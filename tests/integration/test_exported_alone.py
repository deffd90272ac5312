"""An exported folder in an environment that has torch, transformers and numpy, and what these need."""

import json
import os
import subprocess
import sys
import wave

import numpy as np
import pytest
import torch
from PIL import Image
from support.abx_material import write_checkpoint
from support.train import CHECKOUT

import fairseq_vgs as vgs
from fairseq_vgs.cli.main import main
from fairseq_vgs.files.provenance import plugin_state
from fairseq_vgs.regions.efficientnet import EfficientNetFeatures

GRID = {**EfficientNetFeatures(precision="float64").describe(), "grid": [1, 2], "dims": 1280}
PIP = ("-m", "pip", "install", "--quiet", "-c", str(CHECKOUT / "constraints.txt"))
KINDS = {"pixels": {"image_encoder": "patches"}, "regions": {"image_dim": 1280}}
SPEECH = """
import sys, wave
import numpy as np
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel
folder = sys.argv[1]
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
with wave.open("a.wav") as file:
    samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16) / np.float32(32768)
read_speech = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
inputs = read_speech(samples, sampling_rate=16000, return_tensors="pt")
print(model.get_speech_features(**inputs)[0].tolist())
"""
PICTURE = """
read_pictures = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
print(model.get_image_features(**read_pictures("a.jpg"))[0].tolist())
"""


def exported(folder, kind):
    """Write a tiny model and its export; return the checkpoint."""
    path = write_checkpoint(folder / f"{kind}.pt", **KINDS[kind])
    state = torch.load(path)
    state["cfg"]["task"]["image_size"] = 64
    state["task_state"] = plugin_state(GRID)
    torch.save(state, path)
    assert main(["export", str(path), str(folder / kind)]) == 0
    return path


def write_media(folder):
    rng = np.random.default_rng(0)
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(rng.normal(0, 3000, 20_001).astype(np.int16).tobytes())
    pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((640, 480)).save(folder / "a.jpg")


def run_there(python, folder, *arguments):
    """Run a Python with nothing of this environment; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env={**kept, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder / "modules")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Make a new environment and return its Python."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    python = folder / "env/bin/python"
    run_there(python, folder, *PIP, "torch", "transformers", "numpy")
    return python


def require_same(printed, wanted):
    np.testing.assert_allclose(json.loads(printed), wanted[0], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.fresh_environment
@pytest.mark.skipif(
    os.environ.get("VGS_FRESH_ENVIRONMENT") != "1", reason="takes minutes; set VGS_FRESH_ENVIRONMENT=1"
)
def test_three_packages_are_enough(bare, tmp_path):
    """A recording is read by the standard library; only pictures need one more package, Pillow."""
    write_media(tmp_path)
    models = {kind: vgs.load(exported(tmp_path, kind), device="cpu") for kind in KINDS}
    missing = "import sys, importlib.util as u; sys.exit(any(map(u.find_spec, sys.argv[1:])))"
    run_there(bare, tmp_path, "-c", missing, "fairseq", "fairseq_vgs", "soundfile", "PIL", "scipy")
    for kind, model in models.items():
        (speech,) = run_there(bare, tmp_path, "-c", SPEECH, kind).splitlines()
        require_same(speech, model.embed_speech(tmp_path / "a.wav"))
    run_there(bare, tmp_path, *PIP, "pillow")
    for kind, model in models.items():
        speech, picture = run_there(bare, tmp_path, "-c", SPEECH + PICTURE, kind).splitlines()
        require_same(speech, model.embed_speech(tmp_path / "a.wav"))
        require_same(picture, model.embed_images(tmp_path / "a.jpg"))
