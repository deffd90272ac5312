"""One rank of the gather test: `python gather_worker.py RANK WORLD_SIZE STORE OUTPUT`.

Imported, it serves as the one process to compare with.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fairseq_vgs import losses

N_PAIRS, SPEECH_DIM, IMAGE_DIM, EMBED_DIM = 8, 6, 5, 4
SPLITS = {"3 + 5": (3, 5), "8 + 0": (8, 0), "0 + 8": (0, 8), "4 + 4": (4, 4)}
LOSSES = ("masked_margin", "symmetric", "sigmoid")


class TwoBranches(nn.Module):
    """Two linear encoders, a temperature and a bias; the forward returns the loss of the global batch."""

    def __init__(self, loss: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.speech = nn.Linear(SPEECH_DIM, EMBED_DIM)
        self.image = nn.Linear(IMAGE_DIM, EMBED_DIM)
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))
        self.loss = loss

    def forward(self, speech: Tensor, image: Tensor, ids: Tensor) -> Tensor:
        """Gathers both branches, contrasts everything with everything."""
        embeddings = torch.cat([self.speech(speech), self.image(image)], dim=1)
        speech, image = losses.gather_with_gradient(embeddings).chunk(2, dim=1)
        ids = losses.gather_ids(ids)
        scale = self.log_scale.exp()
        if self.loss == "masked_margin":
            similarity = losses.pairwise_similarity(speech, image, kind="dot")
            # DDP wants every parameter used; temperature and bias have no part in this loss.
            unused = 0.0 * (self.log_scale + self.bias)
            return losses.masked_margin_infonce(similarity, ids, margin=1.0).loss + unused
        similarity = losses.pairwise_similarity(speech, image, kind="cosine")
        if self.loss == "symmetric":
            return losses.symmetric_infonce(similarity, ids, logit_scale=scale).loss + 0.0 * self.bias
        return losses.sigmoid_pairwise(similarity, ids, logit_scale=scale, logit_bias=self.bias).loss


def global_batch() -> tuple[Tensor, Tensor, Tensor]:
    """All pairs; images 1 and 4 occur twice, on different ranks in some splits."""
    generator = torch.Generator().manual_seed(1)
    speech = torch.randn(N_PAIRS, SPEECH_DIM, generator=generator)
    image = torch.randn(N_PAIRS, IMAGE_DIM, generator=generator)
    return speech, image, torch.tensor([1, 2, 4, 3, 1, 4, 6, 7])


def run(model: nn.Module, rows: slice) -> dict[str, Tensor]:
    """Loss and gradients of one forward and backward pass over the given rows."""
    loss = model(*(tensor[rows] for tensor in global_batch()))
    loss.backward()
    branches = model.module if isinstance(model, DistributedDataParallel) else model
    gradients = {name: parameter.grad.clone() for name, parameter in branches.named_parameters()}
    return {"loss": loss.detach(), **gradients}


def other_checks(rank: int) -> dict[str, object]:
    """What does not fit the table: evaluation, types, shapes, ranks whose rows want no gradient."""
    results: dict[str, object] = {}
    with torch.no_grad():
        no_gradient = losses.gather_with_gradient(torch.full((rank, 2), float(rank), requires_grad=True))
    results["no_grad"] = (no_gradient.tolist(), no_gradient.requires_grad)
    results["ids"] = losses.gather_ids(torch.arange(2 * rank) + 10).tolist()
    empty = losses.gather_with_gradient(torch.zeros(0, 3, requires_grad=True))
    empty.sum().backward()
    results["empty"] = tuple(empty.shape)
    half = torch.full((1 + rank, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    gathered = losses.gather_with_gradient(half)
    gathered.sum().backward()
    results["half"] = (tuple(gathered.shape), str(gathered.dtype), half.grad.flatten().tolist())
    # Only rank 0 wants a gradient: rank 1 must still join the collective of its backward pass.
    x = torch.ones(2, 1, requires_grad=rank == 0)
    (losses.gather_with_gradient(x) * torch.tensor([[1.0], [2.0], [3.0], [4.0]])).sum().backward()
    results["one_sided"] = x.grad.flatten().tolist() if rank == 0 else None
    return results


def main(rank: int, world_size: int, store: str, output: str) -> None:
    """Runs every split and loss as one rank; writes the results of this rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    results: dict[str, object] = {"other": other_checks(rank)}
    for split, sizes in SPLITS.items():
        rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        for loss in LOSSES:
            results[f"{split} {loss}"] = run(DistributedDataParallel(TwoBranches(loss)), rows)
    torch.save(results, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
