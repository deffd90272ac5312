"""From retrieval ranks to the reported figures, and to a table that fits a terminal.

Shapes: ``C`` captions, ``I`` images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.metrics import bootstrap, retrieval
from fairseq_vgs.evaluation.results import Metric

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DIRECTION_TITLES = {"speech_to_image": "speech -> image", "image_to_speech": "image -> speech"}

CERTAIN = "always 100 (k >= pool)"
"""In the place of a recall that any order reaches."""


@dataclass(frozen=True)
class Pool:
    """What is retrieved from what.

    Attributes:
        speech_groups: int64[C] image group of each caption.
        image_groups: int64[I] group of each image.
    """

    speech_groups: IntArray
    image_groups: IntArray

    @property
    def n_captions(self) -> int:
        """Captions: queries of `speech_to_image`, gallery of `image_to_speech`."""
        return len(self.speech_groups)

    @property
    def n_images(self) -> int:
        """Images: gallery of `speech_to_image`, queries of `image_to_speech`."""
        return len(self.image_groups)

    def sides(self, direction: str) -> tuple[IntArray, IntArray]:
        """Groups of the queries (those with a correct answer) and of the gallery."""
        if direction == "speech_to_image":
            return self.speech_groups, self.image_groups
        return self.image_groups[np.isin(self.image_groups, self.speech_groups)], self.speech_groups

    def as_json(self) -> dict[str, object]:
        """Return sizes and rules, in words that can stand beside a number."""
        return {
            "images": self.n_images,
            "captions": self.n_captions,
            "image_groups": len(np.unique(self.image_groups)),
            "speech_to_image": f"{self.n_captions} captions, each ranks {self.n_images} images",
            "image_to_speech": (
                f"{len(self.sides('image_to_speech')[0])} images, each ranks {self.n_captions} captions; "
                "a hit if any caption of its image is within the top k"
            ),
            "ties": "wrong answers tied with the best correct one count half",
        }


def retrieval_metrics(
    ranks: retrieval.RetrievalRanks, pool: Pool, *, seed: int, n_resamples: int = 2000
) -> dict[str, Metric]:
    """Compute R@1/5/10 (%), median rank and MRR of both directions, with chance and 95 % intervals."""
    chance = chance_figures(pool)
    metrics: dict[str, Metric] = {}
    for direction in retrieval.DIRECTIONS:
        found, (queries, _) = ranks.direction(direction), pool.sides(direction)
        metrics |= query_metrics(
            found, queries, direction=direction, chance=chance, seed=seed, n_resamples=n_resamples
        )
    return metrics


def chance_figures(pool: Pool) -> dict[str, float]:
    """Return what random orders score on every figure of `retrieval_metrics`."""
    found = retrieval.chance_recalls(pool.speech_groups, pool.image_groups)
    for direction in retrieval.DIRECTIONS:
        sides = pool.sides(direction)
        found[f"{direction}_median_rank"] = retrieval.chance_median_rank(*sides)
        found[f"{direction}_mrr"] = retrieval.chance_mean_reciprocal_rank(*sides)
    return found


def query_metrics(
    ranks: FloatArray,
    groups: IntArray,
    *,
    direction: str,
    chance: Mapping[str, float],
    seed: int,
    n_resamples: int = 2000,
) -> dict[str, Metric]:
    """Compute R@1/5/10 (%), median rank and MRR of one direction, with 95 % intervals.

    Args:
        ranks: f64[Q] of the queries.
        groups: int64[Q] image group of each query.
        direction: one of `retrieval.DIRECTIONS`; the figures' names begin with it.
        chance: of `chance_figures`; figures that it lacks have none.
        seed: of the resampling.
        n_resamples: how many.
    """
    draws = {"seed": seed, "n_resamples": n_resamples}
    found = {
        f"{direction}_r{k}": (bootstrap.percentage_interval(ranks <= k, groups, **draws), "%")
        for k in retrieval.RECALL_CUTOFFS
    }
    found[f"{direction}_median_rank"] = (bootstrap.median_interval(ranks, groups, **draws), "rank")
    found[f"{direction}_mrr"] = (bootstrap.mean_interval(1.0 / ranks, groups, **draws), "")
    return {
        name: Metric(interval, len(ranks), chance.get(name), unit) for name, (interval, unit) in found.items()
    }


def rank_differences(
    first: retrieval.RetrievalRanks,
    second: retrieval.RetrievalRanks,
    pool: Pool,
    *,
    seed: int,
    n_resamples: int = 2000,
) -> dict[str, Metric]:
    """Compute first minus second of every figure of `retrieval_metrics`, on the same resampled images."""
    metrics = {}
    for direction in retrieval.DIRECTIONS:
        queries, _ = pool.sides(direction)
        found = query_differences(
            first.direction(direction),
            second.direction(direction),
            queries,
            seed=seed,
            n_resamples=n_resamples,
        )
        metrics.update({f"{direction}_{name}": metric for name, metric in found.items()})
    return metrics


def query_differences(
    ranks: FloatArray, others: FloatArray, groups: IntArray, *, seed: int, n_resamples: int = 2000
) -> dict[str, Metric]:
    """Compute differences of R@1/5/10 (percentage points), median rank and MRR of one direction.

    Args:
        ranks: f64[Q] of the first model.
        others: f64[Q] of the second, for the same queries.
        groups: int64[Q] image group of each query.
        seed: of the resampling.
        n_resamples: how many.
    """
    draws = {"seed": seed, "n_resamples": n_resamples}
    metrics = {}
    for k in retrieval.RECALL_CUTOFFS:
        hits, other_hits = (np.where(found <= k, 100.0, 0.0) for found in (ranks, others))
        interval = bootstrap.paired_difference(hits, other_hits, groups, **draws)
        metrics[f"r{k}"] = Metric(interval, len(ranks), None, "percentage points")
    interval = bootstrap.median_difference(ranks, others, groups, **draws)
    metrics["median_rank"] = Metric(interval, len(ranks), None, "rank")
    interval = bootstrap.paired_difference(1.0 / ranks, 1.0 / others, groups, **draws)
    metrics["mrr"] = Metric(interval, len(ranks), None, "")
    return metrics


def format_table(models: Mapping[str, Mapping[str, Metric]]) -> str:
    """Lay out both directions: one row per model, then chance; recalls with their intervals.

    Args:
        models: row title -> metrics of `retrieval_metrics`.
    """
    columns = [f"r{k}" for k in retrieval.RECALL_CUTOFFS]
    header = ["", *[f"R@{k} % [95 % interval]" for k in retrieval.RECALL_CUTOFFS], "median rank", "MRR"]
    rows: list[list[str]] = [header]
    for direction, title in DIRECTION_TITLES.items():
        rows.append([title])
        for name, metrics in models.items():
            cells = [percentage(metrics[f"{direction}_{column}"]) for column in columns]
            median, mrr = metrics[f"{direction}_median_rank"], metrics[f"{direction}_mrr"]
            rows.append([f"  {name}", *cells, f"{median.value.value:g}", f"{mrr.value.value:.3f}"])
        metrics = next(iter(models.values()))
        chances = [f"{metrics[f'{direction}_{column}'].chance:.1f}" for column in columns]
        median, mrr = metrics[f"{direction}_median_rank"], metrics[f"{direction}_mrr"]
        rows.append(["  chance", *chances, f"{median.chance:g}", f"{mrr.chance:.3f}"])
    return aligned(rows)


def percentage(metric: Metric) -> str:
    """Write a value in percent with its interval, if any; one that any order reaches says so instead."""
    if metric.is_certain:
        return CERTAIN
    value = metric.value
    if math.isnan(value.low):
        return f"{value.value:.1f}"
    return f"{value.value:.1f} [{value.low:.1f}, {value.high:.1f}]"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of cells, which may end early, in columns."""
    width = max(len(row) for row in rows)
    padded = [[*row, *[""] * (width - len(row))] for row in rows]
    sizes = [max(len(row[column]) for row in padded) for column in range(width)]
    lines = [
        "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in padded
    ]
    return "\n".join(lines)
