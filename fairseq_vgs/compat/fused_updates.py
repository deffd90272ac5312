"""Run an update's arithmetic on gradients and weights in a few kernels, not in several per tensor.

fairseq scales gradients, measures their norm, clips and runs Adam tensor by tensor: some 5,000 kernels for
the paper's model, each of which a host takes microseconds to launch. The formulas, the state in checkpoints
and the settings stay fairseq's.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from fairseq import utils
from fairseq.optim import adam
from fairseq.optim.fairseq_optimizer import FairseqOptimizer
from torch import Tensor

FUSED_DEVICES = {"cuda"}
"""Types of devices on which Adam is fused."""


def fuse_updates() -> bool:
    """Let fairseq's Adam and its handling of gradients run fused; a second call changes nothing."""
    if hasattr(FairseqOptimizer.multiply_grads, "__wrapped__"):
        return False
    adam.Adam.step = _with_original(_step, adam.Adam.step)
    FairseqOptimizer.multiply_grads = _with_original(_multiply_grads, FairseqOptimizer.multiply_grads)
    utils.clip_grad_norm_ = _with_original(_clip_grad_norm, utils.clip_grad_norm_)
    return True


def _with_original(function: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(original, *args, **kwargs)

    return call


@torch.no_grad()
def _step(original: Callable[..., Any], optimizer: Any, closure: Callable[[], Any] | None = None) -> Any:
    """Run a step of Adam, in one kernel where all weights are f32 on one of ``FUSED_DEVICES``."""
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not all(_can_fuse(parameter) for parameter in trained):
        return original(optimizer, closure)
    loss = None if closure is None else closure()
    for group in optimizer.param_groups:
        by_step: defaultdict[int, list[Tensor]] = defaultdict(list)  # a branch may have joined later
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_step[_count_step(optimizer.state[parameter], parameter)].append(parameter)
        for number, parameters in by_step.items():
            _step_together(parameters, [optimizer.state[p] for p in parameters], group, number)
    return loss


def _count_step(state: dict[str, Any], parameter: Tensor) -> int:
    """Count an update of a weight, whose state begins with the first; return its number."""
    if not state:
        state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
    state["step"] += 1
    return int(state["step"])


def _step_together(
    parameters: list[Tensor], states: Sequence[dict[str, Any]], group: dict[str, Any], number: int
) -> None:
    beta1, beta2 = group["betas"]
    torch._fused_adamw_(
        parameters,
        [parameter.grad for parameter in parameters if parameter.grad is not None],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [torch.full((), float(number), device=parameters[0].device)] * len(parameters),
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        # torch corrects the second moment before it adds epsilon, fairseq after
        eps=group["eps"] / math.sqrt(1.0 - beta2**number),
        amsgrad=False,
        maximize=False,
    )


def _can_fuse(parameter: Tensor) -> bool:
    same = parameter.grad is not None and parameter.grad.dtype == parameter.dtype == torch.float32
    return same and parameter.device.type in FUSED_DEVICES


def _multiply_grads(original: Callable[..., None], optimizer: Any, factor: Any) -> None:
    gradients = _gradients(list(optimizer.params))
    if gradients is None:
        original(optimizer, factor)
    elif gradients:
        torch._foreach_mul_(gradients, factor)


@torch.no_grad()
def _clip_grad_norm(
    original: Callable[..., Tensor], params: Any, max_norm: float, aggregate_norm_fn: Any = None
) -> Tensor:
    params = [params] if isinstance(params, Tensor) else list(params)
    gradients = _gradients(params)
    if not gradients or aggregate_norm_fn is not None:
        return original(params, max_norm, aggregate_norm_fn)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if max_norm > 0:
        torch._foreach_mul_(gradients, (float(max_norm) / (norm + 1e-6)).clamp(max=1))
    return norm


def _gradients(params: Sequence[Tensor]) -> list[Tensor] | None:
    """Return the gradients there are; None where they are not all f32 on one of ``FUSED_DEVICES``."""
    with_gradient = [parameter for parameter in params if getattr(parameter, "grad", None) is not None]
    if any(hasattr(parameter, "expert") or not _can_fuse(parameter) for parameter in with_gradient):
        return None
    return [parameter.grad.detach() for parameter in with_gradient if parameter.grad is not None]
