"""Retrieval within disjoint pools of images, as in "COCO, five folds of 1k images".

The images are dealt at random into pools of (nearly) equal size, pictures of one group into one pool; the
captions go with their images. Every query ranks what is in its own pool. A recall is the mean over all
queries: where pools are equally large, the mean over pools. Recall in a small pool is higher than in a large
one: pool sizes are part of the result.

Shapes: ``C`` captions, ``I`` images, ``E`` embedding dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.metrics import bootstrap, retrieval
from fairseq_vgs.evaluation.results import Metric
from fairseq_vgs.evaluation.retrieval_figures import DIRECTION_TITLES, Pool, aligned, percentage
from fairseq_vgs.files.faults import FaultError, fault

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImagePools:
    """A split's captions and images, dealt into pools.

    Attributes:
        whole: groups of all captions and images.
        image_pools: int64[I] number of each image's pool, 0..n_pools-1.
        n_pools: how many.
    """

    whole: Pool
    image_pools: IntArray
    n_pools: int

    @cached_property
    def speech_pools(self) -> IntArray:
        """int64[C] pool of each caption: that of its image group."""
        groups, first = np.unique(self.whole.image_groups, return_index=True)
        found: IntArray = self.image_pools[first][np.searchsorted(groups, self.whole.speech_groups)]
        return found

    def parts(self) -> Iterator[tuple[IntArray, IntArray, Pool]]:
        """Yield, per pool, the rows of its captions and of its images, and their groups."""
        for number in range(self.n_pools):
            captions = np.flatnonzero(self.speech_pools == number)
            images = np.flatnonzero(self.image_pools == number)
            yield (
                captions,
                images,
                Pool(self.whole.speech_groups[captions], self.whole.image_groups[images]),
            )


def deal_images(whole: Pool, n_pools: int, *, seed: int) -> ImagePools:
    """Deal the images into disjoint pools.

    Groups that have captions and groups without are dealt one after the other: every pool has
    queries.

    Args:
        whole: groups of captions and images.
        n_pools: at least 2.
        seed: of the order in which groups are dealt.

    Raises:
        FaultError: fewer than 2 pools, or fewer image groups with captions than pools.
    """
    groups = np.unique(whole.image_groups)
    spoken = np.isin(groups, whole.speech_groups)
    if spoken.sum() < 2:
        expected = "split must have at least 2 image groups with captions to be dealt into pools"
        step = "leave --folds out, or take a larger split"
        raise FaultError(fault("folds", expected, int(spoken.sum()), step))
    if not 2 <= n_pools <= spoken.sum():
        expected = f"must be from 2 to {spoken.sum()}, the image groups with captions"
        raise FaultError(fault("folds", expected, n_pools, "give fewer, or a larger split"))
    order = np.random.default_rng(seed).permutation(len(groups))
    order = np.concatenate([order[spoken[order]], order[~spoken[order]]])
    pool_of_group = np.empty(len(groups), dtype=np.int64)
    pool_of_group[order] = np.arange(len(groups)) % n_pools
    return ImagePools(whole, pool_of_group[np.searchsorted(groups, whole.image_groups)], n_pools)


def pooled_ranks(
    speech: retrieval.Embeddings, images: retrieval.Embeddings, pools: ImagePools, *, similarity: str = "dot"
) -> retrieval.RetrievalRanks:
    """Rank within pools; shapes, ties and NaN as in `retrieval.retrieval_ranks`.

    Args:
        speech: f[C, E].
        images: f[I, E].
        pools: who is in which pool.
        similarity: "dot" or "cosine".
    """
    speech_ranks = np.full(pools.whole.n_captions, np.nan)
    image_ranks = np.full(pools.whole.n_images, np.nan)
    for captions, columns, part in pools.parts():
        ranks = retrieval.retrieval_ranks(
            speech[captions],
            images[columns],
            speech_groups=part.speech_groups,
            image_groups=part.image_groups,
            similarity=similarity,
        )
        speech_ranks[captions], image_ranks[columns] = ranks.speech_to_image, ranks.image_to_speech
    return retrieval.RetrievalRanks(speech_ranks, image_ranks)


def pooled_metrics(
    ranks: retrieval.RetrievalRanks, pools: ImagePools, *, seed: int, n_resamples: int = 2000
) -> dict[str, Metric]:
    """Compute R@1/5/10 (%) of both directions within pools, with chance and 95 % intervals.

    The intervals resample images; the pools stay as they are.
    """
    metrics = {}
    parts = [part for _, _, part in pools.parts()]
    for direction in retrieval.DIRECTIONS:
        found = ranks.direction(direction)
        queries, _ = pools.whole.sides(direction)
        sides = [part.sides(direction) for part in parts]
        for k in retrieval.RECALL_CUTOFFS:
            interval = bootstrap.percentage_interval(found <= k, queries, seed=seed, n_resamples=n_resamples)
            chances = [retrieval.chance_recall(*side, k) for side in sides]
            chance = float(np.average(chances, weights=[len(side[0]) for side in sides]))
            metrics[f"{direction}_r{k}"] = Metric(interval, len(found), chance, "%")
    return metrics


def pools_json(pools: ImagePools, *, seed: int) -> dict[str, Any]:
    """Return sizes, the rule and the seed, to stand beside the numbers."""
    parts = [part for _, _, part in pools.parts()]
    return {
        "n": pools.n_pools,
        "images": [part.n_images for part in parts],
        "captions": [part.n_captions for part in parts],
        "seed": seed,
        "rule": "disjoint pools, pictures of one group in one; mean over all queries, each within its pool",
    }


def format_table(models: Mapping[str, Mapping[str, Metric]]) -> str:
    """Lay out the recalls within pools: one row per model and direction, then chance.

    Args:
        models: row title -> metrics of `pooled_metrics`.
    """
    rows = [["", *(f"R@{k} % [95 % interval]" for k in retrieval.RECALL_CUTOFFS)]]
    for direction, title in DIRECTION_TITLES.items():
        names = [f"{direction}_r{k}" for k in retrieval.RECALL_CUTOFFS]
        rows.append([title])
        rows += [
            [f"  {model}", *(percentage(found[name]) for name in names)] for model, found in models.items()
        ]
        first = next(iter(models.values()))
        rows.append(["  chance", *(f"{first[name].chance:.1f}" for name in names)])
    return aligned(rows)


def describe(pools: Mapping[str, Any]) -> str:
    """Say how large the pools of `pools_json` are."""
    images, captions = _range(pools["images"]), _range(pools["captions"])
    return f"{pools['n']} disjoint pools of {images} images and {captions} captions"


def _range(sizes: list[int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low}-{high}"
