"""The rearranged arithmetic against fairseq's, on the same weights and random numbers."""

import pytest
import torch
import torch.nn.functional as F
from support.tiny import random_masks, tiny_model, tiny_sample

from fairseq_vgs.criterions import VgsMultitaskCriterion
from fairseq_vgs.models.fast_layer import FastTransformerLayer
from fairseq_vgs.models.fast_wav2vec2 import MatmulExtractor, MatmulQuantizer, SpectralConvolution
from fairseq_vgs.modules import attention, dropout


@pytest.fixture
def masks_of_torch(monkeypatch):
    """Draw the masks of dropout as `F.dropout` does, so that both arithmetics drop the same values."""

    def draw(shape, p):
        return -torch.empty(shape).bernoulli_(1 - p).eq(0).to(torch.int16)

    for module in (attention, dropout):
        monkeypatch.setattr(module, "draw_dropped", draw)


LARGE = {"extractor_mode": "layer_norm", "conv_bias": True, "layer_norm_first": True}


def run(arithmetic, sample, *, train=True, alpha=0.5, **settings):
    model = tiny_model(arithmetic=arithmetic, dropout_features=0.1, **settings)
    criterion = VgsMultitaskCriterion(None, alpha_values=[alpha])
    model.train(train)
    criterion.train(train)
    torch.manual_seed(7)
    loss, _, logs = criterion(model, sample)
    if train:
        loss.backward()
    return model, loss, logs


def padded_sample():
    sample = tiny_sample()
    sample["net_input"]["padding_mask"][0, 6000:] = True
    sample["net_input"]["source"][0, 6000:] = 0
    sample["net_input"]["mask_indices"] = F.pad(random_masks(4, 18), (0, 6))  # never on padding
    return sample


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("sample", [tiny_sample(), padded_sample()], ids=["full", "padded"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        LARGE,
        {"conv_bias": True},
        {"quantize_targets": False},
        {"target_glu": True},
        {"negatives_from_everywhere": True},
        {"cross_sample_negatives": 2},
        {"codebook_negatives": 2},
        {"crop_seq_to_multiple": 5},
        {"pos_conv_depth": 2},
        {"vgs_forward": "unmasked"},
        {"checkpoint_activations": True},
        {"speech_head": "resdavenet", "image_dropout": 0.3, "activation_dropout": 0.2},
    ],
    ids=lambda settings: ",".join(settings) or "paper",
)
@pytest.mark.usefixtures("masks_of_torch")
def test_loss_and_gradients_equal_fairseqs(settings, sample, train):
    if "crop_seq_to_multiple" in settings:  # 24 frames to 20
        sample = {**sample, "net_input": {**sample["net_input"], "mask_indices": random_masks(4, 20)}}
    ours, loss, logs = run("fast", sample, train=train, **settings)
    theirs, expected, expected_logs = run("fairseq", sample, train=train, **settings)
    torch.testing.assert_close(loss, expected, rtol=1e-5 if train else 0, atol=0)
    for key in ("ssl_contrastive", "vgs_loss", "code_perplexity", "prob_perplexity", "ssl_correct"):
        if key in expected_logs:
            torch.testing.assert_close(logs[key], expected_logs[key], rtol=1e-5, atol=0)
    if train:
        expected_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
        for name, parameter in ours.named_parameters():
            if expected_gradients[name] is None:
                assert parameter.grad is None, name
            else:
                scale = expected_gradients[name].abs().max().clamp(min=1.0).item()
                torch.testing.assert_close(
                    parameter.grad, expected_gradients[name], rtol=1e-4, atol=1e-4 * scale, msg=name
                )


def test_the_paper_takes_the_fast_parts():
    model = tiny_model()
    assert isinstance(model.feature_extractor, MatmulExtractor)
    assert isinstance(model.quantizer, MatmulQuantizer)
    assert isinstance(model.encoder.pos_conv[0], SpectralConvolution)
    assert all(isinstance(layer, FastTransformerLayer) for layer in model.encoder.layers)
    assert not torch.is_floating_point(model.sample_negatives(torch.zeros(2, 5, 3), 5)[0])
    stock = tiny_model(arithmetic="fairseq")
    assert not isinstance(stock.feature_extractor, MatmulExtractor)
    assert torch.is_floating_point(stock.sample_negatives(torch.zeros(2, 5, 3), 5)[0])
    assert model.state_dict().keys() == stock.state_dict().keys()


@pytest.mark.parametrize("arithmetic", ["fast", "fairseq"])
@pytest.mark.parametrize("settings", [{}, {"negatives_from_everywhere": True}], ids=["paper", "everywhere"])
def test_masks_as_numbers_equal_masks_as_flags(arithmetic, settings):
    flags = padded_sample()
    mask = flags["net_input"]["mask_indices"]
    numbers = mask.nonzero()[:, 1].view(len(mask), -1)
    by_number = {**flags, "net_input": {**flags["net_input"], "mask_indices": numbers}}
    models = {}
    for name, sample in (("flags", flags), ("numbers", by_number)):
        models[name], loss, _ = run(arithmetic, sample, **settings)
        models[name].loss = loss
    assert torch.equal(models["numbers"].loss, models["flags"].loss)
    assert torch.equal(models["numbers"].mask_emb.grad, models["flags"].mask_emb.grad)


def test_negatives_are_those_that_fairseq_draws():
    targets = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    drawn = {}
    for arithmetic in ("fast", "fairseq"):
        model = tiny_model(arithmetic=arithmetic)
        torch.manual_seed(5)
        drawn[arithmetic], _ = model.sample_negatives(targets, 6)
    picked = targets[torch.arange(2)[:, None, None], drawn["fast"]].permute(2, 0, 1, 3)
    assert torch.equal(picked, drawn["fairseq"])
