import json
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.data.data_utils import numpy_seed
from fairseq.logging import metrics
from fairseq.tasks import setup_task
from omegaconf import OmegaConf
from support.faults import raises_fault
from support.tiny import tiny_model
from support.tiny_folder import REGION_DIM, make_folder, make_task, make_unpaired, task_config
from torch import nn

from fairseq_vgs.criterions import VgsMultitaskCriterion
from fairseq_vgs.criterions.vgs_contrastive import VgsCriterionConfig
from fairseq_vgs.tasks.validation_retrieval import METRIC_NAMES
from fairseq_vgs.tasks.vgs_pretraining import VgsPretrainingTask


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "m")


def iterator(task, split="train", **settings):
    settings = {"max_sentences": 3, "seed": 1, "num_workers": 0, "epoch": 1, **settings}
    return task.get_batch_iterator(dataset=task.dataset(split), **settings)


def summary(sample):
    """Reduce a batch to what must repeat exactly."""
    inputs = sample["net_input"]
    return (
        sample["id"].tolist(),
        inputs["source"].double().sum().item(),
        inputs["source"].shape[1],
        inputs["mask_indices"].tolist(),
    )


SETTINGS = {"crop": "random", "max_seconds": 0.45, "unpaired_ratio": 0.5, "length_noise": 0.4}


def test_every_epoch_has_batches_of_its_own_and_repeats(folder, tmp_path):
    unpaired = str(make_unpaired(tmp_path / "u", [9000] * 5))
    runs = []
    for _ in range(2):
        task = make_task(folder.path, "train", unpaired_data=unpaired, **SETTINGS)
        epochs = []
        for epoch in (1, 2):
            epoch_iterator = iterator(task, epoch=epoch)
            epochs.append([summary(sample) for sample in epoch_iterator.next_epoch_itr()])
            assert epoch_iterator.end_of_epoch()
            assert epoch_iterator.next_epoch_idx == epoch + 1
        runs.append(epochs)
    assert runs[0] == runs[1]
    first, second = runs[0]
    for epoch in runs[0]:
        assert sorted(pair for ids, *_ in epoch for pair in ids) == list(range(12))
    assert {tuple(sorted(batch[0])) for batch in first} != {tuple(sorted(batch[0])) for batch in second}


@pytest.mark.parametrize("data_buffer_size", [0, 4])
def test_resuming_in_mid_epoch_gives_the_remaining_batches(folder, tmp_path, data_buffer_size):
    settings = {"unpaired_data": str(make_unpaired(tmp_path / "u", [9000] * 5)), **SETTINGS}
    buffered = {"data_buffer_size": data_buffer_size, "num_workers": 1 if data_buffer_size else 0}
    task = make_task(folder.path, "train", **settings)
    whole = iterator(task, epoch=2, **buffered)
    expected = [summary(sample) for sample in whole.next_epoch_itr()]

    interrupted = iterator(task, epoch=2, **buffered)
    batches = interrupted.next_epoch_itr()
    for _ in range(2):
        next(batches)
    state = interrupted.state_dict()

    resumed_task = make_task(folder.path, "train", **settings)
    resumed = iterator(resumed_task, epoch=state["epoch"], **buffered)
    resumed.load_state_dict(state)
    assert resumed.iterations_in_epoch == 2
    assert [summary(sample) for sample in resumed.next_epoch_itr()] == expected[2:]


def test_ranks_share_the_batches(folder):
    whole = {
        tuple(sample["id"].tolist()) for sample in iterator(make_task(folder.path, "train")).next_epoch_itr()
    }
    shares = []
    for rank in range(2):
        task = make_task(folder.path, "train")
        share = iterator(task, num_shards=2, shard_id=rank).next_epoch_itr()
        shares += [tuple(sample["id"].tolist()) for sample in share if sample]
    assert sorted(shares) == sorted(whole)


def test_validation_batches_are_always_the_same(folder):
    task = make_task(folder.path, "train", "valid", crop="random", valid_max_seconds=0.5)
    runs = []
    for _ in range(2):
        valid = iterator(task, "valid").next_epoch_itr(shuffle=False, set_dataset_epoch=False)
        runs.append([summary(sample) for sample in valid])
    assert runs[0] == runs[1]
    assert max(length for _, _, length, _ in runs[0]) == 8000


class Recorder(nn.Module):
    """A criterion that draws random numbers and records what it was given."""

    def __init__(self, *, embeds=True):
        super().__init__()
        self.embeds = embeds
        self.updates, self.draws, self.samples = [], [], []

    def set_num_updates(self, n_updates):
        self.updates.append(n_updates)

    def forward(self, model, sample):
        self.draws.append((torch.rand(()).item(), np.random.rand()))
        self.samples.append(sample)
        n_pairs = sample["n_pairs"]
        if self.embeds and not self.training:
            images = nn.functional.one_hot(sample["image_id"], 10).float()
            sample["embeddings"] = {"speech": images, "image": images}
        log = {"loss": float(n_pairs), "ntokens": 1, "nsentences": n_pairs, "sample_size": n_pairs}
        return model.weight.sum() * 1.0, n_pairs, log

    @staticmethod
    def reduce_metrics(logging_outputs):
        metrics.log_scalar("loss", sum(log["loss"] for log in logging_outputs))

    @staticmethod
    def logging_outputs_can_be_summed():
        return True


