"""The authors' optimiser (BertAdam) as plain loops over Python floats, written from its formulas.

Per update k = 0, 1, ... and weight w with gradient g: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
w = w - lr(k) (m / (sqrt(v) + eps) + decay w). Nothing corrects m and v for having begun at zero.
All gradients together are clipped to a norm before. lr(k) rises from 0 over the warm-up and falls to 0 at the
last update.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Weights = list[list[float]]  # one list per parameter
Gradients = list[list[float] | None]  # None: the parameter takes no part


def warmup_linear(update: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate at an update, counted from 0."""
    progress = update / total
    return progress / warmup if progress < warmup else max((progress - 1) / (warmup - 1), 0.0)


def clip(gradients: Gradients, max_norm: float) -> Gradients:
    """Scale all gradients together so that their norm is at most ``max_norm``."""
    norm = math.sqrt(sum(g * g for parameter in gradients if parameter is not None for g in parameter))
    factor = min(max_norm / (norm + 1e-6), 1.0)
    return [None if parameter is None else [g * factor for g in parameter] for parameter in gradients]


def correction(update: int, beta1: float, beta2: float) -> float:
    """Give what Adam multiplies the step by, and BertAdam does not; updates count from 1 here."""
    return math.sqrt(1 - beta2**update) / (1 - beta1**update)


def bert_adam(
    weights: Weights,
    gradients_at: Callable[[Weights], Gradients],
    *,
    updates: int,
    lr: float,
    warmup: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-6,
    decay: float = 0.01,
    max_norm: float = 1.0,
    corrected: bool = False,
) -> list[Weights]:
    """Return the weights before the first and after every update; ``corrected`` puts Adam's correction in."""
    m = [[0.0] * len(parameter) for parameter in weights]
    v = [[0.0] * len(parameter) for parameter in weights]
    steps = [0] * len(weights)
    path = [[list(parameter) for parameter in weights]]
    for _ in range(updates):
        current = [list(parameter) for parameter in path[-1]]
        for n, gradient in enumerate(clip(gradients_at(path[-1]), max_norm)):
            if gradient is None:
                continue
            scheduled = lr * warmup_linear(steps[n], updates, warmup)
            steps[n] += 1
            factor = correction(steps[n], beta1, beta2) if corrected else 1.0
            for i, g in enumerate(gradient):
                m[n][i] = beta1 * m[n][i] + (1 - beta1) * g
                v[n][i] = beta2 * v[n][i] + (1 - beta2) * g * g
                step = factor * m[n][i] / (math.sqrt(v[n][i]) + eps)
                current[n][i] -= scheduled * (step + decay * path[-1][n][i])
        path.append(current)
    return path
