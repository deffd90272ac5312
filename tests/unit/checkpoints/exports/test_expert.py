"""The upstream for S3PRL keeps to the contract of its documentation, and a phone probe learns from it."""

from __future__ import annotations

import importlib.util
from itertools import product
from pathlib import Path

import pytest
import torch
from support.abx_material import write_checkpoint
from support.phone_probe import at_length, n_frames_of

from fairseq_vgs.checkpoints.open import open_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.features.speech import speech_features

EVERY_KIND = [
    pytest.param({"padding": padding, "use_cls": use_cls}, id=f"{padding}, {'' if use_cls else 'no '}cls")
    for padding, use_cls in product(("exact", "fairseq", "fast_vgs"), (True, False))
]


@pytest.fixture(params=EVERY_KIND)
def folder(request, tmp_path) -> Path:
    path = write_checkpoint(tmp_path / "one.pt", encoder_layers=12, **request.param)
    assert main(["export", str(path), str(tmp_path / "hub")]) == 0
    return tmp_path / "hub"


def upstream(path: Path, *arguments: object):
    spec = importlib.util.spec_from_file_location("expert_of_a_folder", path / "expert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.UpstreamExpert(*arguments)


def noise(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, generator=generator) for length in lengths]


def normal(wave: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(wave, wave.shape)


def test_states(folder):
    """Thirteen, those of fairseq for each utterance alone, and not changed by the rest of the batch."""
    expert = upstream(folder, str(folder)).eval()
    assert expert.get_downsample_rates("hidden_states") == 320
    waves = noise(16_000, 9_001, 12_345)
    with torch.no_grad():
        found = expert(waves)
        alone = expert(waves[1:2])["hidden_states"]
    states = found["hidden_states"]
    assert len(states) == 13
    assert {tuple(state.shape) for state in states} == {(3, 49, 24)}
    assert found["last_hidden_state"] is states[-1]
    own = speech_features(open_checkpoint(folder / "model.safetensors").model, [normal(waves[1])])[0]
    is_exact = expert.model.config.padding == "exact"
    for number, (state, single) in enumerate(zip(states, alone, strict=True)):
        layer = own.layers[f"layer_{number}"]
        torch.testing.assert_close(single[0], layer, rtol=0, atol=1e-5)
        if is_exact:
            torch.testing.assert_close(state[1, : len(layer)], layer, rtol=0, atol=1e-5)


def test_lengths_are_within_tolerance(folder):
    """One second of noise, with which S3PRL begins; its shortest utterances, 0.05 s; and odd lengths."""
    expert = upstream(folder)
    for lengths in ([16_000], [800], [800, 800], [800, 5_321, 16_000], [31_999, 48_000]):
        waves = noise(*lengths)
        longest = max(map(n_frames_of, waves))
        for state in expert(waves)["hidden_states"]:
            assert 0 <= longest - state.size(1) < 2  # S3PRL allows 5, its tests 3
            assert at_length(state, longest).shape == (len(waves), longest, 24)
            assert state.isfinite().all()


def test_training(folder):
    """Gradients reach every part, the number of states stays, and nothing is masked or dropped in eval."""
    expert = upstream(folder)
    waves = noise(8_000, 7_000)
    expert.train()
    assert {len(expert(waves)["hidden_states"]) for _ in range(5)} == {13}
    expert(waves)["hidden_states"][-1].sum().backward()
    weights = dict(expert.named_parameters())
    assert [name for name, weight in weights.items() if weight.grad is None] == []
    assert min(weight.numel() for weight in weights.values()) > 1  # S3PRL redraws them by their own spread
    expert.eval()
    with torch.no_grad():
        first, second = (expert(waves)["hidden_states"] for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
