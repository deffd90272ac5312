"""Batch norm in two gloo processes must equal one process on the whole batch."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

WORKER = Path(__file__).with_name("norm_worker.py")
WORLD_SIZE = 2


def load_worker() -> Any:
    spec = spec_from_file_location("norm_worker", WORKER)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = load_worker()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of both ranks; the processes run once for all tests."""
    folder = tmp_path_factory.mktemp("norm")
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("split", worker.SPLITS)
def test_two_ranks_equal_one_process(ranks: list[dict[str, Any]], split: str, dtype: torch.dtype) -> None:
    """Result, gradients and running statistics; in bf16 the statistics are as exact as in fp32."""
    expected = worker.run_norm(slice(None), dtype)
    parts = [rank[f"{split} {dtype}"] for rank in ranks]
    for name in ("result", "x"):
        got = torch.cat([part.pop(name) for part in parts])
        tolerance = 1e-4 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(got, expected.pop(name), rtol=tolerance, atol=tolerance)
    for part in parts:
        torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-4)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(parts[0][name], parts[1][name]), name


@pytest.mark.parametrize("split", worker.SPLITS)
def test_speech_head_under_ddp_equals_one_process(ranks: list[dict[str, Any]], split: str) -> None:
    """Loss, DDP's average gradients and running statistics of the paper's head on a gathered loss."""
    expected = worker.run_head(worker.HeadWithLoss(), slice(None))
    for rank in ranks:
        torch.testing.assert_close(rank[f"{split} head"], expected, rtol=1e-4, atol=1e-5)


def test_a_rank_without_gradient_joins_the_backward_pass(ranks: list[dict[str, Any]]) -> None:
    x = torch.tensor([[[1.0, 2.0]], [[1.0, 3.0]]], requires_grad=True)
    (worker.MaskedBatchNorm(1)(x) * torch.tensor([1.0, 3.0])).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(ranks[0]["one_sided"], x.grad[:1])
    assert ranks[1]["one_sided"] is None


def test_evaluation_is_no_collective(ranks: list[dict[str, Any]]) -> None:
    expected = worker.MaskedBatchNorm(worker.N_CHANNELS).eval()(worker.global_batch(worker.N_CHANNELS)[0])
    assert torch.equal(ranks[0]["evaluation"], expected)
