"""One of two gloo processes that use fairseq's collectives: python two_ranks.py RANK STORE_FILE."""

import argparse
import sys

import numpy as np
import torch
from fairseq.dataclass.configs import DistributedTrainingConfig
from fairseq.distributed import utils as distributed_utils
from fairseq.models.distributed_fairseq_model import DistributedFairseqModel

import fairseq_vgs


def main() -> None:
    """Print a word for each thing that works."""
    assert fairseq_vgs.__version__
    rank, store = int(sys.argv[1]), sys.argv[2]
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    group = distributed_utils.get_global_group()

    for size in (10, 5000):  # the second needs a larger buffer than the first
        lists = distributed_utils.all_gather_list([rank] * size, group=group, max_size=40 * size + 100)
        assert lists == [[0] * size, [1] * size], lists
    print("gathered")

    state = {
        "w": torch.arange(3.0),
        "best": np.float64(2),
        "n": (1, {2}),
        "args": argparse.Namespace(arch="x"),
    }
    received = distributed_utils.broadcast_object(state if rank == 0 else None, src_rank=0, group=group)
    assert torch.equal(received["w"], state["w"])
    assert (received["best"], received["args"].arch, received["n"]) == (2.0, "x", (1, {2}))
    print("broadcast")

    cfg = DistributedTrainingConfig(ddp_backend="pytorch_ddp", tpu=False)
    model = DistributedFairseqModel(cfg, torch.nn.Linear(2, 1, bias=False), group, torch.device("cpu"))
    model(torch.full((1, 2), float(rank))).sum().backward()
    assert torch.equal(model.weight.grad, torch.full((1, 2), 0.5)), model.weight.grad
    print("reduced")
    # a rank that leaves while the other still talks to it, or before its model does, may abort
    torch.distributed.barrier()
    del model
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
