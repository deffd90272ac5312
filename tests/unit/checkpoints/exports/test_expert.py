"""The upstream for S3PRL keeps to the contract of its documentation."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from support.abx_material import write_checkpoint

from fairseq_vgs.checkpoints.open import open_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.features.speech import speech_features


@pytest.fixture(params=[True, False], ids=["cls", "no cls"])
def folder(request, tmp_path) -> Path:
    path = write_checkpoint(tmp_path / "one.pt", use_cls=request.param)
    assert main(["export", str(path), str(tmp_path / "hub")]) == 0
    return tmp_path / "hub"


def upstream(path: Path, *arguments: object):
    spec = importlib.util.spec_from_file_location("expert_of_a_folder", path / "expert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.UpstreamExpert(*arguments)


def test_contract(folder):
    expert = upstream(folder, str(folder)).eval()
    rate = expert.get_downsample_rates("hidden_states")
    assert rate == 320
    waves = [torch.randn(16_000), torch.randn(9_001), torch.randn(12_345)]
    states = expert(waves)["hidden_states"]
    assert len(states) == 4  # of 3 layers
    assert {state.shape for state in states} == {states[0].shape}
    assert states[0].shape[::2] == (3, 24)
    assert abs(states[0].size(1) - 16_000 // rate) < 5  # S3PRL's tolerance
    found = speech_features(open_checkpoint(folder / "model.safetensors").model, [normal(waves[1])])[0]
    for number, state in enumerate(states):
        layer = found.layers[f"layer_{number}"]
        torch.testing.assert_close(state[1, : len(layer)], layer, rtol=0, atol=1e-5)


def normal(wave: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(wave, wave.shape)


def test_it_finds_its_own_folder_and_trains(folder):
    expert = upstream(folder)
    assert [len(state[0]) for state in expert([torch.randn(16_000)])["hidden_states"]] == [49] * 4
    expert([torch.randn(8_000), torch.randn(7_000)])["hidden_states"][-1].sum().backward()
    gradients = {name for name, weight in expert.named_parameters() if weight.grad is not None}
    assert any("feature_extractor" in name for name in gradients)
    assert any("encoder.layers.2" in name for name in gradients)