class Model(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def set_num_updates(self, n_updates):
        pass


OPTIMIZER = SimpleNamespace(backward=lambda loss: loss.backward())


def validate(task, criterion, model, *, max_sentences=3, repeat_first=False):
    """Validate as fairseq_cli.train does."""
    criterion.eval()
    samples = list(
        iterator(task, "valid", max_sentences=max_sentences, num_workers=0).next_epoch_itr(shuffle=False)
    )
    samples += samples[:1] if repeat_first else []
    with metrics.aggregate(new_root=True) as agg:
        for sample in samples:
            with metrics.aggregate("valid"):
                _, _, log = task.valid_step(sample, model, criterion)
                with metrics.aggregate() as inner:
                    task.reduce_metrics([log], criterion)
                    inner.get_smoothed_values()
            assert "embeddings" not in sample
    return agg.get_smoothed_values()


def test_validation_measures_retrieval_over_the_whole_set(folder):
    task = make_task(folder.path, "valid")
    metrics.reset()
    for repeat_first in (False, True, False):
        values = validate(task, Recorder(), Model(), repeat_first=repeat_first)
        assert values["speech_to_image_r1"] == values["image_to_speech_r1"] == 100
        assert values["retrieval_images"] == 6
        assert values["retrieval_captions"] == 8
        assert not any(name.startswith("_") for name in values)
    # what hydra's sweepers read at the end of a run
    assert metrics.get_smoothed_value("valid", "speech_to_image_r1") == 100


def test_validation_with_the_real_criterion(folder):
    task = make_task(folder.path, "valid")
    # embeddings are of unmasked speech, so they do not depend on the batch
    criterion, model = VgsMultitaskCriterion(task), tiny_model()
    in_threes, in_fours = (validate(task, criterion, model, max_sentences=n) for n in (3, 4))
    for name in METRIC_NAMES:
        assert math.isfinite(in_threes[name])
        assert in_threes[name] == in_fours[name]
    assert {"ssl_loss", "vgs_loss"} <= set(in_threes)


def test_copies_of_a_batch_do_not_count_in_validation(folder):
    task = make_task(folder.path, "valid")
    criterion, model = VgsMultitaskCriterion(task), tiny_model()
    once, repeated = (validate(task, criterion, model, repeat_first=repeat) for repeat in (False, True))
    assert repeated["loss"] == pytest.approx(once["loss"], rel=1e-6)
    assert repeated["vgs_loss"] == pytest.approx(once["vgs_loss"], rel=1e-6)
    recorder = Recorder()
    validate(task, recorder, Model(), repeat_first=True)
    assert [sample.get("is_dummy", False) for sample in recorder.samples] == [False, False, False, True]


def test_a_criterion_without_embeddings_gets_no_retrieval_metrics(folder):
    task = make_task(folder.path, "valid")
    values = validate(task, Recorder(embeds=False), Model())
    assert values["loss"] > 0
    assert not set(METRIC_NAMES) & set(values)


def test_validation_neither_disturbs_nor_depends_on_random_numbers(folder):
    task = make_task(folder.path, "valid")
    samples = list(iterator(task, "valid").next_epoch_itr(shuffle=False))
    draws = []
    for seed in (1, 2):
        recorder, model = Recorder().eval(), Model()
        with numpy_seed(seed):
            torch.manual_seed(seed)
            before = torch.get_rng_state(), np.random.get_state()[1].copy()
            for sample in samples:
                task.valid_step(sample, model, recorder)
            after = torch.get_rng_state(), np.random.get_state()[1]
        assert torch.equal(before[0], after[0])
        np.testing.assert_array_equal(before[1], after[1])
        draws.append(recorder.draws)
    assert draws[0] == draws[1]


def test_training_steps(folder):
    task = make_task(folder.path, "train")
    sample = next(iterator(task, num_workers=0).next_epoch_itr())
    recorder, model = Recorder(), Model()
    for update, ignore_grad in ((4, False), (4, True), (5, False), (4, False)):
        model.zero_grad()
        task.train_step(sample, model, recorder, OPTIMIZER, update, ignore_grad)
        assert float(model.weight.grad.abs().sum()) == (0 if ignore_grad else 4)
    assert recorder.updates == [4, 4, 5, 4]
    assert [given.get("is_dummy", False) for given in recorder.samples] == [False, True, False, False]
    assert "is_dummy" not in sample
    numpy_draws = [draw for _, draw in recorder.draws]
    assert numpy_draws[0] == numpy_draws[3]  # the first batch of update 4, both times
    assert len(set(numpy_draws[:3])) == 3


def test_a_branch_that_was_not_computed_is_left_alone(folder):
    task = make_task(folder.path)
    model = Model()
    model.unused_parameters = lambda: [model.bias]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    steps = []
    task.optimizer_step(SimpleNamespace(step=lambda: steps.append(model.bias.grad)), model, 1)
    assert steps == [None]
    assert model.weight.grad is not None


def test_history_has_every_update_and_validation(folder, tmp_path):
    task = make_task(folder.path, "train", "valid", history_file=str(tmp_path / "history.jsonl"))
    metrics.reset()
    recorder, model = Recorder(), Model()
    with metrics.aggregate("train"):
        metrics.log_scalar("num_updates", 3, weight=0)
        metrics.log_scalar("lr", 0.5, weight=0)
        with metrics.aggregate():
            task.reduce_metrics([{"loss": 2.0, "ntokens": 1, "nsentences": 1}], recorder)
    stats = validate(task, recorder, model)
    task.post_validate(model, {**stats, "num_updates": 3}, None)
    first, second = (json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines())
    assert (first["split"], first["update"], first["loss"], first["lr"]) == ("train", 3, 2.0, 0.5)
    assert (second["split"], second["speech_to_image_r10"]) == ("valid", 100)


def test_a_run_that_ends_on_its_plateau_says_so(folder, caplog):
    task = make_task(folder.path)
    values = {"num_updates": 320, "speech_to_image_r10": 6.0, "retrieval_images": 200}
    for trains_vgs in (True, False):  # without the VGS loss, chance is as expected
        task.build_criterion(criterion_config([0.5 if trains_vgs else 0.0]))
        task.post_validate(None, values, None)
        caplog.clear()
        task.end_run()
        assert ("not left its plateau" in caplog.text) == trains_vgs
    make_task(folder.path).end_run()  # no validation, nothing to say


def criterion_config(alpha_values):
    config = OmegaConf.structured(VgsCriterionConfig)
    return OmegaConf.merge(config, {"_name": "vgs_multitask", "alpha_values": alpha_values, "seed": 1})


def test_skipped_items_are_totalled(folder, caplog):
    (folder.path / "train/3.wav").write_text("no audio")
    task = make_task(folder.path, "train", skip_bad=True)
    samples = list(iterator(task).next_epoch_itr())
    assert sum(sample["n_skipped"] for sample in samples) == 1
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        task.begin_epoch(2, None)
        task.begin_valid_epoch(2, None)
    assert [record.getMessage() for record in caplog.records] == [
        "split 'train': 1 items skipped so far (a pair each)"
    ]


def test_missing_data_is_reported_when_a_run_starts(folder, tmp_path):
    folder.pairs("train").unlink()
    folder.region_features.unlink()
    task = VgsPretrainingTask.setup_task(task_config(folder.path))  # loading a checkpoint gets this far
    with raises_fault("file.missing") as caught:
        task.build_criterion(None)
    names = [fault.place.rpartition("/")[2] for fault in caught.value.faults]
    assert names == ["train.pairs.tsv", "regions.npy"]
    assert f"fairseq-vgs prepare regions efficientnet {folder.path}" in caught.value.faults[1].message
    task = VgsPretrainingTask.setup_task(task_config(tmp_path / "nowhere"))
    assert task.region_dim is None
    with raises_fault("folder.missing", "nowhere"):
        task.build_criterion(None)
    settings = {"unpaired_data": str(tmp_path / "none"), "unpaired_ratio": 1.0, "image_input": "pictures"}
    with raises_fault("file.missing", "none/train.tsv"):
        make_task(make_folder(tmp_path / "other").path, **settings).build_criterion(None)


def test_the_training_split_cannot_be_validated_on(folder):
    with raises_fault("setting.conflict", "dataset.valid_subset"):
        make_task(folder.path, "train", "train")


def test_what_model_and_fairseq_ask_of_the_task(folder):
    task = make_task(folder.path)
    assert task.region_dim == REGION_DIM
    assert make_task(folder.path, image_input="pictures").region_dim is None
    assert task.max_positions() is None
    assert task.source_dictionary is None
    assert task.target_dictionary is None


def test_a_colon_belongs_to_the_path(tmp_path):
    task = make_task(make_folder(tmp_path / "a:b").path, "train")
    assert len(task.dataset("train")) == 12
    assert not task.has_sharded_data("train")


def test_pictures_instead_of_regions(folder):
    task = make_task(folder.path, "train", image_input="pictures")
    sample = next(iterator(task).next_epoch_itr())
    assert sample["net_input"]["image"]["pictures"].shape == (3, 3, 16, 16)


def test_fairseq_finds_the_task_by_name(folder):
    cfg = task_config(folder.path)
    cfg._name = "vgs_pretraining"
    assert isinstance(setup_task(cfg), VgsPretrainingTask)
