"""The upstream for S3PRL keeps to the contract of its documentation, and a phone probe learns from it."""

from __future__ import annotations

import importlib.util
from itertools import product
from pathlib import Path

import pytest
import torch
import transformers
from support.abx_material import write_checkpoint
from support.phone_probe import Aligned, at_length, n_frames_of, probe
from support.train import EMBEDDED

from fairseq_vgs.alignments.read import read_alignments
from fairseq_vgs.checkpoints.open import open_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.features.speech import speech_features
from fairseq_vgs.files.location import resolve
from fairseq_vgs.manifest.tables import read_audio_list
from fairseq_vgs.media.encode import as_prepared
from fairseq_vgs.media.sound import decode

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
    # the checkpoint in fairseq, not the folder
    own = speech_features(open_checkpoint(folder.parent / "one.pt").model, [normal(waves[1])])[0]
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


@pytest.fixture(scope="module")
def recordings() -> list[Aligned]:
    """Half of the embedded recordings, with the phones of their aligner."""
    root = EMBEDDED / "abx"
    phones = {one.recording: one.phones for one in read_alignments([root / "alignments.tsv"])}
    found = []
    for row in read_audio_list(root / "test.tsv").rows[:30]:
        wave = as_prepared(decode(resolve(root, row.audio_id), place=row.audio_id))
        spans = [(float(phone.onset), float(phone.offset)) for phone in phones[row.audio_id]]
        labels = [phone.label for phone in phones[row.audio_id]]
        found.append(Aligned(torch.from_numpy(wave), torch.tensor(spans).numpy(), labels))
    return found


def test_a_phone_probe_learns_from_it(recordings, tmp_path):
    """From the small trained model, more than from one with its settings and drawn weights."""
    assert main(["import", "hub", "quickstart", str(tmp_path / "quickstart.pt")]) == 0
    assert main(["export", str(tmp_path / "quickstart.pt"), str(tmp_path / "hub")]) == 0
    trained, drawn = (upstream(tmp_path / "hub") for _ in range(2))
    torch.manual_seed(1)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "hub", trust_remote_code=True)
    drawn.model = transformers.AutoModel.from_config(config, trust_remote_code=True)
    found, base = (probe(one.eval(), recordings[:20], recordings[20:]) for one in (trained, drawn))
    assert found.accuracy > found.majority + 0.08  # 0.35, where the most frequent phone has 0.22
    assert found.accuracy > base.accuracy + 0.04  # 0.27


def test_a_phone_probe_on_chance():
    """Labels that states tell are found, and those that they do not tell are not."""
    times = torch.arange(0, 2, 0.1)
    spans = torch.stack([times, times + 0.1], dim=1).numpy()

    class Telling:
        """States of 320 samples each: their mean, and a draw of noise."""

        def get_downsample_rates(self, key):
            return 320

        def __call__(self, waves):
            means = torch.stack([wave.view(-1, 320).mean(dim=1) for wave in waves]).unsqueeze(2)
            return {"hidden_states": [means, torch.randn_like(means)]}

    def recording(seed, *, told):
        drawn = torch.randint(0, 2, (20,), generator=torch.Generator().manual_seed(seed))
        labels = ["ab"[number] for number in drawn.tolist()]
        wave = (2.0 * drawn - 1 if told else torch.zeros(20)).repeat_interleave(1600)
        return Aligned(wave, spans, labels)

    told, silent = ([recording(seed, told=told) for seed in range(8)] for told in (True, False))
    assert probe(Telling(), told[:4], told[4:]).accuracy > 0.95
    assert abs(probe(Telling(), silent[:4], silent[4:]).accuracy - 0.5) < 0.1
