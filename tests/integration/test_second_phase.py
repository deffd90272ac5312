"""What fairseq takes over from the first phase's checkpoint: the weights, and nothing else."""

import pytest
import torch
from fairseq import checkpoint_utils, tasks, utils
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.trainer import Trainer
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from support.train import CHECKOUT, TINY

from fairseq_vgs.compat.checkpoint_files import load_plain
from fairseq_vgs.files.provenance import sha256_file

N_FIRST = 3  # updates of the first phase


class Phase:
    """A run as fairseq begins it, in this process."""

    def __init__(self, primary, data, folder, *overrides):
        hydra_init(primary)
        settings = [
            *TINY,
            f"task.data={data}",
            f"checkpoint.save_dir={folder}",
            "common.user_dir=null",
            *overrides,
        ]
        with initialize_config_dir(config_dir=str(CHECKOUT / "examples" / "vgs"), version_base="1.1"):
            cfg = compose(config_name=primary, overrides=[*settings, "dataset.batch_size=4"])
        add_defaults(cfg)
        cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
        utils.import_user_module(cfg.common)
        utils.set_torch_seed(cfg.common.seed)
        task = tasks.setup_task(cfg.task)
        model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
        self.trainer = Trainer(cfg, task, model, criterion)
        _, self.iterator = checkpoint_utils.load_checkpoint(cfg.checkpoint, self.trainer)
        self.batches = self.iterator.next_epoch_itr(shuffle=True)

    def weights(self):
        return {name: value.clone() for name, value in self.trainer.model.state_dict().items()}

    def moments(self):
        return list(self.trainer.optimizer.optimizer.state.values())

    def update(self):
        """Make an update; return the batch's utterances."""
        batch = next(self.batches)
        self.trainer.train_step([batch])
        return batch["id"].tolist()


@pytest.fixture
def first(small_data, tmp_path_factory, monkeypatch):
    """A first phase after its updates, its checkpoint, and the weights in it."""
    monkeypatch.chdir(tmp_path_factory.mktemp("history"))  # where the criterion writes
    phase = Phase("w2v2", small_data, tmp_path_factory.mktemp("first"))
    for _ in range(N_FIRST):
        phase.update()
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    phase.trainer.consolidate_optimizer()
    phase.trainer.save_checkpoint(str(path), {"train_iterator": phase.iterator.state_dict()})
    return phase, path, phase.weights()


def test_every_checkpoint_of_a_phase_identifies_what_it_started_from(first, small_data, tmp_path):
    _, path, _ = first
    assert "started_from" not in load_plain(path)["extra_state"]
    known, start = sha256_file(path), f"checkpoint.finetune_from_model={path}"
    for n_updates in (0, 1):  # begun, then resumed, when the first phase may be gone
        phase = Phase("w2v2_then_vgs_plus", small_data, tmp_path / "second", start)
        assert phase.trainer.get_num_updates() == n_updates
        phase.update()
        phase.trainer.consolidate_optimizer()
        last = tmp_path / "second/checkpoint_last.pt"
        last.parent.mkdir(exist_ok=True)
        phase.trainer.save_checkpoint(str(last), {"train_iterator": phase.iterator.state_dict()})
        started_from = load_plain(last)["extra_state"]["started_from"]
        assert started_from == {"sha256": known, "n_updates": N_FIRST}
        path.unlink(missing_ok=True)


def test_second_phase_takes_the_weights_and_nothing_else(first, small_data, tmp_path):
    before, path, weights = first
    assert before.trainer.get_num_updates() == N_FIRST
    assert {int(state["step"]) for state in before.moments()} == {N_FIRST}

    start = f"checkpoint.finetune_from_model={path}"
    second = Phase("w2v2_then_vgs_plus", small_data, tmp_path / "second", start)
    alone = Phase("vgs_plus", small_data, tmp_path / "alone")
    begun = second.weights()
    assert begun.keys() == weights.keys()
    assert all(torch.equal(begun[name], weights[name]) for name in weights)
    assert not all(torch.equal(begun[name], value) for name, value in alone.weights().items())
    assert second.moments() == []
    assert second.trainer.get_num_updates() == alone.trainer.get_num_updates() == 0
    assert second.trainer.get_lr() == alone.trainer.get_lr()
    assert second.iterator.state_dict() == alone.iterator.state_dict()
    # the same batches in the same order, and the same learning rates, as a run that starts from scratch
    for n_updates in (1, 2):
        assert second.update() == alone.update()
        assert second.trainer.get_lr() == alone.trainer.get_lr()
        assert {int(state["step"]) for state in second.moments()} == {n_updates}
