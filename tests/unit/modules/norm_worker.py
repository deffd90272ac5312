"""One rank of the batch norm test: `python norm_worker.py RANK WORLD_SIZE STORE OUTPUT`.

Imported, it serves as the one process to compare with.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fairseq_vgs import losses
from fairseq_vgs.modules import SPEECH_HEADS
from fairseq_vgs.modules.masked_norm import MaskedBatchNorm
from fairseq_vgs.modules.resdavenet import ResDavenetSettings

N_CHANNELS, N_FRAMES, DIM = 4, 6, 8
N_VALID = (6, 3, 1, 5, 2, 6, 4, 3)
N_ROWS = len(N_VALID)
SPLITS = {"3 + 5": (3, 5), "8 + 0": (8, 0), "0 + 8": (0, 8)}


def global_batch(n_channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """All rows: values far from zero, the mask of valid frames, and weights of the result in the loss."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N_ROWS, n_channels, N_FRAMES, generator=generator) * 2 + 100
    x += torch.arange(N_ROWS).view(-1, 1, 1)  # ranks differ in their means
    weights = torch.randn(N_ROWS, n_channels, N_FRAMES, generator=generator)
    return x, torch.arange(N_FRAMES) < torch.tensor(N_VALID).unsqueeze(1), weights


def run_norm(rows: slice, dtype: torch.dtype) -> dict[str, Tensor]:
    """Two updates of one norm: result and gradients of the last, running statistics after both.

    The loss is a sum over this rank's rows; gradients of parameters are summed over ranks.
    """
    x, valid, weights = (tensor[rows] for tensor in global_batch(N_CHANNELS))
    norm = MaskedBatchNorm(N_CHANNELS)
    norm(x * 1.5, valid)
    x = x.to(dtype).requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        result = norm(x, valid)
    (result * weights * valid.unsqueeze(1)).sum().backward()
    results = {"result": result.detach()[valid.unsqueeze(1).expand_as(x)], "x": x.grad}
    for name, parameter in norm.named_parameters():
        results[name] = parameter.grad.clone()
        if dist.is_initialized():
            dist.all_reduce(results[name])
    return results | {name: buffer.clone() for name, buffer in norm.named_buffers()}


class HeadWithLoss(nn.Module):
    """The paper's speech head with the loss of the global batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = ResDavenetSettings(
            input_dim=DIM,
            output_dim=DIM,
            bottleneck_dim=8,
            widths=(8, 12),
            kernel_size=3,
            heads=2,
            ffn_dim=16,
            dropout=0.0,
            attention_dropout=0.0,
        )
        self.head = SPEECH_HEADS["resdavenet"](config)

    def forward(self, frames: Tensor, valid: Tensor, images: Tensor) -> Tensor:
        """Embeds this rank's utterances, contrasts those of all ranks."""
        frames = frames.transpose(1, 2)
        speech = self.head(frames, cls=frames[:, 0], padding_mask=~valid)
        speech, images = losses.gather_with_gradient(torch.cat([speech, images], dim=1)).chunk(2, dim=1)
        similarity = losses.pairwise_similarity(speech, images, kind="dot")
        return losses.masked_margin_infonce(similarity, torch.arange(N_ROWS), margin=1.0).loss


def run_head(model: nn.Module, rows: slice) -> dict[str, Tensor]:
    """Loss, gradients and running statistics of one update."""
    frames, valid, weights = global_batch(DIM)
    loss = model(*(tensor[rows] for tensor in ((frames - 100) / 2, valid, weights[:, :, 0])))
    loss.backward()
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    gradients = {name: parameter.grad.clone() for name, parameter in inner.named_parameters()}
    return {"loss": loss.detach(), **gradients, **dict(inner.named_buffers())}


def one_sided_gradient(rank: int) -> Tensor | None:
    """Only rank 0's input wants a gradient, and the parameters none."""
    norm = MaskedBatchNorm(1).requires_grad_(False)
    x = torch.tensor([[[1.0, 2.0 + rank]]], requires_grad=rank == 0)
    (norm(x) * torch.tensor([1.0, 3.0])).sum().backward()
    return x.grad


def main(rank: int, world_size: int, store: str, output: str) -> None:
    """Runs every split as one rank; writes the results of this rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    results: dict[str, object] = {"one_sided": one_sided_gradient(rank)}
    for split, sizes in SPLITS.items():
        rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        for dtype in (torch.float32, torch.bfloat16):
            results[f"{split} {dtype}"] = run_norm(rows, dtype)
        results[f"{split} head"] = run_head(DistributedDataParallel(HeadWithLoss()), rows)
    # Evaluation is no collective: one rank alone may call the module.
    if rank == 0:
        results["evaluation"] = MaskedBatchNorm(N_CHANNELS).eval()(global_batch(N_CHANNELS)[0])
    torch.save(results, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
