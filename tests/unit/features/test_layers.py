"""Layers of a model as ABX compares them: which they are, and that nothing else is in them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.abx_material import write_checkpoint, write_recordings
from support.faults import raises_fault
from support.tiny import tiny_model

from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.waveform import normalize_waveform
from fairseq_vgs.features import layers as phone_features
from fairseq_vgs.features import mfcc
from fairseq_vgs.features.recordings import open_recordings
from fairseq_vgs.features.speech import speech_features


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("abx") / "set", n_files=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return load_checkpoint(write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint_best.pt"))


@pytest.mark.parametrize("settings", [{}, {"use_cls": False}, {"layer_norm_first": True}])
@pytest.mark.parametrize("multiple", [1, 2])
@pytest.mark.parametrize("n_samples", [6000, 6320])
def test_layers_are_those_of_fairseq(settings, multiple, n_samples):
    model = tiny_model(**settings, required_seq_len_multiple=multiple).eval()
    source = torch.randn(n_samples, generator=torch.Generator().manual_seed(0))
    found = speech_features(model, [source])[0].layers
    assert list(found) == ["layer_0", "layer_1", "layer_2", "layer_3"]
    with torch.inference_mode():
        output = model.extract_features(source[None], None, mask=False)
    for number, (layer, _, _) in enumerate(output["layer_results"], start=1):
        assert torch.equal(found[f"layer_{number}"], layer[:, 0])
    if not settings.get("layer_norm_first"):
        assert torch.equal(found["layer_3"], output["x"][0])
    # The first layer makes layer_1 of layer_0: with a CLS vector, of it and layer_0.
    assert found["layer_0"].shape == found["layer_1"].shape
    assert not model.encoder.layers[0]._forward_pre_hooks


def test_layer_0_enters_the_first_layer():
    model = tiny_model(use_cls=False).eval()
    source = torch.randn(6000, generator=torch.Generator().manual_seed(0))
    found = speech_features(model, [source])[0].layers
    with torch.inference_mode():
        after, _ = model.encoder.layers[0](found["layer_0"][:, None])
    assert torch.allclose(after[:, 0], found["layer_1"], atol=1e-6)


def test_recordings_one_at_a_time_normalised(folder, checkpoint):
    recordings = open_recordings(folder)
    features = phone_features.layer_features(checkpoint, recordings)
    alone = features("r1")
    features("r0")
    again = features("r1")
    source = torch.from_numpy(normalize_waveform(recordings["r1"].waveform()))
    expected = speech_features(checkpoint.model, [source])[0].layers
    for name in expected:
        assert torch.equal(alone[name], again[name])
        assert torch.equal(alone[name], expected[name])
    assert len(alone["layer_1"]) == 19_200 // 320 - 1
    assert phone_features.frame_rate(checkpoint) == 50.0


def test_mfcc_of_recordings(folder):
    recordings = open_recordings(folder)
    found = phone_features.mfcc_features(recordings)("r0")
    assert list(found) == ["mfcc"]
    assert np.array_equal(found["mfcc"].numpy(), mfcc.mfcc(recordings["r0"].waveform()))
    assert phone_features.MFCC_FRAME_RATE == 100.0


def test_an_utterance_shorter_than_a_frame(tmp_path, checkpoint):
    folder = write_recordings(tmp_path / "set", n_files=1)
    recordings = open_recordings(folder)
    short = replace(recordings["r0"], n_samples=399)
    with raises_fault("sound.length", "test.tsv:2", error=BadItemError) as caught:
        phone_features.layer_features(checkpoint, {"r0": short})("r0")
    assert "'399 samples'" in str(caught.value)
