"""Heat of regions and moments: the four similarities that it is made of, and a model whose heat is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.faults import raises_fault
from support.tiny import tiny_model
from support.tiny_folder import LAYERS, REGION_DIM, make_folder
from torch import nn

from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError
from fairseq_vgs.features import embeddings as extraction
from fairseq_vgs.features import occlusion
from fairseq_vgs.features.heat_map import HOP_SECONDS, SILENCED_SECONDS

N_SAMPLES = 7000  # five moments, the last one short
HOP, SILENCED = round(16_000 * HOP_SECONDS), round(16_000 * SILENCED_SECONDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "set", lengths={"test": 6 * [N_SAMPLES]}).path


def opened(folder, model, *, similarity="cosine", **task):
    config = {
        "task": {"valid_max_seconds": 5.0, "image_input": "regions", **task},
        "criterion": {"similarity": similarity},
        "model": {"conv_feature_layers": LAYERS, "image_dim": REGION_DIM},
    }
    checkpoint = Checkpoint(model, Path("checkpoint.pt"), config, 7, True)
    split = extraction.open_split(folder, "test", config=config)
    return occlusion.Occlusion(checkpoint, split), split


def similarity_of(model, source, image, *, kind):
    padding = torch.zeros_like(source, dtype=torch.bool)
    speech, picture = model.encode_speech(source, padding)[0], model.encode_image(image)[0]
    if kind == "cosine":
        return float(torch.nn.functional.cosine_similarity(speech, picture, dim=0))
    return float(speech @ picture)


def silenced(source, moment):
    middle = moment * HOP + HOP // 2
    quiet = source.clone()
    quiet[:, max(0, middle - SILENCED // 2) : middle + SILENCED // 2] = 0
    return quiet


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("head", ["attention", "resdavenet"])
def test_heat_is_what_needs_both_region_and_moment(folder, kind, head):
    model = tiny_model(seed=1, conv_feature_layers=LAYERS, image_dim=REGION_DIM, speech_head=head).eval()
    lens, split = opened(folder, model, similarity=kind)
    net_input = split.dataset.collater([split.dataset[2]])["net_input"]
    source, image = net_input["source"], net_input["image"]
    heat = lens.heat_map("test/2.wav", "image2")
    n_regions = image["boxes"].size(1)
    assert heat.values.shape == (n_regions, 5)
    assert np.array_equal(heat.boxes, image["boxes"][0].numpy())
    assert heat.loudness.shape == (22,)
    assert heat.loudness.max() == 1.0
    with torch.no_grad():
        for region in range(n_regions):
            left = [number for number in range(n_regions) if number != region]
            without = {name: tensor[:, left] for name, tensor in image.items()}
            for moment in range(5):
                quiet = silenced(source, moment)
                expected = (
                    similarity_of(model, source, image, kind=kind)
                    - similarity_of(model, quiet, image, kind=kind)
                    - similarity_of(model, source, without, kind=kind)
                    + similarity_of(model, quiet, without, kind=kind)
                )
                assert heat.values[region, moment] == pytest.approx(expected, abs=2e-6)
    assert np.abs(heat.values).max() > 1e-5


class _Known(nn.Module):
    """Speech: the energy of each second half. Picture: the sum of the regions' first two features."""

    def encode_speech(self, source, padding_mask):
        half = source.size(1) // 2
        return torch.stack([source[:, :half].square().sum(1), source[:, half:].square().sum(1)], dim=1)

    def encode_image(self, image):
        return image["features"].masked_fill(image["padding_mask"][..., None], 0).sum(dim=1)[:, :2]


def test_heat_of_a_known_model(folder):
    lens, split = opened(folder, _Known(), similarity="dot", normalize=False)
    waveform = torch.from_numpy(split.dataset[2].waveform)
    features = split.dataset[2].features
    heat = lens.heat_map("test/2.wav", "image2")
    reach = (SILENCED - HOP) // 2
    first = float(waveform[: HOP + reach].square().sum())
    assert heat.values[:, 0] == pytest.approx(features[:, 0] * first, rel=1e-4)
    last = float(waveform[4 * HOP - reach :].square().sum())
    assert heat.values[:, 4] == pytest.approx(features[:, 1] * last, rel=1e-4)


def test_cells_of_a_raw_picture(folder):
    model = tiny_model(seed=1, conv_feature_layers=LAYERS, image_encoder="patches", image_size=32).eval()
    settings = {"image_input": "pictures", "image_size": 32, "image_fit": "crop"}
    lens, split = opened(folder, model, **settings)
    heat = lens.heat_map("test/0.wav", "image0")
    side = occlusion.CELLS_PER_SIDE
    assert heat.values.shape == (side**2, 5)
    assert heat.is_cropped
    sizes = (heat.boxes[:, 2:] - heat.boxes[:, :2]).prod(axis=1)
    assert sizes.sum() == pytest.approx(1)  # the cells cover the picture, none twice
    net_input = split.dataset.collater([split.dataset[0]])["net_input"]
    covered = net_input["image"]["pictures"].clone()
    x0, y0, x1, y1 = np.round(32 * heat.boxes[side + 2]).astype(int)
    covered[:, :, y0:y1, x0:x1] = covered.mean(dim=(2, 3), keepdim=True)
    source, whole = net_input["source"], net_input["image"]
    with torch.no_grad():
        quiet = silenced(source, 3)
        expected = sum(
            sign * similarity_of(model, speech, picture, kind="cosine")
            for sign, speech, picture in (
                (1, source, whole),
                (-1, quiet, whole),
                (-1, source, {"pictures": covered}),
                (1, quiet, {"pictures": covered}),
            )
        )
    assert heat.values[side + 2, 3] == pytest.approx(expected, abs=2e-6)


def test_refusals(folder):
    lens, _ = opened(folder, _Known())
    with raises_fault("item.unknown", "other.wav", error=CheckpointError):
        lens.heat_map("other.wav", "image0")

    class Diverged(_Known):
        def encode_speech(self, source, padding_mask):
            return super().encode_speech(source, padding_mask) * torch.nan

    lens, _ = opened(folder, Diverged())
    with raises_fault("checkpoint.not_finite", "checkpoint.pt", error=CheckpointError):
        lens.heat_map("test/0.wav", "image0")
