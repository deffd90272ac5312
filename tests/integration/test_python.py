"""From scenes through a run to Python: what a run's checkpoint says, and the notebook of the examples."""

import json

import numpy as np
import pytest
from support import notebook
from support.source_files import CHECKOUT
from support.train import EMBEDDED, train

import fairseq_vgs as vgs
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.prepare.scenes.compose import prepare_scenes
from fairseq_vgs.prepare.scenes.plan import ScenesConfig
from fairseq_vgs.regions.objects import OBJECTS_ON_WHITE

NOTEBOOK = CHECKOUT / "examples" / "vgs" / "python.ipynb"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python") / "scenes"
    config = ScenesConfig(objects=10, train_scenes=8, valid_scenes=4, test_scenes=6)
    prepare_scenes(folder, EMBEDDED, config=config)
    return folder


@pytest.fixture(scope="module")
def run(scenes):
    folder = scenes.parent / "run"
    updates = ("optimization.max_update=2", "dataset.batch_size=4", "dataset.validate_interval_updates=2")
    train("vgs_plus", folder, f"task.data={scenes}", *updates)
    return folder


def test_a_run_says_how_its_images_were_made(scenes, run):
    checkpoint = load_checkpoint(vgs.load(run).path)
    assert checkpoint.version == vgs.__version__
    entry = json.loads((scenes / "summary.json").read_text(encoding="utf-8"))["regions"]
    assert checkpoint.images["weights_sha256"] == entry["weights_sha256"]
    assert checkpoint.images["where"] == OBJECTS_ON_WHITE
    picture = next((scenes / "pictures" / "test").iterdir())
    assert np.isfinite(vgs.load(run).embed_images(picture)).all()


@pytest.mark.parametrize("of", ["the model that ships", "a run of two updates"])
def test_the_notebook_runs(of, request, monkeypatch):
    """Its outputs are of the kinds that the notebook on record shows."""
    if of != "the model that ships":
        monkeypatch.setenv("VGS_RUN", str(request.getfixturevalue("run")))
        monkeypatch.setenv("VGS_DATA", str(request.getfixturevalue("scenes")))
    found, recorded = notebook.run(NOTEBOOK), json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook.kinds(found) == notebook.kinds(recorded)
    assert sum(map(len, notebook.kinds(found))) >= 6
    assert (recorded["nbformat"], recorded["metadata"]["language_info"]["name"]) == (4, "python")
    assert len({cell["id"] for cell in recorded["cells"]}) == len(recorded["cells"])
