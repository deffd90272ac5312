"""Retrieval ranks, recall and chance as plain loops: slow, obvious, sharing nothing with what they check."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import permutations

Matrix = Sequence[Sequence[float]]


def as_float32(value: float) -> float:
    """Round to the nearest float32, in which similarities are compared."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def similarity(left: Sequence[float], right: Sequence[float], *, kind: str) -> float:
    """Dot product or cosine of two vectors, rounded to float32."""
    dot = math.fsum(a * b for a, b in zip(left, right, strict=True))
    if kind == "cosine":
        norms = math.sqrt(math.fsum(a * a for a in left)) * math.sqrt(math.fsum(b * b for b in right))
        dot = dot / norms if norms else 0.0
    return as_float32(dot)


def best_ranks(
    queries: Matrix, gallery: Matrix, *, query_groups: Sequence[int], gallery_groups: Sequence[int], kind: str
) -> list[float]:
    """Rank of the best correct item per query; ties with wrong items count half; NaN if none is correct."""
    ranks = []
    for query, query_group in zip(queries, query_groups, strict=True):
        correct, wrong = [], []
        for item, item_group in zip(gallery, gallery_groups, strict=True):
            score = similarity(query, item, kind=kind)
            if item_group == query_group:
                correct.append(score)
            else:
                wrong.append(score)
        if not correct:
            ranks.append(math.nan)
            continue
        rank = 1.0
        for score in wrong:
            if score > max(correct):
                rank += 1.0
            elif score == max(correct):
                rank += 0.5
        ranks.append(rank)
    return ranks


def recall(ranks: Sequence[float], k: int) -> float:
    """Percentage of queries ranked within the top k."""
    queries = [rank for rank in ranks if not math.isnan(rank)]
    hits = 0
    for rank in queries:
        if rank <= k:
            hits += 1
    return 100.0 * hits / len(queries)


def chance_of_hit(n_gallery: int, n_positives: int, k: int) -> float:
    """Share of all orders of a (tiny) gallery with a positive within the top k, by listing every order."""
    hits = orders = 0
    for order in permutations(range(n_gallery)):
        orders += 1
        if any(item < n_positives for item in order[:k]):
            hits += 1
    return hits / orders
