"""Batched layers and embeddings are those of every utterance alone; nothing of the batch is in them."""

import pytest
import torch
from support import wav2vec2_files
from support.tiny import tiny_model

from fairseq_vgs.features.speech import speech_features
from fairseq_vgs.modules.alone import can_pad, speech_embeddings

LENGTHS = (9600, 6000, 400, 7321, 6000)
LARGE = {"extractor_mode": "layer_norm", "conv_bias": True, "layer_norm_first": True}


def sources(lengths=LENGTHS, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, generator=generator) + 0.1 for n in lengths]


def live_model(**settings):
    """Give norms and biases numbers of their own: fresh ones are 1 and 0, which hide mistakes."""
    model = tiny_model(**settings).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"required_seq_len_multiple": 2},
        {"use_cls": False, "speech_head": "attention"},
        {"speech_head": "resdavenet"},
        LARGE,
    ],
    ids=["group norm", "multiple", "no cls", "resdavenet", "layer norm"],
)
def test_every_layer_and_the_embedding_do_not_depend_on_the_batch(settings):
    model = live_model(**settings)
    utterances = sources()
    alone = [speech_features(model, [source])[0] for source in utterances]
    for order in ((0, 1, 2, 3, 4), (3, 2), (4, 0)):
        batch = speech_features(model, [utterances[number] for number in order])
        for number, found in zip(order, batch, strict=True):
            assert list(found.layers) == ["layer_0", "layer_1", "layer_2", "layer_3"]
            for name, layer in found.layers.items():
                assert layer.shape == alone[number].layers[name].shape
                assert torch.allclose(layer, alone[number].layers[name], rtol=0, atol=1e-5), name
            assert torch.allclose(found.embedding, alone[number].embedding, rtol=0, atol=1e-5)
    assert len(alone[2].layers["layer_1"]) == 1


def test_padded_batches_are_embedded_as_the_features_are():
    model = live_model(speech_head="resdavenet")
    utterances = sources()
    source = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
    padding_mask = torch.arange(source.size(1)) >= torch.tensor(LENGTHS)[:, None]
    norm = model.feature_extractor.conv_layers[0][2]
    with torch.inference_mode():
        found = speech_embeddings(model, source, padding_mask)
    assert model.feature_extractor.conv_layers[0][2] is norm  # the model stays as it is
    for row, features in zip(found, speech_features(model, utterances), strict=True):
        assert torch.allclose(row, features.embedding, rtol=0, atol=1e-5)


def test_the_models_own_norm_would_depend_on_the_batch():
    """The test above can fail."""
    model = live_model(padding="fairseq")
    short, long = sources((6000, 9600))
    source = torch.nn.utils.rnn.pad_sequence([short, long], batch_first=True)
    padding_mask = torch.arange(9600) >= torch.tensor([[6000], [9600]])
    with torch.inference_mode():
        layer = model.extract_features(source, padding_mask)["layer_results"][0][0][:, 0]
    alone = speech_features(model, [short])[0].layers["layer_1"]
    assert (layer[: len(alone)] - alone).abs().max() > 1e-3


def test_embeddings_are_those_of_the_model_and_the_model_stays_as_it_was():
    model = live_model()
    utterances = sources()
    modules = dict(model.named_modules())
    found = speech_features(model, utterances)
    for source, features in zip(utterances, found, strict=True):
        with torch.inference_mode():
            expected = model.encode_speech(source[None])[0]
        assert torch.allclose(features.embedding, expected, rtol=0, atol=1e-5)
    assert dict(model.named_modules()) == modules
    assert not model.encoder._forward_hooks and not model.encoder.layers[0]._forward_pre_hooks


@pytest.mark.parametrize("settings", [wav2vec2_files.SMALL, wav2vec2_files.LARGE], ids=["small", "large"])
def test_stock_wav2vec2(settings):
    model = wav2vec2_files.stock_model(settings)
    utterances = sources()
    for source, features in zip(utterances, speech_features(model, utterances), strict=True):
        with torch.inference_mode():
            results = model.extract_features(source[None], None)["layer_results"]
        assert features.embedding is None
        for number, (layer, *_) in enumerate(results, start=1):
            assert torch.allclose(features.layers[f"layer_{number}"], layer[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"pos_conv_depth": 2}, {"crop_seq_to_multiple": 4}, {"padding": "fast_vgs"}]
)
def test_models_that_mix_padding_take_equal_lengths_only(settings):
    model = tiny_model(**settings).eval()
    assert not can_pad(model)
    with pytest.raises(ValueError, match=r"must be of one length .* got \[6000, 6001\]"):
        speech_features(model, sources((6000, 6001)))
    utterances = sources((6000, 6000))
    for source, features in zip(utterances, speech_features(model, utterances), strict=True):
        alone = speech_features(model, [source])[0]
        for name in alone.layers:
            assert torch.allclose(features.layers[name], alone.layers[name], rtol=0, atol=1e-5)


def test_bf16_is_near_and_comes_out_as_fp32():
    model = live_model()
    utterances = sources()
    exact, rounded = speech_features(model, utterances), speech_features(model, utterances, bf16=True)
    for first, second in zip(exact, rounded, strict=True):
        for name, layer in second.layers.items():
            assert layer.dtype == torch.float32
            difference = (layer - first.layers[name]).norm() / first.layers[name].norm()
            assert 0 < difference < 0.1
        assert second.embedding.dtype == torch.float32
