"""Arms of a study with one seed share initial weights, the order of the data, and masks."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from configs.test_compose import composed
from fairseq import tasks, utils
from omegaconf import open_dict

DATA = Path(__file__).parents[2] / "manifests" / "embedded"
N_BATCHES = 3


def start(primary, seed, *overrides):
    """Return a run's initial weights and its first batches of two epochs: (ids, masks)."""
    cfg = composed(
        primary, "model=tiny", "run_config=study", f"task.data={DATA}", f"common.seed={seed}", *overrides
    )
    with open_dict(cfg):
        task = tasks.setup_task(cfg.task)
    utils.set_torch_seed(cfg.common.seed)  # as fairseq_cli.train does
    weights = task.build_model(cfg.model).state_dict()
    task.load_dataset("train")
    batches = []
    for epoch in (1, 2):
        found = task.get_batch_iterator(
            task.dataset("train"), max_sentences=8, seed=cfg.common.seed, epoch=epoch
        ).next_epoch_itr(shuffle=True)
        batches += [
            (sample["id"].tolist(), sample["net_input"]["mask_indices"])
            for sample in islice(found, N_BATCHES)
        ]
    return weights, batches


@pytest.fixture(scope="module")
def vgs_plus():
    return start("vgs_plus", 1)


@pytest.mark.parametrize("primary", ["w2v2", "vgs", "w2v2_then_vgs"])
def test_scenarios_of_a_seed_start_alike(vgs_plus, primary):
    weights, batches = start(primary, 1, "criterion.margin=0.5")
    assert weights.keys() == vgs_plus[0].keys()
    assert all(torch.equal(weight, vgs_plus[0][name]) for name, weight in weights.items())
    assert [ids for ids, _ in batches] == [ids for ids, _ in vgs_plus[1]]
    assert all(torch.equal(ours, theirs) for (_, ours), (_, theirs) in zip(batches, vgs_plus[1], strict=True))


def test_another_seed_starts_otherwise(vgs_plus):
    weights, batches = start("vgs_plus", 2)
    assert any(not torch.equal(weight, vgs_plus[0][name]) for name, weight in weights.items())
    assert [ids for ids, _ in batches] != [ids for ids, _ in vgs_plus[1]]
