"""A run of a tiny model over regions of EfficientNet, and recordings and pictures as a user has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from support.abx_material import write_checkpoint
from support.tiny_folder import make_folder

from fairseq_vgs.files.provenance import plugin_state
from fairseq_vgs.manifest.summary import read_summary, region_recipe
from fairseq_vgs.regions.efficientnet import FEATURE_DIM, EfficientNetFeatures
from fairseq_vgs.regions.pictures import PictureRegions

LENGTHS = {"test": [9600, 6000, 7321, 12000, 5000, 8801]}


def write_run(folder: Path, *, images: Any = None, task: Any = None, **settings: Any) -> Path:
    """Write a run's folder with its best checkpoint; ``images`` is what that says of its images."""
    (folder / "checkpoints").mkdir(parents=True)
    path = write_checkpoint(folder / "checkpoints/checkpoint_best.pt", **settings)
    state = torch.load(path)
    state["cfg"]["task"].update(task or {})
    if images is not None:
        state["task_state"] = plugin_state(images)
    torch.save(state, path)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Make a data folder with the regions of a grid, whose pictures differ from cell to cell."""
    folder = make_folder(tmp_path_factory.mktemp("api") / "data", lengths=LENGTHS, n_images=4).path
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        pixels = np.random.default_rng(number).integers(0, 256, (10, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    PictureRegions(EfficientNetFeatures(), grid=(1, 2)).compute(folder, force=True)
    return folder


@pytest.fixture(scope="session")
def recipe(data) -> dict[str, Any]:
    return {"reads": "regions", **region_recipe(read_summary(data))}


@pytest.fixture(scope="session")
def run(tmp_path_factory, recipe) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", images=recipe, image_dim=FEATURE_DIM)


@pytest.fixture(scope="session")
def media(tmp_path_factory) -> Path:
    """Write recordings and pictures of a user."""
    folder = tmp_path_factory.mktemp("media")
    generator = np.random.default_rng(1)
    soundfile.write(folder / "a.wav", 0.1 * generator.standard_normal((13230, 2)), 44_100)
    soundfile.write(folder / "b.flac", 0.1 * generator.standard_normal(4000), 8_000)
    for name in ("x.jpg", "y.png"):
        pixels = generator.integers(0, 256, (24, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def make_run(tmp_path):
    """Return ``write_run`` for a folder of the test's own."""

    def make(**settings: Any) -> Path:
        return write_run(tmp_path / "own run", **settings)

    return make
