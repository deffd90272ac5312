"""Cooperation probes: what they measure, that the run never notices, and that a resumed run goes on."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.data.data_utils import numpy_seed
from reference import cooperation_loops
from support.faults import raises_fault
from support.tiny import NO_DROPOUT, tiny_model, tiny_sample
from support.tiny_folder import make_folder, make_task
from torch import nn

from fairseq_vgs.criterions import VgsContrastiveCriterion, VgsMultitaskCriterion
from fairseq_vgs.report.run_logs import read_probes
from fairseq_vgs.tasks.probe_measures import (
    detached_copy,
    gradient_agreements,
    layer_frames,
    probe_batch,
    shared_parameters,
)
from fairseq_vgs.tasks.probing import CooperationProbes


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "m")


def criterion_of(**settings):
    return VgsMultitaskCriterion(None, **settings)


def batches(task, n_updates):
    iterator = task.get_batch_iterator(task.dataset("train"), max_sentences=4, seed=1, num_workers=0)
    samples = list(iterator.next_epoch_itr())
    return [samples[update % len(samples)] for update in range(n_updates)]


class Run:
    """Trains as fairseq's trainer does: seeds, train_step, optimizer_step."""

    def __init__(self, folder, *, model=None, criterion=None, wrap=lambda model: model, **settings):
        self.task = make_task(folder.path, "valid", "train", **settings)
        self.model = tiny_model(speech_head="resdavenet") if model is None else model
        self.wrapped = wrap(self.model)
        self.criterion = criterion_of() if criterion is None else criterion
        adam = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.optimizer = SimpleNamespace(backward=lambda loss: loss.backward(), step=adam.step)

    def train(self, *updates):
        """Return what an update leaves behind: loss, random numbers, gradients, and the state in the end."""
        trace = []
        for update, sample in zip(updates, batches(self.task, max(updates) + 1)[updates[0] :], strict=True):
            torch.manual_seed(update)
            self.model.zero_grad()
            with numpy_seed(3):
                loss, _, _ = self.task.train_step(
                    sample, self.wrapped, self.criterion.train(), self.optimizer, update
                )
                self.task.optimizer_step(self.optimizer, self.wrapped, update)
                draws = torch.rand(()).item(), np.random.rand()
            gradients = [p.grad if p.grad is None else p.grad.clone() for p in self.model.parameters()]
            trace.append((loss.item(), draws, gradients))
        return trace, self.model.state_dict()


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.mark.parametrize(
    ("alpha", "vgs_forward"), [(0.0, "masked"), (0.5, "masked"), (0.5, "unmasked"), (1.0, "masked")]
)
def test_a_run_with_probes_has_exactly_the_losses_of_one_without(folder, tmp_path, alpha, vgs_forward):
    traces = []
    for interval in (0, 1):
        run = Run(
            folder,
            model=tiny_model(speech_head="resdavenet", vgs_forward=vgs_forward),
            criterion=criterion_of(vgs_loss="infonce", alpha_values=[alpha]),
            probe_interval=interval,
            probe_file=str(tmp_path / "probes.jsonl"),
        )
        with torch.no_grad():
            run.model.logit_scale.fill_(9.0)  # above its limit: a forward of VGS would move it
        traces.append(run.train(0, 1, 2))
    without, probed = traces
    assert equal(without, probed)
    assert not equal(probed[0][0], probed[0][1])
    records = read_probes(tmp_path / "probes.jsonl")
    assert [record.update for record in records] == [0, 1, 2, 3]
    for record in records:  # also of a loss that weighs nothing
        assert all(record.gradient_norm_ssl[name] > 0 for name in record.gradient_norm_ssl)
        assert all(record.gradient_norm_vgs[name] > 0 for name in record.gradient_norm_vgs)


def test_records_hold_every_layer(folder, tmp_path):
    path = tmp_path / "run" / "probes.jsonl"
    Run(folder, probe_interval=2, probe_file=str(path)).train(0, 1, 2)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["update"], second["update"]) == (0, 2)
    groups = {"extractor", "input", "layer_1", "layer_2", "shared"}  # vgs_layer=2 of 3
    for key in ("gradient_cosine", "gradient_norm_ssl", "gradient_norm_vgs"):
        assert set(second[key]) == groups
    assert all(-1 <= cosine <= 1 for cosine in second["gradient_cosine"].values())
    assert set(second["cka"]) == {"extractor", "layer_1", "layer_2", "layer_3"}
    assert list(first["cka"].values()) == pytest.approx([1.0] * 4, abs=1e-9)
    assert all(0 < cka < 1 - 1e-9 for cka in second["cka"].values())


