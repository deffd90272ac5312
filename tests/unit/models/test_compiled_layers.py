"""Layers that are compiled compute what they did; evaluation does not use them."""

import copy
import shutil

import pytest
import torch
from support.tiny import NO_DROPOUT, tiny_model, tiny_sample

from fairseq_vgs.criterions.vgs_multitask import VgsMultitaskCriterion

NAMES = ("encoder.layers.0.fc1.weight", "encoder.layers.0.self_attn.k_proj.weight", "mask_emb")


def model_and_compiled(backend, **settings):
    models = [tiny_model(padding="exact", **NO_DROPOUT, **settings) for _ in range(2)]
    models[1].encoder.compile_layers(backend=backend)
    return models


def loss_and_gradients(model, sample):
    torch.manual_seed(3)
    model.zero_grad()
    loss = VgsMultitaskCriterion(None).train()(model.train(), sample)[0]
    loss.backward()
    weights = dict(model.named_parameters())
    return [loss.detach(), *(weights[name].grad.clone() for name in NAMES)]


def sample(n_samples=8000):
    found = tiny_sample(n_samples=n_samples)
    found["net_input"]["padding_mask"][0, n_samples - 1000 :] = True
    return found


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_losses_and_gradients_are_equal(backend):
    if backend == "inductor" and not (shutil.which("g++") and shutil.which("gcc")):
        pytest.skip("inductor needs a compiler of C++")
    plain, compiled = model_and_compiled(backend, encoder_layers=1, vgs_layer=1)  # each graph takes seconds
    expected, actual = (loss_and_gradients(model, sample()) for model in (plain, compiled))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_a_shape_is_compiled_for_all_layers_and_only_in_training():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    _, compiled = model_and_compiled("aot_eager")
    for n_samples in (8000, 9000, 8000, 9000):
        loss_and_gradients(compiled, sample(n_samples))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs == 2 * 2  # the first layer's input differs from the others'
    assert not torch._dynamo.utils.counters["graph_break"]
    with torch.no_grad():
        compiled.eval().encode_speech(torch.zeros(2, 7000))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


def test_weights_keep_their_names_and_copies_are_plain():
    plain, compiled = model_and_compiled("aot_eager")
    assert list(plain.state_dict()) == list(compiled.state_dict())
    assert copy.deepcopy(compiled.encoder.layers[0])._compiled_call_impl is None


@pytest.mark.parametrize("setting", ["none", "layers", "graphs"])
def test_one_setting_switches(setting, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, **how: asked.append(how))
    model = tiny_model(compile=setting)
    assert len(asked) == (0 if setting == "none" else len(model.encoder.layers))
    assert all(how.get("mode") == ("reduce-overhead" if setting == "graphs" else None) for how in asked)
