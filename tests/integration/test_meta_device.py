"""Whole updates on a stand-in for a GPU, see support/meta_device.py: forward, losses, backward."""

import itertools
from decimal import Decimal

import numpy as np
import pytest
import torch
from configs.test_compose import PRIMARIES, composed
from fairseq.models.wav2vec import wav2vec2
from support.meta_device import DEVICE, DeviceError, as_on_a_gpu, to_device

from fairseq_vgs.criterions.vgs_multitask import VgsMultitaskCriterion
from fairseq_vgs.data.collation import CollationOptions, PairItem, collate
from fairseq_vgs.features.speech import speech_features
from fairseq_vgs.metrics.abx.engine import abx_scores
from fairseq_vgs.metrics.abx.items import AbxItem
from fairseq_vgs.models import VgsModel
from fairseq_vgs.modules.alone import speech_embeddings
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers

SIZES = ("tiny", "paper")
REGION_DIM, N_REGIONS = 2048, 3
SECONDS = (1.0, 0.9, 0.7)


def configuration(primary, size, *overrides):
    return composed(
        primary,
        f"model={size}",
        "run_config=gpu_1",
        "task.data=none",
        f"model.image_dim={REGION_DIM}",
        *overrides,
    )


def build(cfg):
    """Build model and criterion, the model without memory for its weights."""
    settings = {key: value for key, value in cfg.criterion.items() if key != "_name"}
    with torch.device(DEVICE), pytest.MonkeyPatch.context() as patch:
        patch.setattr(wav2vec2, "init_bert_params", lambda module: None)  # copies weights to the host
        model = VgsModel.build_model(cfg.model)
    criterion = VgsMultitaskCriterion(None, **settings)
    return model.to(DEVICE).train(), criterion.train()


def batch(cfg):
    """Collate pairs of unequal lengths, as data workers do, and move them."""
    rng, layers = np.random.default_rng(0), parse_conv_layers(cfg.model.conv_feature_layers)
    items = []
    for row, seconds in enumerate(SECONDS):
        waveform = rng.standard_normal(int(seconds * 16_000)).astype(np.float32)
        mask = np.zeros(n_frames(len(waveform), layers), dtype=bool)
        mask[3:20] = True
        image = (
            {"picture": np.zeros((3, cfg.model.image_size, cfg.model.image_size), dtype=np.float32)}
            if cfg.model.image_encoder == "patches"
            else {
                "features": np.zeros((N_REGIONS - row, REGION_DIM), dtype=np.float32),
                "boxes": np.zeros((N_REGIONS - row, 4), dtype=np.float32),
            }
        )
        items.append(PairItem(row, waveform, mask, row, row, **image))
    return to_device(collate(items, CollationOptions(seed=1), epoch=1))


def update(model, criterion, sample, monkeypatch):
    with as_on_a_gpu(monkeypatch):
        loss, sample_size, logs = criterion(model, sample)
        loss.backward()
    return loss, sample_size, logs


def check(cfg, monkeypatch):
    """Run an update; every parameter of the branches that count must get a gradient on the device."""
    model, criterion = build(cfg)
    loss, sample_size, logs = update(model, criterion, batch(cfg), monkeypatch)
    assert loss.device == DEVICE
    assert isinstance(sample_size, int)
    assert all(not torch.is_tensor(value) or value.device == DEVICE for value in logs.values())
    unused = {id(parameter) for parameter in model.unused_parameters()}
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None and id(parameter) not in unused and parameter.requires_grad
    ]
    assert without == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("primary", PRIMARIES)
def test_updates_of_every_scenario(primary, size, monkeypatch):
    overrides = ("model.image_layers=1",) if size == "paper" else ()
    check(configuration(primary, size, *overrides), monkeypatch)


# padding, speech head, images, loss, forward: of every two columns each pair of choices occurs
VARIANTS = [
    ("exact", "resdavenet", "regions", "masked_margin", "masked"),
    ("exact", "attention", "regions", "infonce", "unmasked"),
    ("exact", "resdavenet", "patches", "sigmoid", "unmasked"),
    ("fairseq", "attention", "patches", "masked_margin", "unmasked"),
    ("fairseq", "resdavenet", "regions", "infonce", "masked"),
    ("fairseq", "attention", "regions", "sigmoid", "masked"),
    ("fast_vgs", "resdavenet", "patches", "masked_margin", "unmasked"),
    ("fast_vgs", "attention", "patches", "infonce", "masked"),
    ("fast_vgs", "resdavenet", "regions", "sigmoid", "unmasked"),
]


