"""All-gather with gradient: two gloo processes must equal one process on the whole batch."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from fairseq_vgs.losses import gather_ids, gather_with_gradient

WORKER = Path(__file__).with_name("gather_worker.py")
WORLD_SIZE = 2


def load_worker() -> Any:
    spec = spec_from_file_location("gather_worker", WORKER)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = load_worker()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of both ranks; the processes run once for all tests."""
    folder = tmp_path_factory.mktemp("gather")
    outputs = [folder / f"rank_{rank}.pt" for rank in range(WORLD_SIZE)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(WORLD_SIZE), str(folder / "store"), str(output)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        for process in processes:
            _, log = process.communicate(timeout=180)
            assert process.returncode == 0, log
    finally:
        for process in processes:
            process.kill()
    return [torch.load(output) for output in outputs]


@pytest.mark.parametrize("loss", worker.LOSSES)
@pytest.mark.parametrize("split", worker.SPLITS)
def test_two_ranks_equal_one_process(ranks: list[dict[str, Any]], split: str, loss: str) -> None:
    """Loss and every gradient, after DDP's average over ranks, equal those of the whole batch."""
    expected = worker.run(worker.TwoBranches(loss), slice(None))
    for rank in ranks:
        got = rank[f"{split} {loss}"]
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(
                got[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_without_gradient(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["other"]["no_grad"] == ([[1.0, 1.0]], False)
        assert rank["other"]["ids"] == [10, 11]
        assert rank["other"]["empty"] == (0, 3)


def test_half_precision_and_further_axes(ranks: list[dict[str, Any]]) -> None:
    for number, rank in enumerate(ranks):
        assert rank["other"]["half"] == ((3, 2, 2), "torch.bfloat16", [2.0] * 4 * (1 + number))


def test_a_rank_without_gradient_joins_the_backward_pass(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["other"]["one_sided"] == [2.0, 4.0]


def test_one_process_is_the_identity() -> None:
    x, ids = torch.randn(3, 2, requires_grad=True), torch.arange(3)
    assert gather_with_gradient(x) is x
    assert gather_ids(ids) is ids
