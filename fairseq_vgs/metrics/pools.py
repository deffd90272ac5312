"""Pools of retrieval: what is retrieved from what, all together or within disjoint parts.

For folds, images are dealt at random into disjoint pools of (nearly) equal size, images of one group into one
pool; captions go with their images, and every query ranks its own pool. A recall is the mean over all
queries. It is higher in smaller pools, so pool sizes are part of the result.

Shapes: ``C`` captions, ``I`` images, ``E`` embedding dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fairseq_vgs.arrays import F32, I64, np
from fairseq_vgs.files.faults import FaultError, fault

if TYPE_CHECKING:
    from fairseq_vgs.metrics.retrieval import RetrievalRanks


@dataclass(frozen=True)
class Pool:
    """What is retrieved from what: int64[C] image group of each caption, int64[I] group of each image."""

    speech_groups: I64
    image_groups: I64

    @property
    def n_captions(self) -> int:
        """Number of captions."""
        return len(self.speech_groups)

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.image_groups)

    def sides(self, direction: str) -> tuple[I64, I64]:
        """Return the groups of the queries (those with a correct answer) and of the gallery."""
        if direction == "speech_to_image":
            return self.speech_groups, self.image_groups
        return self.image_groups[np.isin(self.image_groups, self.speech_groups)], self.speech_groups

    def as_json(self) -> dict[str, object]:
        """Return sizes and rules, in words that explain a value."""
        return {
            "images": self.n_images,
            "captions": self.n_captions,
            "image_groups": len(np.unique(self.image_groups)),
            "speech_to_image": f"{self.n_captions} captions, each ranks {self.n_images} images",
            "image_to_speech": f"{len(self.sides('image_to_speech')[0])} images, each ranks "
            f"{self.n_captions} captions; a hit if any caption of its image is within the top k",
            "ties": "wrong answers tied with the best correct one count half",
        }


@dataclass(frozen=True)
class Folds:
    """A split's captions and images, dealt into pools; ``image_pools``: int64[I], 0..n_pools-1."""

    whole: Pool
    image_pools: I64
    n_pools: int
    seed: int

    @cached_property
    def speech_pools(self) -> I64:
        """int64[C] pool of each caption: that of its image group."""
        groups, first = np.unique(self.whole.image_groups, return_index=True)
        return np.asarray(self.image_pools[first][np.searchsorted(groups, self.whole.speech_groups)])

    def parts(self) -> Iterator[tuple[I64, I64, Pool]]:
        """Yield, per pool, the rows of its captions and of its images, and their groups."""
        for number in range(self.n_pools):
            captions = np.flatnonzero(self.speech_pools == number)
            images = np.flatnonzero(self.image_pools == number)
            part = Pool(self.whole.speech_groups[captions], self.whole.image_groups[images])
            yield captions, images, part

    def as_json(self) -> dict[str, Any]:
        """Return sizes, the rule and the seed, to explain the values."""
        parts = [part for _, _, part in self.parts()]
        return {
            "n": self.n_pools,
            "images": [part.n_images for part in parts],
            "captions": [part.n_captions for part in parts],
            "seed": self.seed,
            "rule": "disjoint pools, pictures of one group in one; mean over queries, each within its pool",
        }


def deal_images(whole: Pool, n_pools: int, *, seed: int) -> Folds:
    """Deal the images into disjoint pools.

    Groups that have captions and groups without are dealt one after the other: every pool has queries.

    Raises:
        FaultError: ``setting.value``, fewer than 2 pools, or fewer image groups with captions than pools.
    """
    groups = np.unique(whole.image_groups)
    spoken = np.isin(groups, whole.speech_groups)
    n_spoken = int(spoken.sum())
    if n_spoken < 2:
        expected = "split must have at least 2 image groups with captions"
        step = "leave --folds out, or take a larger split"
        raise FaultError(fault("folds", expected, n_spoken, step, code="setting.value"))
    if not 2 <= n_pools <= n_spoken:
        expected = f"must be from 2 to {n_spoken}, the image groups with captions"
        step = "give fewer, or take a larger split"
        raise FaultError(fault("folds", expected, n_pools, step, code="setting.value"))
    order = np.random.default_rng(seed).permutation(len(groups))
    order = np.concatenate([order[spoken[order]], order[~spoken[order]]])
    pool_of_group = np.empty(len(groups), dtype=np.int64)
    pool_of_group[order] = np.arange(len(groups)) % n_pools
    return Folds(whole, pool_of_group[np.searchsorted(groups, whole.image_groups)], n_pools, seed)


def fold_ranks(speech: F32, images: F32, folds: Folds, *, similarity: str = "dot") -> RetrievalRanks:
    """Rank within pools; shapes, ties and NaN as in ``metrics.retrieval.retrieval_ranks``."""
    from fairseq_vgs.metrics import retrieval

    speech_ranks = np.full(folds.whole.n_captions, np.nan)
    image_ranks = np.full(folds.whole.n_images, np.nan)
    for captions, columns, part in folds.parts():
        ranks = retrieval.retrieval_ranks(
            speech[captions],
            images[columns],
            speech_groups=part.speech_groups,
            image_groups=part.image_groups,
            similarity=similarity,
        )
        speech_ranks[captions], image_ranks[columns] = ranks.speech_to_image, ranks.image_to_speech
    return retrieval.RetrievalRanks(speech_ranks, image_ranks)


def chance_values(pool: Pool) -> dict[str, float]:
    """Return what random orders score on every metric."""
    from fairseq_vgs.metrics import retrieval

    found = retrieval.chance_recalls(pool.speech_groups, pool.image_groups)
    for direction in retrieval.DIRECTIONS:
        sides = pool.sides(direction)
        found[f"{direction}_median_rank"] = retrieval.chance_median_rank(*sides)
        found[f"{direction}_mrr"] = retrieval.chance_mean_reciprocal_rank(*sides)
    return found


def within_pools(folds: Mapping[str, Any]) -> str:
    """Return a suffix that tells metrics within these pools from others, given ``Folds.as_json``."""
    images, captions = (
        "-".join(str(size) for size in sorted({min(found), max(found)}))
        for found in (folds["images"], folds["captions"])
    )
    pools = f"{folds['n']} disjoint pools of {images} images and {captions} captions"
    return f", within {pools} (seed {folds['seed']})"
