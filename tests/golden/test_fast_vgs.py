"""Imported dual encoders against numbers that the authors' code gave (see record_fast_vgs.py)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.fast_vgs import FRAMES, IMAGE_IDS, KINDS, formula_integers, inputs, mask_indices, write_bundle

from fairseq_vgs.checkpoints.imports.fast_vgs import import_fast_vgs
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.criterions import VgsMultitaskCriterion

GOLDEN = json.loads(Path(__file__).with_name("fast_vgs.json").read_text(encoding="utf-8"))
CASES = [(kind, name) for kind in KINDS for name in ("whole", "padded")]


@pytest.fixture(params=CASES, ids="-".join)
def case(request, tmp_path):
    """Give an imported model, its inputs, and what the authors' code made of them."""
    kind, name = request.param
    bundle = write_bundle(tmp_path, GOLDEN[kind]["shapes"], kind)
    done = import_fast_vgs(bundle, tmp_path / "imported.pt")
    return load_checkpoint(done.checkpoint), inputs(padded=name == "padded"), GOLDEN[kind][name]


def assert_equal(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(torch.as_tensor(actual).float(), torch.tensor(expected), atol=1e-5, rtol=1e-5)


def picture(data):
    return {"features": data["features"], "boxes": data["boxes"]}


def test_evaluation_equals_the_authors_code(case):
    checkpoint, data, recorded = case
    model, expected = checkpoint.model, recorded["evaluation"]
    with torch.no_grad():
        assert_equal(model.encode_speech(data["speech"], data["padding_mask"]), expected["speech_embedding"])
        assert_equal(model.encode_image(picture(data)), expected["image_embedding"])
        results = model.extract_features(data["speech"], data["padding_mask"])["layer_results"]
    assert len(results) == len(expected["layers"])
    for (frames, *_), layer in zip(results, expected["layers"], strict=True):
        assert_equal(frames.transpose(0, 1)[:, list(FRAMES)], layer)


def test_training_equals_the_authors_code(case, monkeypatch):
    checkpoint, data, recorded = case
    model, expected = checkpoint.model.train().requires_grad_(True), recorded["training"]
    model.quantizer.eval()  # codes without Gumbel noise, as recorded
    monkeypatch.setattr(torch, "randint", formula_integers)
    has_ssl = "loss" in expected
    criterion = VgsMultitaskCriterion(None, alpha_values=[0.5 if has_ssl else 1.0])
    ids = torch.arange(3)
    sample = {
        "id": ids, "image_id": torch.tensor(IMAGE_IDS), "image_index": ids, "n_pairs": 3, "nsentences": 3,
        "ntokens": 3, "n_padded": 0, "n_skipped": 0,
        "net_input": {
            "source": data["speech"], "padding_mask": data["padding_mask"],
            "mask_indices": mask_indices(), "image": picture(data),
        },
    }  # fmt: skip
    loss, sample_size, logs = criterion(model, sample)
    (loss / sample_size).backward()

    assert_equal(logs["vgs_loss"] / logs["n_vgs_pairs"], expected["vgs_loss"])
    if has_ssl:
        n_frames = logs["n_ssl_frames"]
        assert_equal(logs["ssl_loss"] / n_frames, expected["loss"])
        assert_equal(logs["ssl_contrastive"] / n_frames, expected["contrastive_loss"])
        assert_equal(0.1 * logs["ssl_diversity"] / n_frames, expected["diversity_loss"])
        assert_equal(logs["ssl_feature_penalty"] / n_frames, expected["convnet_penalty"])
    gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(gradients).norm().item() == pytest.approx(expected["gradient_norm"], rel=1e-4)
    last_norm = model.speech_head.convolutions.blocks[-1].norm2
    assert_equal(last_norm.running_mean, expected["running_mean"])
    assert_equal(last_norm.running_var, expected["running_var"])


def test_padding_of_our_own_gives_other_embeddings(tmp_path):
    """The setting that the import makes is what the figures above need."""
    bundle = write_bundle(tmp_path, GOLDEN["vgs_plus"]["shapes"], "vgs_plus")
    done = import_fast_vgs(bundle, tmp_path / "imported.pt", overrides=["padding=exact"])
    model, data = load_checkpoint(done.checkpoint).model, inputs(padded=True)
    with torch.no_grad():
        found = model.encode_speech(data["speech"], data["padding_mask"])
    expected = torch.tensor(GOLDEN["vgs_plus"]["padded"]["evaluation"]["speech_embedding"])
    difference = (found - expected).abs().amax(dim=1)
    assert difference[0] < 1e-5  # of full length
    assert (difference[1:] > 0.1).all()
