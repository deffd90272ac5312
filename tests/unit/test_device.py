"""Where a model runs."""

import pytest
import torch
from support.faults import raises_fault

from fairseq_vgs.device import resolve_device


def test_auto_is_cuda_where_it_is_available():
    assert resolve_device() == resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_named_device_is_kept():
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "cpu:x"])
def test_what_is_not_there_is_refused_by_place(name):
    with raises_fault("setting.value", "--device"):
        resolve_device(name)
