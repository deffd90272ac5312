"""All-gather of embeddings with gradient, so that every rank contrasts its pairs with the global batch.

Convention: every rank computes the *same* loss L on the gathered batch, and gradients of parameters are
averaged over ranks (as DistributedDataParallel and fairseq do). The backward pass therefore sums the
gradients of all ranks' losses (`world_size` x dL/dx for the own rows); averaging over ranks then gives
exactly dL/dparameters of one process with the whole batch. Parameters used after the gather (a learned
temperature) have dL/dp on every rank; averaging keeps it.

Legend: `n` rows of this rank, `N` rows of all ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_with_gradient(x: Tensor, *, group: dist.ProcessGroup | None = None) -> Tensor:
    """Concatenate the rows of all ranks in rank order; differentiable.

    Ranks may hold different numbers of rows, also none. The backward pass is a collective too: every rank
    must use the result in its loss. A rank whose rows need no gradient (an empty tensor, say) takes part
    nevertheless. To save a collective, gather several embeddings of the same pairs concatenated along the
    last axis.

    Shape:
        x `[n, ...]`; type and trailing axes equal on all ranks. Result `[N, ...]`; `x` itself if
        torch.distributed is not initialised or has one rank.
    """
    if not _is_distributed(group):
        return x
    wants_gradient = x.requires_grad and torch.is_grad_enabled()
    headers = _gather_equal(torch.tensor([len(x), int(wants_gradient)], device=x.device), group)
    sizes = [int(header[0]) for header in headers]
    if not any(int(header[1]) for header in headers):
        return _gather_rows(x.detach(), sizes, group)
    if not wants_gradient:
        # Some other rank will call the collective of the backward pass: this rank must call it as well.
        x = x.detach().requires_grad_(True)
    gathered: Tensor = _GatherRows.apply(x, sizes, group)
    return gathered


def gather_ids(ids: Tensor, *, group: dist.ProcessGroup | None = None) -> Tensor:
    """Concatenate ids, int `[n]`, of all ranks in rank order: int `[N]`; see `gather_with_gradient`."""
    if not _is_distributed(group):
        return ids
    sizes = [int(size) for size in _gather_equal(torch.tensor([len(ids)], device=ids.device), group)]
    return _gather_rows(ids, sizes, group)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], group: dist.ProcessGroup | None) -> Tensor:
        ctx.group, ctx.first, ctx.n_rows = group, sum(sizes[: dist.get_rank(group)]), len(x)
        return _gather_rows(x, sizes, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0]
        # Half precision would be summed with its own rounding at every rank (and gloo lacks some half types).
        total = gradient.float() if gradient.dtype in (torch.float16, torch.bfloat16) else gradient.clone()
        total = total.contiguous()
        dist.all_reduce(total, group=ctx.group)
        return total.narrow(0, ctx.first, ctx.n_rows).to(gradient.dtype), None, None


def _is_distributed(group: dist.ProcessGroup | None) -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1


def _gather_equal(x: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
    received = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(received, x.contiguous(), group=group)
    return received


def _gather_rows(x: Tensor, sizes: list[int], group: dist.ProcessGroup | None) -> Tensor:
    """Pad to the longest rank, since collectives want equal shapes; gather, cut."""
    longest = max(sizes)
    if longest == 0:
        return x.clone()
    padded = x.new_zeros(longest, *x.shape[1:])
    padded[: len(x)] = x
    received = _gather_equal(padded, group)
    return torch.cat([rows[:size] for rows, size in zip(received, sizes, strict=True)])
