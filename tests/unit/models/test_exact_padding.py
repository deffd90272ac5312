"""With padding=exact a padded batch is its utterances alone: frames, penalty, embeddings and gradients."""

import pytest
import torch
from support.tiny import random_masks, tiny_model, tiny_sample

from fairseq_vgs.modules.conv_spec import n_frames

LENGTHS = (8000, 6001, 417, 7321)
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}


def waveforms():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(length, generator=generator) for length in LENGTHS]


def batch():
    source = torch.nn.utils.rnn.pad_sequence(waveforms(), batch_first=True)
    return source, torch.arange(source.size(1)) >= torch.tensor(LENGTHS)[:, None]


def frames_of(model, source, padding_mask=None):
    return model(source, padding_mask, mask=False, features_only=True)


def frames_with_gradients(model, *, padded):
    """Frames of each utterance, and gradients of a sum over them in which every number counts differently."""
    model.zero_grad()
    if padded:
        x = frames_of(model, *batch())["x"]
        found = [row[: n_frames(length, model._layers)] for row, length in zip(x, LENGTHS, strict=True)]
    else:
        found = [frames_of(model, waveform[None])["x"][0] for waveform in waveforms()]
    sum((frames * torch.linspace(-1, 1, frames.numel()).view_as(frames)).sum() for frames in found).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found, gradients


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("arithmetic", ["fast", "fairseq"])
@pytest.mark.parametrize(
    "settings", [{}, {"layer_norm_first": True, "extractor_mode": "layer_norm"}], ids=["post", "pre"]
)
def test_frames_and_gradients_are_those_of_each_utterance_alone(train, arithmetic, settings):
    model = tiny_model(arithmetic=arithmetic, **NO_DROPOUT, **settings).train(train)
    frames, gradients = frames_with_gradients(model, padded=True)
    expected_frames, expected_gradients = frames_with_gradients(model, padded=False)
    for ours, expected in zip(frames, expected_frames, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=2e-5)
    assert gradients.keys() == expected_gradients.keys()
    assert "feature_extractor.conv_layers.0.0.weight" in gradients
    for name, gradient in gradients.items():
        scale = float(expected_gradients[name].abs().max())
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=0, atol=2e-4 * max(scale, 1e-3))


@pytest.mark.parametrize("arithmetic", ["fast", "fairseq"])
def test_as_in_fairseq_they_are_not(arithmetic):
    """The test above can fail."""
    model = tiny_model(arithmetic=arithmetic, **NO_DROPOUT, padding="fairseq")
    frames, _ = frames_with_gradients(model, padded=True)
    expected, _ = frames_with_gradients(model, padded=False)
    assert (frames[1] - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("arithmetic", ["fast", "fairseq"])
@pytest.mark.parametrize("multiple", [1, 5])
def test_the_penalty_is_the_mean_over_the_utterances_features(train, arithmetic, multiple):
    model = tiny_model(arithmetic=arithmetic, use_cls=False, crop_seq_to_multiple=multiple).train(train)
    lengths = (8000, 6000)
    source = torch.randn(2, 8000, generator=torch.Generator().manual_seed(1))
    source[1, 6000:] = 0
    padding_mask = torch.arange(8000) >= torch.tensor(lengths)[:, None]
    masks = random_masks(2, n_frames(6000, model._layers))
    n_cropped = n_frames(8000, model._layers) // multiple * multiple
    masks = torch.nn.functional.pad(masks, (0, n_cropped - masks.size(1)))
    found = model(source, padding_mask, mask_indices=masks)["features_pen"]
    features = [model.feature_extractor(row[None, :n])[0] for row, n in zip(source, lengths, strict=True)]
    expected = torch.cat(features, dim=1).square().mean()
    torch.testing.assert_close(found, expected)


def test_what_the_padding_holds_does_not_matter():
    model = tiny_model(**NO_DROPOUT).train()
    source, padding_mask = batch()
    noisy = torch.where(padding_mask, torch.randn(source.shape), source)
    expected = frames_of(model, source, padding_mask)["x"]
    found = frames_of(model, noisy, padding_mask)["x"]
    for row, length in enumerate(LENGTHS):
        n_valid = n_frames(length, model._layers)
        torch.testing.assert_close(found[row, :n_valid], expected[row, :n_valid], rtol=0, atol=2e-5)


def test_nothing_is_kept_for_the_next_batch():
    model = tiny_model(**NO_DROPOUT).train()
    source, padding_mask = batch()
    before = frames_of(model, source)["x"]
    frames_of(model, source, padding_mask)
    assert torch.equal(frames_of(model, source)["x"], before)


def test_an_utterance_shorter_than_a_frame_stays_finite():
    model = tiny_model(**NO_DROPOUT).train()
    sample = tiny_sample(n_pairs=2)
    padding_mask = sample["net_input"]["padding_mask"]
    padding_mask[0, 3:] = True
    assert bool(torch.isfinite(frames_of(model, sample["net_input"]["source"], padding_mask)["x"]).all())


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_bf16_autocast_is_near(train):
    model = tiny_model(autocast="bf16", **NO_DROPOUT).train(train)
    exact = tiny_model(**NO_DROPOUT).train(train)
    found, expected = (frames_with_gradients(each, padded=True)[0] for each in (model, exact))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.isfinite().all()
        cosine = torch.nn.functional.cosine_similarity(ours.float().flatten(), theirs.flatten(), dim=0)
        assert cosine > 0.99
