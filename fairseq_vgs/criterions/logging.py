"""Turning summed logs into fairseq's meters."""

from collections.abc import Mapping
from typing import Any

from fairseq import metrics, utils

Logs = dict[str, Any]


def total(logging_outputs: list[Logs], key: str) -> float:
    """Sum one entry over ranks and accumulated batches."""
    return utils.item(sum(log.get(key, 0) for log in logging_outputs))


def log_means(logging_outputs: list[Logs], names: Mapping[str, str], count: str, *, priority: int) -> None:
    """Log weighted sums divided by their weight, the sum of ``count``; nothing if a branch did not run (0).

    ``names`` maps keys of sums to meters, which fairseq displays from ``priority`` on.
    """
    if weight := total(logging_outputs, count):
        for place, (key, name) in enumerate(names.items(), start=priority):
            metrics.log_scalar(name, total(logging_outputs, key) / weight, weight, priority=place)


def log_speed(logging_outputs: list[Logs]) -> None:
    """Log pairs per second, the share of padding among the samples, and skipped items."""
    samples, padded = total(logging_outputs, "ntokens"), total(logging_outputs, "n_padded")
    metrics.log_speed("pairs_per_second", total(logging_outputs, "n_pairs"), priority=60, round=1)
    if samples:
        metrics.log_scalar("padding_share", padded / (samples + padded), samples + padded, priority=61)
    metrics.log_scalar_sum("skipped", total(logging_outputs, "n_skipped"), priority=62)
