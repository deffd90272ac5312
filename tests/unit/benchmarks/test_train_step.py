"""The parts of benchmarks/train_step.py run; what they measure is not looked at."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from benchmarks import train_step

ARMS = [arm for arm in train_step.ARMS if arm != "compiled"]  # compiling takes minutes


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    args = train_step.parse_arguments(
        ["--model", "tiny", "--batch-size", "2", "--updates", "1", "--workers", "0"]
    )
    plan = train_step.make_plan(tmp_path_factory.mktemp("benchmark") / "data", args)
    return replace(plan, threads=torch.get_num_threads())


@pytest.fixture(scope="module")
def measured(plan):
    return {arm: train_step.run_arm(plan, arm) for arm in ARMS}


def test_lengths_are_like_spoken_cocos():
    seconds = train_step.caption_samples(20_000, seed=1) / 16_000
    assert seconds.mean() == pytest.approx(4.4, abs=0.05)
    assert 0.01 < np.mean(seconds == 8.0) < 0.05
    assert seconds.max() == 8.0


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_trains_and_is_measured(measured, arm):
    found = measured[arm]
    assert found["captions"] == 2
    assert len(found["update_seconds"]) == 1
    assert found["precision"] in ("fp32", "bf16")
    assert 0 <= found["waiting_share"] < 1
    assert found["peak_memory_bytes"] > 2**20


def test_costs_are_ordered_as_they_must_be(measured):
    """FLOPs do not depend on the machine: padding costs some, the visual branch little."""
    flops = {arm: found["flops_per_update"] for arm, found in measured.items()}
    assert flops["padded"] > 1.3 * flops["fairseq"]
    assert flops["ssl"] < flops["fairseq"] < 2 * flops["ssl"]
    assert measured["padded"]["padding_share"] > 0.2 > measured["ours"]["padding_share"]


def test_flops_of_all_updates_count(plan, measured):
    one = plan.batches[-1]
    twice = train_step.run_arm(replace(plan, batches=[*plan.batches, one]), "fairseq")
    assert len(twice["update_seconds"]) == 2
    assert twice["flops_per_update"] == pytest.approx(measured["fairseq"]["flops_per_update"], rel=0.1)


def test_all_arms_stand_in_the_table(measured):
    result = train_step.summarise(list(measured.values()), {"fp32": 1e9, "bf16": 1e9})
    table = train_step.table({**json.loads(json.dumps(result)), "machine": "a machine"})
    for arm in ARMS:
        assert f"| {arm}, " in table
    assert table.count("goal") == 4  # by both clocks


def test_turns_are_joined(measured):
    one = measured["ours"]
    both = train_step.joined([one, {**one, "peak_memory_bytes": 2 * one["peak_memory_bytes"]}])
    assert both["captions"] == 2 * one["captions"]
    assert both["update_seconds"] == 2 * one["update_seconds"]
    assert both["captions_per_second"] == pytest.approx(one["captions_per_second"])
    assert both["peak_memory_bytes"] == 2 * one["peak_memory_bytes"]


def test_a_plan_survives_its_file(plan):
    assert train_step.Plan(**json.loads(json.dumps(asdict(plan)))) == plan
