"""The model that comes with the package: found by its name, and worth what its card says."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from support.faults import raises_fault
from support.source_files import CHECKOUT
from support.train import EMBEDDED

import fairseq_vgs as vgs
from fairseq_vgs.checkpoints.places import SHIPPED, find_model
from fairseq_vgs.cli.main import main
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.manifest import ManifestFolder, read_images, read_pairs
from fairseq_vgs.prepare.scenes.compose import prepare_scenes
from fairseq_vgs.prepare.scenes.plan import ScenesConfig

FOLDER = SHIPPED / "quickstart"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
LARGEST_BYTES = 4_600_000
ROUNDING = 0.51
"""Percentage points: two of 400 captions, or one of 200 images, which another machine may round otherwise."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in a folder that holds nothing."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """The quickstart's test scenes, which do not depend on the number of the others."""
    folder = tmp_path_factory.mktemp("shipped") / "scenes"
    prepare_scenes(folder, EMBEDDED, config=ScenesConfig(train_scenes=1, valid_scenes=0))
    return folder


def recalls_of_the_card() -> dict[str, float]:
    (index,) = yaml.safe_load(CARD.split("---\n")[1])["model-index"]
    metrics = [metric for result in index["results"] for metric in result["metrics"]]
    return {metric["type"]: metric["value"] for metric in metrics if re.search(r"_r\d+$", metric["type"])}


def test_weights_are_those_of_the_card():
    assert f"`{sha256_file(FOLDER / 'model.safetensors')}`" in CARD
    record = json.loads((FOLDER / "export.json").read_text(encoding="utf-8"))
    assert f"It was trained with fairseq_vgs {record['versions']['fairseq_vgs']} in" in CARD
    assert record["checkpoint"]["n_updates"] == 320 and "\n320 updates" in CARD
    for name, digest in record["files"].items():
        assert sha256_file(FOLDER / name) == digest, name
    weights = [path for path in FOLDER.iterdir() if path.suffix == ".safetensors"]
    assert sum(path.stat().st_size for path in weights) <= LARGEST_BYTES
    assert {tensor.dtype for path in weights for tensor in load_file(path).values()} == {torch.float16}


def test_recall_is_that_of_the_card(scenes, capsys):
    command = ["evaluate", "retrieval", "quickstart", str(scenes), "--baseline", "none"]
    assert main(command) == 0
    results = Path("results/quickstart_retrieval_test")  # not next to the model, in the package
    assert str(results) in capsys.readouterr().err
    content = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    found = {name: value["value"] for name, value in content["models"]["trained"]["metrics"].items()}
    expected = recalls_of_the_card()
    assert len(expected) == 6
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=ROUNDING)
    assert found["speech_to_image_r10"] >= 90.0
    assert "400 captions, each ranks 200 images" in CARD


def test_plain_pictures_and_recordings(scenes):
    """Regions are found in the picture; most recordings find the right one of 12."""
    folder = ManifestFolder(scenes)
    pairs = read_pairs(folder.pairs("test"))[:24]
    paths = {row.image_id: scenes / row.path for row in read_images(folder.images).rows}
    ids = [pair.image_id for pair in pairs]
    model = vgs.load("quickstart", "cpu")
    speech = model.embed_speech([scenes / pair.audio_id for pair in pairs])
    images = model.embed_images([paths[one] for one in dict.fromkeys(ids)])
    found = vgs.retrieval(speech, images, ids, similarity=model.measure).as_dict()
    assert found["speech_to_image_r1"] >= 50.0  # 8 by chance
    heat = model.heat_map(scenes / pairs[0].audio_id, paths[ids[0]])
    assert np.isfinite(heat.values).all()


def test_a_file_of_that_name_goes_first(caplog):
    assert find_model("quickstart") == FOLDER
    for other in ("quickstart.pt", "a/quickstart", "no_model", ".", str(FOLDER)):
        assert find_model(other) == Path(other)
    with caplog.at_level(logging.WARNING):
        assert caplog.text == ""
        Path("quickstart").write_bytes(b"")
        assert find_model("quickstart") == Path("quickstart")
    assert "quickstart: using what is in this folder" in caplog.text
    with raises_fault("checkpoint.kind", "quickstart"):
        vgs.load("quickstart")


@pytest.mark.parametrize(
    "command",
    [["export", "quickstart", "hub"], ["train", str(EMBEDDED), "--init", "quickstart", "--dry-run"]],
)
def test_training_needs_a_checkpoint(command):
    with raises_fault("checkpoint.kind", "quickstart") as caught:
        main([*command, "--debug"])
    assert "fairseq-vgs import hub quickstart quickstart.pt" in str(caught.value)


def test_back_to_a_folder_of_its_own(tmp_path):
    """Through a checkpoint, to a folder that transformers load: the same embeddings."""
    assert main(["import", "hub", "quickstart", "start/quickstart.pt"]) == 0
    assert main(["export", "start/quickstart.pt", "hub/quickstart"]) == 0
    assert Path("hub/quickstart/modeling_vgs.py").is_file()
    wave = np.random.default_rng(1).standard_normal(16_000).astype(np.float32)
    own, again = (
        vgs.load(place, "cpu").embed_speech((wave, 16_000)) for place in ("quickstart", "hub/quickstart")
    )
    np.testing.assert_allclose(again, own, rtol=0, atol=1e-5)


def test_without_the_packages_of_regions(tmp_path, monkeypatch, scenes):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    model = vgs.load("quickstart", "cpu")
    picture = next((scenes / "pictures" / "test").iterdir())
    with raises_fault("package.missing") as caught:
        model.embed_images(picture)
    assert "fairseq_vgs[regions]" in str(caught.value)


def test_loading_takes_no_time():
    vgs.load("quickstart", "cpu")  # imports
    start = time.process_time()
    vgs.load("quickstart", "cpu")
    assert time.process_time() - start < 1.0  # 0.02 s on 2 cores of an AMD EPYC


def test_the_card_is_that_of_its_facts():
    facts = yaml.safe_load((SHIPPED / "quickstart.yaml").read_text(encoding="utf-8"))
    for key in ("not_for", "limits", "citation", "command", "uses"):
        assert str(facts[key]).strip() in CARD
    assert "Not stated" not in CARD
    for word in str(facts["command"]).split():
        assert not word.endswith(".sh") or (CHECKOUT / word).is_file()
