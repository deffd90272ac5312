"""``extract``, ``evaluate retrieval``, gallery and validation give the same numbers, whatever the padding."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from fairseq.logging import metrics
from support.abx_material import write_checkpoint
from support.tiny_folder import make_folder, make_task

from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.criterions.vgs_contrastive import VgsContrastiveCriterion
from fairseq_vgs.features.embeddings import open_split
from fairseq_vgs.features.extract import extract_features
from fairseq_vgs.features.occlusion import Occluder, Occlusion
from fairseq_vgs.features.recordings import open_source
from fairseq_vgs.report.gallery import build_gallery
from fairseq_vgs.tasks.validation_retrieval import RetrievalCollector

LENGTHS = {"test": [9600, 6000, 7321, 12000, 5000, 8801]}  # two are cut
TASK = {"valid_max_seconds": 0.55, "max_regions": 2}
DIRECTIONS = ("speech_to_image", "image_to_speech")


@dataclass
class Doors:
    """A checkpoint, its data, and the results of ``evaluate retrieval``."""

    checkpoint: Path
    data: Path
    results: Path
    pad_to_max: bool
    audio_ids: list[str]
    speech: Any
    images: Any


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "set", lengths=LENGTHS, n_images=4).path


@pytest.fixture(
    scope="module",
    params=product(("exact", "fairseq", "fast_vgs"), (False, True)),
    ids=lambda pair: f"{pair}",
)
def doors(request, data, tmp_path_factory):
    padding, pad_to_max = request.param
    folder = tmp_path_factory.mktemp("run")
    path = write_checkpoint(folder / "checkpoint_best.pt", padding=padding)
    state = torch.load(path)
    state["cfg"]["task"].update(TASK, pad_to_max=pad_to_max)
    torch.save(state, path)
    command = ["evaluate", "retrieval", path, data, "--baseline", "none", "--output", folder / "results"]
    assert main(list(map(str, command))) == 0
    with (folder / "results/speech_to_image.csv").open(encoding="utf-8", newline="") as file:
        audio_ids = [row["audio_id"] for row in csv.DictReader(file)]
    arrays = (np.load(folder / f"results/{name}_embeddings.npy") for name in ("speech", "image"))
    return Doors(path, data, folder / "results", pad_to_max, audio_ids, *arrays)


def test_what_is_cut_is_normalized_afterwards(tmp_path):
    """A group norm hides the level of a recording; layer norms do not."""
    folder = make_folder(tmp_path / "set", lengths={"test": [9600, 9600]}, n_images=2)
    for path in folder.path.rglob("*.wav"):
        samples, rate = soundfile.read(path, dtype="float32")
        samples[:4800] *= 0.01  # the part that is kept
        soundfile.write(path, samples, rate, subtype="FLOAT")
    path = write_checkpoint(tmp_path / "checkpoint_best.pt", extractor_mode="layer_norm", conv_bias=True)
    state = torch.load(path)
    state["cfg"]["task"].update(valid_max_seconds=0.3)
    torch.save(state, path)
    results = tmp_path / "results"
    command = ["evaluate", "retrieval", path, folder.path, "--baseline", "none", "--output", results]
    assert main(list(map(str, command))) == 0
    extract_features(load_checkpoint(path), open_source([folder.path]), tmp_path / "features")
    stored = [np.load(file) for file in sorted((tmp_path / "features/speech_embedding").iterdir())]
    expected = np.load(results / "speech_embeddings.npy")
    np.testing.assert_allclose(np.sort(stored, axis=0), np.sort(expected, axis=0), rtol=0, atol=1e-5)


def test_extract(doors, tmp_path):
    extract_features(
        load_checkpoint(doors.checkpoint), open_source([doors.data]), tmp_path, batch_seconds=1.5
    )
    stored = {path.stem: np.load(path) for path in (tmp_path / "speech_embedding").iterdir()}
    assert len(stored) == len(doors.audio_ids)
    for audio_id, embedding in zip(doors.audio_ids, doors.speech, strict=True):
        np.testing.assert_allclose(stored[Path(audio_id).stem], embedding, rtol=0, atol=1e-5)
    for number, embedding in enumerate(doors.images):
        found = np.load(tmp_path / f"image_embedding/image{number}.npy")
        np.testing.assert_allclose(found, embedding, rtol=0, atol=1e-5)


@pytest.mark.parametrize("max_sentences", [2, 6])
def test_validation(doors, monkeypatch, max_sentences):
    """Whatever the batches are that training validates in."""
    speech, images, add = {}, {}, RetrievalCollector.add

    def keep(collector, sample, embeddings):
        speech.update(zip(sample["id"].tolist(), embeddings["speech"].numpy(), strict=True))
        images.update(zip(sample["image_index"].tolist(), embeddings["image"].numpy(), strict=True))
        add(collector, sample, embeddings)

    monkeypatch.setattr(RetrievalCollector, "add", keep)
    task = make_task(doors.data, "test", pad_to_max=doors.pad_to_max, mask_prob=0.0, **TASK)
    batches = task.get_batch_iterator(task.datasets["test"], max_sentences=max_sentences, num_workers=0)
    model, criterion = load_checkpoint(doors.checkpoint).model, VgsContrastiveCriterion(task).eval()
    with metrics.aggregate(new_root=True) as found:
        for sample in batches.next_epoch_itr(shuffle=False):
            _, _, logs = task.valid_step(sample, model, criterion)
            task.reduce_metrics([logs], criterion)
    values = found.get_smoothed_values()
    for number, embedding in enumerate(doors.speech):
        np.testing.assert_allclose(speech[number], embedding, rtol=0, atol=1e-5)
    for number, embedding in enumerate(doors.images):
        np.testing.assert_allclose(images[number], embedding, rtol=0, atol=1e-5)
    stored = json.loads((doors.results / "metrics.json").read_text(encoding="utf-8"))
    recalls = stored["models"]["trained"]["metrics"]
    for direction, k in product(DIRECTIONS, (1, 5, 10)):
        name = f"{direction}_r{k}"
        assert values[name] == pytest.approx(recalls[name]["value"])


def test_gallery(doors, tmp_path, monkeypatch):
    """Heat maps start from the embeddings that were ranked."""
    found, missing = [], Occluder._missing

    def keep(lens, embeddings):
        found.append(embeddings[0].numpy())
        return missing(lens, embeddings)

    monkeypatch.setattr(Occluder, "_missing", keep)
    checkpoint = load_checkpoint(doors.checkpoint)
    lens = Occlusion(checkpoint, open_split(doors.data, "test", config=checkpoint.config))
    for audio_id, embedding in zip(doors.audio_ids, doors.speech, strict=True):
        lens.speech(audio_id)
        np.testing.assert_allclose(found.pop(), embedding, rtol=0, atol=1e-5)
    for number, embedding in enumerate(doors.images):
        lens.image(f"image{number}")
        np.testing.assert_allclose(found.pop(), embedding, rtol=0, atol=1e-5)
    page = build_gallery(doors.results, doors.data, tmp_path / "page", n_queries=6)
    assert page.read_text(encoding="utf-8").count("<article") == 6 + 4
