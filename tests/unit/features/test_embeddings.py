"""Embeddings of a split: every caption and image once, in table order, whatever the batches."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from support.faults import raises_fault
from support.tiny import tiny_model
from support.tiny_folder import LAYERS
from torch import nn

from fairseq_vgs.features import embeddings as extraction
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow, RegionRow
from fairseq_vgs.manifest.tables import write_audio_list, write_images, write_pairs, write_regions

CONFIG = {
    "task": {"valid_max_seconds": 0.5, "normalize": True, "max_regions": 2},
    "model": {"conv_feature_layers": "[(4, 10, 5)] + [(4, 3, 2)] * 4 + [(4, 2, 2)] * 2", "image_dim": 3},
}
LENGTHS = (3200, 9600, 4800, 8000, 3200)
IMAGES = ("b", "a", "b", "c", "a")


class _Model(nn.Module):
    """Sums over what is not padding: exact whatever the batch."""

    def __init__(self):
        super().__init__()
        self.cfg = SimpleNamespace(**CONFIG["model"])
        self.feature_extractor = SimpleNamespace(conv_layers=[])
        self.image_calls = 0

    def encode_speech(self, source, padding_mask):
        assert not self.training
        kept = source.double().masked_fill(padding_mask, 0)
        return torch.stack([(kept**2).sum(1), (kept**4).sum(1)], dim=1)

    def encode_image(self, image):
        self.image_calls += len(image["features"])
        return image["features"].masked_fill(image["padding_mask"][..., None], 0).sum(dim=1)[:, :2]


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for index, length in enumerate(LENGTHS):
        soundfile.write(
            tmp_path / f"{index}.wav", 0.1 * generator.standard_normal(length), 16_000, subtype="PCM_16"
        )
        rows.append(AudioRow(f"{index}.wav", length))
    write_audio_list(tmp_path / "test.tsv", rows, root=".")
    write_pairs(
        tmp_path / "test.pairs.tsv",
        [PairRow(row.audio_id, name) for row, name in zip(rows, IMAGES, strict=True)],
    )
    pictures = [
        ImageRow(name, f"{name}.png", 8, 8, group)
        for name, group in (("a", ""), ("x", ""), ("b", "g"), ("c", "g"))
    ]
    write_images(tmp_path / "images.tsv", pictures, root=".")
    regions = [RegionRow(name, row, 0, 0, 1, 1) for row, name in enumerate(("a", "x", "b", "c", "c", "c"))]
    write_regions(tmp_path / "regions.tsv", regions)
    np.save(tmp_path / "regions.npy", np.arange(18, dtype=np.float16).reshape(6, 3))
    return tmp_path


def test_ids_groups_and_cuts(folder):
    split = extraction.open_split(folder, "test", config=CONFIG)
    assert split.audio_ids == ("0.wav", "1.wav", "2.wav", "3.wav", "4.wav")
    assert split.image_ids == ("a", "b", "c")  # x has no caption here
    assert split.caption_image.tolist() == [1, 0, 1, 2, 0]
    assert split.image_groups[1] == split.image_groups[2] != split.image_groups[0]
    assert split.speech_groups.tolist() == split.image_groups[[1, 0, 1, 2, 0]].tolist()
    assert (split.n_cut, split.max_seconds) == (1, 0.5)


@pytest.mark.parametrize("batch_seconds", [0.01, 1.0, 100.0])
def test_embeddings_come_in_table_order_whatever_the_batches(folder, batch_seconds):
    model, split = _Model(), extraction.open_split(folder, "test", config=CONFIG)
    found = extraction.embed_split(model, split, batch_seconds=batch_seconds)
    for index, length in enumerate(LENGTHS):
        wave, _ = soundfile.read(folder / f"{index}.wav", dtype="float32")
        wave = wave[:8000].astype(np.float64)
        wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-5)
        np.testing.assert_allclose(found.speech[index], [(wave**2).sum(), (wave**4).sum()], rtol=1e-4)
        assert len(wave) == min(length, 8000)
    np.testing.assert_array_equal(
        found.images, [[0, 1], [6, 7], [9 + 12, 10 + 13]]
    )  # two regions of c are kept
    assert model.image_calls == 3
    assert found.seconds_per_caption > 0
    assert 0 <= found.padding_share < 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "fairseq"},
        {"padding": "fairseq", "speech_head": "resdavenet"},
        {"pos_conv_depth": 2, "conv_pos": 4},
        {"padding": "fast_vgs", "speech_head": "resdavenet"},
    ],
    ids=["exact", "group norm", "resdavenet", "deep positions", "authors' padding"],
)
def test_speech_embeddings_do_not_depend_on_the_batch(folder, settings):
    model = tiny_model(conv_feature_layers=LAYERS, image_dim=3, **settings).eval()
    config = {"task": {"valid_max_seconds": 0.6, "normalize": False}, "model": CONFIG["model"]}
    split = extraction.open_split(folder, "test", config=config)
    found = extraction.embed_split(model, split, batch_seconds=100.0)
    for index in range(len(LENGTHS)):
        source = torch.from_numpy(split.dataset[index].waveform)[None]
        with torch.no_grad():
            alone = model.encode_speech(source, torch.zeros_like(source, dtype=torch.bool))[0]
        np.testing.assert_allclose(found.speech[index], alone.numpy(), rtol=0, atol=1e-5)
    # padded as the model's own forward would have it, they do depend on it, unless padding is exact
    batch = split.dataset.collater([split.dataset[index] for index in range(len(LENGTHS))])["net_input"]
    with torch.no_grad():
        mixed = model.encode_speech(batch["source"], batch["padding_mask"]).numpy()
    assert (np.abs(mixed - found.speech).max() > 1e-4) == (settings != {})


@pytest.mark.parametrize(
    ("image_input", "encoder", "regions"),
    [
        (None, None, True),
        (None, "regions", True),
        (None, "patches", False),
        ("pictures", "regions", False),
        ("regions", "patches", True),
    ],
)
def test_images_are_read_as_the_encoder_reads_them_unless_the_task_says_how(
    folder, image_input, encoder, regions
):
    task = {**CONFIG["task"], "image_input": image_input}
    config = {"task": task, "model": {**CONFIG["model"], "image_encoder": encoder}}
    split = extraction.open_split(folder, "test", config=config)
    assert (split.dataset.regions is not None) == regions


def test_diverged_models_are_named(folder):
    split = extraction.open_split(folder, "test", config=CONFIG)
    model = _Model()
    model.encode_image = lambda image: torch.full((len(image["features"]), 2), float("nan"))
    with raises_fault("checkpoint.not_finite", "image a") as caught:
        extraction.embed_split(model, split)
    assert "NaN or infinity (3 of 3" in str(caught.value)


def test_features_of_another_extractor_are_refused(folder):
    config = {**CONFIG, "model": {**CONFIG["model"], "image_dim": 2048}}
    with raises_fault("regions.dims", "regions.npy") as caught:
        extraction.open_split(folder, "test", config=config)
    assert "got 3" in str(caught.value)


def test_bad_items_are_skipped_where_the_run_skipped_them(folder, caplog):
    (folder / "1.wav").write_text("no audio")
    with raises_fault("sound.unreadable", "test.tsv:3 (1.wav)"):
        extraction.embed_split(_Model(), extraction.open_split(folder, "test", config=CONFIG))
    lines = (folder / "regions.tsv").read_text().splitlines()
    lines[4] = "c\t3\t0\t0\t2\t1"  # a box outside the picture
    (folder / "regions.tsv").write_text("\n".join(lines) + "\n")
    with raises_fault("table.value", "regions.tsv:5"):
        extraction.open_split(folder, "test", config=CONFIG)
    config = {**CONFIG, "task": {**CONFIG["task"], "skip_bad": True}}
    with caplog.at_level(logging.WARNING):
        split = extraction.open_split(folder, "test", config=config)
    assert split.audio_ids == ("0.wav", "2.wav", "4.wav")
    assert split.image_ids == ("a", "b")
    assert split.caption_image.tolist() == [1, 1, 0]
    assert split.n_skipped == 2
    assert "split 'test': 2 pairs skipped (task.skip_bad=true in the run), 3 evaluated" in caplog.text
    found = extraction.embed_split(_Model(), split)
    assert (len(found.speech), len(found.images)) == (3, 2)


def test_absent_splits_are_refused(folder):
    with raises_fault("file.missing", "valid.tsv"):
        extraction.open_split(folder, "valid", config=CONFIG)