def probes_of(run):
    """Probe as a process does that resumes this run."""
    return CooperationProbes(run.task.cfg, run.task.datasets)


def test_a_resumed_run_goes_on_as_one_that_never_stopped(folder, tmp_path, caplog):
    runs = {}
    for name in ("whole", "resumed"):
        file = str(tmp_path / name / "probes.jsonl")
        runs[name] = Run(folder, probe_interval=1, probe_file=file)
    runs["whole"].train(0, 1)
    run = runs["resumed"]
    run.train(0)
    reference = (tmp_path / "resumed" / "probe_reference.npz").read_bytes()
    with (tmp_path / "resumed" / "probes.jsonl").open("a") as file:
        file.write('{"update": 2, "cka"')  # killed while it wrote
    probes = probes_of(run)
    probes.begin_update(1, run.model, run.criterion)
    probes.end_update(2, runs["whole"].model)  # where training would have led
    assert (tmp_path / "resumed" / "probe_reference.npz").read_bytes() == reference
    whole, resumed = (read_probes(tmp_path / name / "probes.jsonl") for name in ("whole", "resumed"))
    assert [record.update for record in resumed] == [0, 1, 2]
    assert resumed == whole
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "probes.jsonl: damaged lines are left out: 3;" in warnings[0]  # which the kill left


def test_a_run_begun_without_probes_has_no_drift(folder, tmp_path, caplog):
    run = Run(folder, probe_interval=1, probe_file=str(tmp_path / "probes.jsonl"))
    probes = probes_of(run)
    probes.begin_update(1, run.model, run.criterion)
    probes.end_update(2, run.model)
    (record,) = read_probes(tmp_path / "probes.jsonl")
    assert record.cka == {}
    assert record.gradient_cosine
    assert "probe_reference.npz: missing" in caplog.text


def test_a_run_begun_with_other_utterances_is_refused(folder, tmp_path):
    settings = {"probe_interval": 1, "probe_file": str(tmp_path / "probes.jsonl")}
    Run(folder, **settings).train(0)
    other = Run(folder, probe_utterances=3, **settings)
    with raises_fault("file.mismatch", "probe_reference.npz"):
        probes_of(other).begin_update(1, other.model, other.criterion)
    (tmp_path / "probe_reference.npz").write_bytes(b"PK no archive")
    with raises_fault("file.unreadable", "probe_reference.npz"):
        probes_of(other).begin_update(1, other.model, other.criterion)