@pytest.mark.parametrize(("padding", "head", "images", "loss", "forward"), VARIANTS)
def test_updates_of_other_models_and_losses(padding, head, images, loss, forward, monkeypatch):
    cfg = configuration("vgs_plus", "tiny")
    cfg.model.update(padding=padding, speech_head=head, image_encoder=images, vgs_forward=forward)
    cfg.criterion.vgs_loss = loss
    check(cfg, monkeypatch)


def test_variants_have_every_pair_of_choices():
    n_choices = [len(set(column)) for column in zip(*VARIANTS, strict=True)]
    for first, second in itertools.combinations(range(len(n_choices)), 2):
        pairs = {(variant[first], variant[second]) for variant in VARIANTS}
        assert len(pairs) == n_choices[first] * n_choices[second], (first, second)


def test_text_captions(monkeypatch):
    cfg = configuration("vgs", "tiny", "scenario=text", "model.text_vocabulary=30")
    model, criterion = build(cfg)
    sample = batch(cfg)
    inputs = sample["net_input"]
    inputs["source"] = torch.zeros(len(SECONDS), 12, dtype=torch.int64, device=DEVICE)
    inputs["padding_mask"] = torch.zeros(len(SECONDS), 12, dtype=torch.bool, device=DEVICE)
    del inputs["mask_indices"]
    assert update(model, criterion, sample, monkeypatch)[0].device == DEVICE


class Spoilt(VgsMultitaskCriterion):
    """A criterion with one more line."""

    def vgs_branch(self, net_output, sample):
        loss, logs = super().vgs_branch(net_output, sample)
        return self.line(loss, net_output["speech_embedding"], sample), logs


def waits_backward(loss, x):
    x.register_hook(lambda gradient: gradient * gradient.sum().item())
    return loss + x.sum()


FAULTS = {
    "number": lambda loss, x, _: loss * x.sum().item(),
    "list": lambda loss, x, sample: loss * len(sample["image_id"].tolist()),
    "truth": lambda loss, x, _: loss if x.sum() > 0 else 2 * loss,
    "nonzero": lambda loss, x, _: loss + x.nonzero().sum(),
    "mask": lambda loss, x, _: loss + x[x > 0].sum(),
    "assignment": lambda loss, x, _: x.clone().index_put_((x[:, 0] > 0,), x[0]).sum() + loss,
    "operand": lambda loss, x, _: loss + (x @ torch.zeros(x.size(1))).sum(),
    "indices": lambda loss, x, _: loss + x[torch.arange(2)].sum(),
    "new tensor": lambda loss, x, _: loss * torch.tensor([2.0], device=x.device).sum(),
    "moved tensor": lambda loss, x, _: loss * torch.zeros(2).to(x.device).sum(),
    "result": lambda loss, x, _: loss + x.cpu().sum(),
    "backward": lambda loss, x, _: waits_backward(loss, x),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault, monkeypatch):
    cfg = configuration("vgs", "tiny")
    model, criterion = build(cfg)
    criterion.__class__, criterion.line = Spoilt, FAULTS[fault]
    with pytest.raises(DeviceError):
        update(model, criterion, batch(cfg), monkeypatch)


def test_extraction_keeps_its_operands_on_the_device(monkeypatch):
    """The host waits for what it stores, so that numbers may be read."""
    cfg = configuration("vgs_plus", "tiny")
    model = build(cfg)[0].eval()
    inputs = batch(cfg)["net_input"]
    with as_on_a_gpu(monkeypatch, may_wait=True):
        sources = [torch.zeros(int(16_000 * seconds), device=DEVICE) for seconds in SECONDS]
        features = speech_features(model, sources)
        embeddings = speech_embeddings(model, inputs["source"], inputs["padding_mask"])
        images = model.encode_image(inputs["image"])
    assert len(features[0].layers) == cfg.model.encoder_layers + 1
    assert features[0].layers["layer_1"].shape == (49, cfg.model.encoder_embed_dim)
    assert embeddings.shape == images.shape == (len(SECONDS), cfg.model.embed_dim)
    assert embeddings.device == images.device == DEVICE


def test_abx_keeps_its_operands_on_the_device(monkeypatch):
    items = [
        AbxItem("file", Decimal(n) / 5, Decimal(n) / 5 + Decimal("0.12"), phone, "a", "b", "s")
        for n, phone in enumerate("xyxyxy")
    ]
    features = {"file": {"layer_1": torch.randn(100, 8)}}
    with as_on_a_gpu(monkeypatch, may_wait=True):
        result = abx_scores(features, items, device="meta")
    assert result["layer_1"].counts.cells == 2
