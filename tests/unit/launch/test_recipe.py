"""Size and length by the number of pairs, arithmetic by the hardware."""

import pytest
import torch
from support.faults import raises_fault

from fairseq_vgs.launch.hardware import Hardware, find_hardware
from fairseq_vgs.launch.recipe import SCHEDULES, choose_size, size_overrides

CPU, GPU = Hardware(), Hardware(1, has_bf16=True)


@pytest.mark.parametrize(
    ("n_pairs", "on_cpu", "on_gpu"),
    [
        (1, "tiny", "tiny"),
        (9_999, "tiny", "tiny"),
        (10_000, "small", "small"),
        (199_999, "small", "small"),
        (200_000, "small", "paper"),
        (592_187, "small", "paper"),
    ],
)
def test_size_at_the_borders(n_pairs, on_cpu, on_gpu):
    assert (choose_size(n_pairs, CPU)[0], choose_size(n_pairs, GPU)[0]) == (on_cpu, on_gpu)


@pytest.mark.parametrize(
    ("size", "n_pairs", "updates"),
    [
        ("tiny", 5, 320),
        ("tiny", 3_000, 320),
        ("tiny", 9_999, 3 * 312),
        ("small", 10, 2_000),
        ("small", 30_000, 20 * 468),
        ("small", 10**7, 50_000),
        ("paper", 592_187, 647_640),
        ("paper", 10, 70),
    ],
)
def test_updates_grow_with_the_pairs_within_bounds(size, n_pairs, updates):
    assert SCHEDULES[size].updates(n_pairs) == updates


def test_the_papers_second_phase_has_fifty_epochs():
    paper = SCHEDULES["paper"]
    assert paper.updates(592_187, second=True) == 462_600
    assert paper.warmup_updates(462_600) == 46_260
    assert SCHEDULES["small"].updates(30_000, second=True) == SCHEDULES["small"].updates(30_000)


class Cuda:
    """Stands in for torch.cuda."""

    def __init__(self, *capabilities):
        self.capabilities = capabilities

    def is_available(self):
        return bool(self.capabilities)

    def device_count(self):
        return len(self.capabilities)

    def get_device_capability(self, number):
        return self.capabilities[number]


@pytest.mark.parametrize(
    ("capabilities", "device", "expected"),
    [
        ([], "auto", CPU),
        ([(8, 0)], "auto", GPU),
        ([(8, 0)], "cuda", GPU),
        ([(8, 0)], "cpu", CPU),
        ([(7, 5)], "auto", Hardware(1, has_bf16=False)),
        ([(9, 0), (7, 0)], "auto", Hardware(2, has_bf16=False)),
        ([(9, 0)] * 4, "cuda", Hardware(4, has_bf16=True)),
    ],
)
def test_hardware(monkeypatch, capabilities, device, expected):
    monkeypatch.setattr(torch, "cuda", Cuda(*capabilities))
    assert find_hardware(device) == expected


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch, "cuda", Cuda())
    with raises_fault("setting.value", "--device"):
        find_hardware("cuda")


@pytest.mark.parametrize(
    ("size", "hardware", "expected"),
    [
        ("tiny", CPU, {}),
        ("tiny", GPU, {"common.cpu": "false", "model.autocast": "bf16"}),
        ("tiny", Hardware(8, has_bf16=False), {"common.cpu": "false", "model.autocast": "none"}),
        ("small", CPU, {"model": "small", "run_config": "small", "common.cpu": "true"}),
        ("small", GPU, {"model": "small", "run_config": "small", "model.autocast": "bf16"}),
        ("paper", GPU, {"model": "paper", "run_config": "gpu_1", "model.autocast": "bf16"}),
    ],
)
def test_overrides_of_a_size(size, hardware, expected):
    assert size_overrides(size, hardware) == expected


@pytest.mark.parametrize(("n_gpus", "processes"), [(2, 2), (3, 2), (4, 4), (6, 4), (8, 8), (100, 32)])
def test_gpus_share_the_papers_batch(n_gpus, processes):
    found = size_overrides("paper", Hardware(n_gpus, has_bf16=True))
    assert found["distributed_training.distributed_world_size"] == str(processes)
    assert processes * int(found["dataset.batch_size"]) == 64