class Wrapper(nn.Module):
    """A distributed wrapper that must not be called by a probe."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)

    def forward(self, *args, **kwargs):
        raise AssertionError("the wrapper's hooks would fire")


def test_wrappers_are_taken_off(folder, tmp_path):
    run = Run(folder, probe_interval=1, probe_file=str(tmp_path / "probes.jsonl"))
    wrapped = Wrapper(Wrapper(run.model))
    probes_of(run).begin_update(0, wrapped, run.criterion)
    assert len(read_probes(tmp_path / "probes.jsonl")) == 1


def test_probes_need_both_losses(folder):
    probed, not_probed = make_task(folder.path, probe_interval=5), make_task(folder.path)
    single, both = VgsContrastiveCriterion(probed), VgsMultitaskCriterion(probed)
    with raises_fault("setting.value", "task.probe_interval"):
        CooperationProbes(probed.cfg, {}).check(single)
    CooperationProbes(probed.cfg, {}).check(both)
    CooperationProbes(not_probed.cfg, {}).check(single)


@pytest.mark.parametrize("settings", [{"probe_interval": -1}, {"probe_utterances": 1}])
def test_impossible_settings(folder, settings):
    with raises_fault("setting.value", f"task.{next(iter(settings))}"):
        make_task(folder.path, **settings)


def test_utterances_are_of_similar_length_and_different_pictures(tmp_path):
    lengths = {"train": [8000], "valid": [6000, 9000, 7000, 7100, 6900, 7300, 7050, 20000]}
    folder = make_folder(tmp_path / "m", lengths=lengths, n_images=4, groups={2: "same", 3: "same"})
    task = make_task(folder.path, "valid")
    sample, names = probe_batch(task.dataset("valid"), 3)
    # median 7075: 7100 (picture 3), 7050 (2, of the same group), 7000 (2), 6900 (0), 7300 (1)
    assert names == ("valid/3.wav 7100", "valid/4.wav 6900", "valid/5.wav 7300")
    assert sample["n_pairs"] == 3
    assert len(set(sample["image_id"].tolist())) == 3
    assert len(probe_batch(task.dataset("valid"), 100)[1]) == 3


def test_one_picture_is_too_few(tmp_path):
    folder = make_folder(tmp_path / "m", n_images=1)
    with raises_fault("setting.value", "task.probe_interval"):
        probe_batch(make_task(folder.path, "valid").dataset("valid"), 4)


def test_groups_are_what_both_losses_reach():
    """Every grouped parameter has a gradient of either loss, every other one lacks one of them."""
    for vgs_forward in ("masked", "unmasked"):
        model, sample, criterion = tiny_model(vgs_forward=vgs_forward), tiny_sample(), criterion_of()
        reached = []
        for loss in criterion.separate_losses(model, sample):
            model.zero_grad()
            loss.backward(retain_graph=True)
            reached.append({name for name, p in model.named_parameters() if p.grad is not None})
        numbers = {id(p): name for name, p in model.named_parameters()}
        groups = shared_parameters(model)
        assert {numbers[id(p)] for p in groups["shared"]} == reached[0] & reached[1]
        assert groups["layer_2"] == list(model.encoder.layers[1].parameters())
        assert groups["extractor"] == list(model.feature_extractor.parameters())


def test_frozen_parameters_are_in_no_group():
    model = tiny_model()
    model.feature_extractor.requires_grad_(False)
    assert "extractor" not in shared_parameters(model)


def test_gradients_equal_those_of_single_losses():
    """Against two passes of one loss each, by loops over the layer's parameters in one row."""
    model, sample, criterion = tiny_model(**NO_DROPOUT), tiny_sample(), criterion_of(margin=0.5)
    flat = []
    for alpha in (0.0, 1.0):
        single = criterion_of(margin=0.5, alpha_values=[alpha])
        model.zero_grad()
        torch.manual_seed(4)
        loss, sample_size, _ = single(model, sample)
        (loss / sample_size).backward()
        flat.append(torch.cat([p.grad.flatten() for p in model.encoder.layers[0].parameters()]).tolist())
    torch.manual_seed(4)
    got = gradient_agreements(detached_copy(model), criterion, sample)["layer_1"]
    assert got.cosine.item() == pytest.approx(cooperation_loops.cosine(*flat), rel=1e-4)
    lengths = [math.sqrt(sum(value * value for value in row)) for row in flat]
    assert [got.first_norm.item(), got.second_norm.item()] == pytest.approx(lengths, rel=1e-5)


def test_activation_checkpoints_change_nothing():
    """torch.autograd.grad would refuse them."""
    found = []
    for checkpoint_activations in (False, True):
        model = tiny_model(checkpoint_activations=checkpoint_activations)
        torch.manual_seed(5)
        found.append(gradient_agreements(detached_copy(model), criterion_of(), tiny_sample()))
    assert found[0] == found[1]


def test_frames_are_unmasked_and_without_padding(folder):
    task = make_task(folder.path, "valid")
    model, dataset = tiny_model(extractor_mode="layer_norm"), task.dataset("valid")
    items = [dataset[index] for index in range(3)]
    together = layer_frames(model, dataset.collater(items))
    alone = [layer_frames(model, dataset.collater([item])) for item in items]
    assert list(together) == ["extractor", "layer_1", "layer_2", "layer_3"]
    for name, frames in together.items():
        expected = torch.cat([single[name] for single in alone])
        assert frames.dtype == torch.float32
        torch.testing.assert_close(frames, expected, rtol=1e-4, atol=1e-4)


def test_a_copy_shares_nothing_with_a_model_in_mid_training():
    model = tiny_model(speech_head="resdavenet")
    criterion_of()(model, tiny_sample())[0].backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copied = detached_copy(model)
    assert all(parameter.grad is None for parameter in copied.parameters())
    gradient_agreements(copied, criterion_of(), tiny_sample(seed=1))
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert equal(dict(model.state_dict()), before)


def test_a_half_precision_model_is_probed_in_fp32():
    copied = detached_copy(tiny_model().half())
    assert {parameter.dtype for parameter in copied.parameters()} == {torch.float32}
    agreements = gradient_agreements(copied, criterion_of(), tiny_sample())
    assert all(math.isfinite(value) for group in agreements.values() for value in group)
