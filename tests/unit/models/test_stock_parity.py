"""With the CLS switched off the SSL arm is fairseq's wav2vec 2.0: loss and gradients.

Bit for bit with model.arithmetic=fairseq; test_fast_wav2vec2.py shows that the fast one differs by rounding.
"""

import numpy as np
import pytest
import torch
from fairseq.criterions.wav2vec_criterion import Wav2vecCriterion
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from support.tiny import SIZES, tiny_model, tiny_sample

from fairseq_vgs.criterions import VgsMultitaskCriterion


def stock_model(seed=0, **settings):
    torch.manual_seed(seed)
    cfg = Wav2Vec2Config()
    for key, value in {**SIZES, **settings}.items():
        setattr(cfg, key, value)
    return Wav2Vec2Model(cfg)


def run(model, criterion, sample, *, train):
    model.train(train)
    criterion.train(train)
    torch.manual_seed(7)  # dropout, Gumbel noise and negatives
    loss, sample_size, logs = criterion(model, sample)
    if train:
        loss.backward()
    return loss, sample_size, logs


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize(
    "settings", [{}, {"layer_norm_first": True, "extractor_mode": "layer_norm"}], ids=["post", "pre"]
)
def test_loss_and_gradients_equal_fairseq(train, padded, settings):
    stock = stock_model(dropout=0.1, dropout_input=0.1, dropout_features=0.1, **settings)
    ours = tiny_model(
        arithmetic="fairseq",
        padding="fairseq",
        use_cls=False,
        dropout=0.1,
        dropout_input=0.1,
        dropout_features=0.1,
        **settings,
    )
    missing, unexpected = ours.load_state_dict(stock.state_dict(), strict=False)
    assert not unexpected
    assert all(key.startswith(("speech_head.", "image_encoder.", "logit_")) for key in missing)

    sample = tiny_sample()
    if padded:
        sample["net_input"]["padding_mask"][0, 6000:] = True
    stock_sample = {**sample, "net_input": {k: v for k, v in sample["net_input"].items() if k != "image"}}
    stock_criterion = Wav2vecCriterion(None, infonce=True, loss_weights=[0.1, 10.0])
    our_criterion = VgsMultitaskCriterion(None, alpha_values=[0.0], loss_weights=[0.1, 10.0])

    expected = run(stock, stock_criterion, stock_sample, train=train)
    actual = run(ours, our_criterion, sample, train=train)
    assert torch.equal(actual[0], expected[0])
    assert actual[1] == expected[1]
    assert int(actual[2]["ssl_correct"]) == expected[2]["correct"]
    if train:
        theirs = dict(stock.named_parameters())
        for name, parameter in ours.named_parameters():
            if name in theirs:
                assert torch.equal(parameter.grad, theirs[name].grad), name
            else:
                assert parameter.grad is None, name


def test_without_quantizer_equals_fairseq():
    stock = stock_model(quantize_targets=False)
    ours = tiny_model(arithmetic="fairseq", use_cls=False, quantize_targets=False)
    ours.load_state_dict(stock.state_dict(), strict=False)
    sample = tiny_sample()
    stock_sample = {**sample, "net_input": {k: v for k, v in sample["net_input"].items() if k != "image"}}
    expected = run(stock, Wav2vecCriterion(None, infonce=True, loss_weights=[1.0]), stock_sample, train=True)
    actual = run(ours, VgsMultitaskCriterion(None, alpha_values=[0.0]), sample, train=True)
    assert torch.equal(actual[0], expected[0])


def test_own_masks_when_none_are_given():
    """Stock users of the model (no mask_indices) get fairseq's own masks."""
    stock, ours = (
        stock_model(mask_prob=0.5, mask_length=3),
        tiny_model(arithmetic="fairseq", use_cls=False, mask_prob=0.5, mask_length=3),
    )
    ours.load_state_dict(stock.state_dict(), strict=False)
    source = tiny_sample()["net_input"]["source"]
    outputs = []
    for model in (stock, ours):
        np.random.seed(3)
        torch.manual_seed(3)
        outputs.append(model(source))
    assert torch.equal(outputs[0]["x"], outputs[1]["x"])


def test_features_only_equals_fairseq():
    stock, ours = stock_model().eval(), tiny_model(arithmetic="fairseq", use_cls=False).eval()
    ours.load_state_dict(stock.state_dict(), strict=False)
    source = tiny_sample()["net_input"]["source"]
    expected = stock.extract_features(source, None, layer=1)
    actual = ours.extract_features(source, None, layer=1)
    assert torch.equal(actual["x"], expected["x"])
    assert len(actual["layer_results"]) == len(expected["layer_results"]) == 2
