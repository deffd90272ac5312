"""A linear phone probe on an upstream's states, as S3PRL trains one; needs torch and NumPy alone.

Legend: `L` states, `B` utterances, `T` frames, `D` dims, `N` frames of all utterances, `P` phones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATE = 16_000
HOP, WINDOW = 320, 400  # samples
PER_BATCH = 4


@dataclass(frozen=True)
class Aligned:
    """A recording, `[S]` at 16 kHz, and its phones: onsets and offsets `[K, 2]` in seconds, and labels."""

    wave: Tensor
    times: Any
    labels: Sequence[str]

    def all_labels(self) -> list[str]:
        """Return the phone in the middle of each frame; silence beyond the last one."""
        middles = (np.arange(n_frames_of(self.wave)) * HOP + WINDOW / 2) / RATE
        numbers = np.searchsorted(self.times[:, 1], middles, side="right")
        return [self.labels[number] if number < len(self.labels) else "pau" for number in numbers]


class WeightedSum(nn.Module):
    """What S3PRL's Featurizer computes: a softmax of trained weights, equal at first, over the states."""

    def __init__(self, n_states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_states))

    def forward(self, states: Tensor) -> Tensor:
        """Sum `[L, N, D]` to `[N, D]`."""
        return torch.einsum("l,lnd->nd", self.weights.softmax(dim=0), states)


def n_frames_of(wave: Tensor, rate: int = HOP) -> int:
    """Return how many frames S3PRL takes an utterance to have."""
    return (len(wave) - 1) // rate + 1


def at_length(states: Tensor, n_frames: int) -> Tensor:
    """Cut states `[B, T, D]` or repeat their last frame, as S3PRL does; refuse what it would refuse."""
    missing = n_frames - states.size(1)
    assert max(n_frames, states.size(1)) // min(n_frames, states.size(1)) == 1
    if missing <= 0:
        return states[:, :n_frames]
    return torch.cat([states, states[:, -1:].repeat(1, missing, 1)], dim=1)


@torch.no_grad()
def states_of(upstream: Any, recordings: Sequence[Aligned]) -> Tensor:
    """Encode recordings in batches: the frames of all, one after the other, `[L, N, D]`."""
    rate, parts = upstream.get_downsample_rates("hidden_states"), []
    for start in range(0, len(recordings), PER_BATCH):
        waves = [one.wave for one in recordings[start : start + PER_BATCH]]
        longest = max(n_frames_of(wave, rate) for wave in waves)
        found = torch.stack([at_length(state, longest) for state in upstream(waves)["hidden_states"]])
        parts += [found[:, row, : n_frames_of(wave, rate)] for row, wave in enumerate(waves)]
    return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Probed:
    """Shares of the test's frames: correct by the probe, and by the most frequent phone of the training."""

    accuracy: float
    majority: float


def probe(
    upstream: Any, train: Sequence[Aligned], test: Sequence[Aligned], *, n_updates: int = 150
) -> Probed:
    """Train a linear layer on the weighted states of a frozen upstream; measure it on other recordings."""
    names = sorted({label for one in (*train, *test) for label in one.labels})
    targets = [
        torch.tensor([names.index(label) for one in part for label in one.all_labels()])
        for part in (train, test)
    ]
    states = [states_of(upstream, part) for part in (train, test)]
    torch.manual_seed(0)
    featurizer, linear = WeightedSum(len(states[0])), nn.Linear(states[0].size(-1), len(names))
    optimizer = torch.optim.Adam([*featurizer.parameters(), *linear.parameters()], lr=0.02)
    for _ in range(n_updates):
        loss = F.cross_entropy(linear(featurizer(states[0])), targets[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = linear(featurizer(states[1])).argmax(dim=1)
    most = targets[0].bincount().argmax()
    return Probed(*(float((guess == targets[1]).float().mean()) for guess in (found, most)))
