import numpy as np
import pytest
import torch
from support.faults import raises_fault

from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers

BASE = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"


def test_reads_what_fairseq_evaluates():
    assert parse_conv_layers(BASE) == ((512, 10, 5),) + ((512, 3, 2),) * 4 + ((512, 2, 2),) * 2


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "[(1, 2, 3)] * 10**9",
        "[(1, 2, 3)] * 1000000000",
        "[(1, 2)]",
        "[(1, 2, -3)]",
        "[(1, 2, 3.0)]",
        "[(True, 2, 3)]",
        "[]",
        "(1, 2, 3)",
        "[(1, 2, 3)",
        "",
        "[" * 5000,
    ],
)
def test_refuses_everything_else(text):
    with raises_fault("setting.value", "model.conv_feature_layers"):
        parse_conv_layers(text)


def test_frames_of_a_second():
    layers = parse_conv_layers(BASE)
    assert n_frames(16_000, layers) == 49
    assert n_frames(np.array([16_000, 400, 399]), layers).tolist() == [49, 1, 0]
    assert n_frames(torch.tensor([16_000, 400]), layers).tolist() == [49, 1]
