"""Speech-image retrieval: ranks with mean ties, recall, and what chance would score.

Shapes: ``C`` captions (spoken), ``I`` distinct images, ``E`` embedding dims, ``Q`` queries, ``N`` gallery items.

Every caption queries the images (`speech_to_image`), every image queries the captions (`image_to_speech`). Items with
the same group number are correct answers for each other, so that an image with five captions has five positives, and
two copies of one picture are never each other's distractors. Recall counts queries with *any* positive in the top k.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

DIRECTIONS = ("speech_to_image", "image_to_speech")
RECALL_CUTOFFS = (1, 5, 10)
SIMILARITIES = ("dot", "cosine")

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Embeddings = Tensor | npt.NDArray[np.floating]
Groups = Tensor | npt.NDArray[np.integer]

_GALLERY_BLOCK = 2048  # gallery rows converted to float64 at once: 12 MB at 768 dims
_MAX_CHUNK_SCORES = 4_000_000  # scores held at once: bounds the memory for large galleries


@dataclass(frozen=True)
class RetrievalRanks:
    """Rank of the best correct answer of every query; 1 is best, ties count half (so ranks may end in .5).

    ``image_to_speech`` is NaN for an image without any caption: it is a distractor, not a query.
    """

    speech_to_image: FloatArray
    image_to_speech: FloatArray

    def direction(self, name: str) -> FloatArray:
        """Ranks of one of `DIRECTIONS`, distractors removed."""
        ranks: FloatArray = {"speech_to_image": self.speech_to_image, "image_to_speech": self.image_to_speech}[name]
        return ranks[~np.isnan(ranks)]


@dataclass(frozen=True)
class DirectionRanks:
    """Ranks of one direction, and the best-scoring gallery item of every query (its score too).

    Attributes:
        ranks: f64[Q], NaN for a query without a correct answer.
        top_index: int64[Q, K] gallery indices, best first; equal scores by gallery index.
        top_score: f32[Q, K] their similarities.
    """

    ranks: FloatArray
    top_index: IntArray
    top_score: npt.NDArray[np.float32]


def retrieval_ranks(
    speech: Embeddings,
    images: Embeddings,
    *,
    speech_groups: Groups,
    image_groups: Groups,
    similarity: str = "dot",
    chunk_size: int = 1024,
) -> RetrievalRanks:
    """Rank the images for every caption, and the captions for every image.

    rank = 1 + #(wrong answers above the best correct one) + 0.5 x #(wrong answers tied with it). An encoder that maps
    everything to one point thus gets the middle rank everywhere, not rank 1.

    Args:
        speech: f[C, E] caption embeddings.
        images: f[I, E] embeddings of the distinct images.
        speech_groups: int64[C] group of the image that each caption describes.
        image_groups: int64[I] group of each image.
        similarity: "dot" or "cosine".
        chunk_size: most queries scored at once (fewer where the gallery is large).

    Raises:
        ValueError: shapes that do not fit, non-finite embeddings, or a caption whose image is not in the pool.
    """
    towards_images = rank_gallery(
        speech, images, query_groups=speech_groups, gallery_groups=image_groups, similarity=similarity, chunk_size=chunk_size
    )
    lost = np.flatnonzero(np.isnan(towards_images.ranks))
    if lost.size:
        raise ValueError(
            f"caption {lost[0]}: expected its image in the pool, got none with its group "
            f"({lost.size} such captions); pass the image of every caption"
        )
    towards_speech = rank_gallery(
        images, speech, query_groups=image_groups, gallery_groups=speech_groups, similarity=similarity, chunk_size=chunk_size
    )
    return RetrievalRanks(speech_to_image=towards_images.ranks, image_to_speech=towards_speech.ranks)


def rank_gallery(
    queries: Embeddings,
    gallery: Embeddings,
    *,
    query_groups: Groups,
    gallery_groups: Groups,
    similarity: str = "dot",
    chunk_size: int = 1024,
    n_top: int = 0,
) -> DirectionRanks:
    """Rank one gallery for every query; also the ``n_top`` best items. NaN rank where a query has no correct answer.

    Scores are summed in float64 and compared in float32: the order in which a matrix product is summed may differ
    between columns, and must not decide between two equal embeddings.
    """
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity: expected one of {', '.join(SIMILARITIES)}, got {similarity!r}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size: expected at least 1, got {chunk_size}")
    query_rows, query_ids = _checked(queries, query_groups, "query")
    gallery_rows, gallery_ids = _checked(gallery, gallery_groups, "gallery")
    if query_rows.shape[1] != gallery_rows.shape[1]:
        raise ValueError(
            f"embeddings: expected equal dimensions, got {query_rows.shape[1]} and {gallery_rows.shape[1]}; "
            "use speech and image embeddings of one model"
        )
    gallery_ids = gallery_ids.to(query_rows.device)
    n_top = min(n_top, len(gallery_rows))
    ranks = np.empty(len(query_rows), dtype=np.float64)
    top_index = np.empty((len(query_rows), n_top), dtype=np.int64)
    top_score = np.empty((len(query_rows), n_top), dtype=np.float32)
    for part in _query_chunks(len(query_rows), len(gallery_rows), chunk_size):
        scores = _scores(query_rows[part], gallery_rows, cosine=similarity == "cosine")
        positive = query_ids[part].to(query_rows.device)[:, None] == gallery_ids[None, :]
        ranks[part] = _mean_tie_ranks(scores, positive).cpu().numpy()
        if n_top:
            order = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :n_top]
            top_index[part] = order.cpu().numpy()
            top_score[part] = scores.gather(1, order).cpu().numpy()
    return DirectionRanks(ranks=ranks, top_index=top_index, top_score=top_score)


def recall_at(ranks: FloatArray | Tensor, k: int) -> float:
    """Percentage of queries whose best correct answer is within the top ``k``; NaN ranks are no queries."""
    values = np.asarray(ranks, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan")
    return 100.0 * float(np.mean(values <= k))


def recalls(ranks: RetrievalRanks) -> dict[str, float]:
    """R@1, R@5 and R@10 of both directions in percent, keyed ``speech_to_image_r1`` and so on."""
    return {
        f"{direction}_r{k}": recall_at(ranks.direction(direction), k) for direction in DIRECTIONS for k in RECALL_CUTOFFS
    }


def median_rank(ranks: FloatArray) -> float:
    """Median rank of the best correct answer (NaN ranks left out)."""
    values = ranks[~np.isnan(ranks)]
    return float(np.median(values)) if values.size else float("nan")


def mean_reciprocal_rank(ranks: FloatArray) -> float:
    """Mean of 1/rank over queries, in 0..1 (NaN ranks left out)."""
    values = ranks[~np.isnan(ranks)]
    return float(np.mean(1.0 / values)) if values.size else float("nan")


def positives_per_query(query_groups: Groups, gallery_groups: Groups) -> IntArray:
    """int64[Q]: how many gallery items are correct answers for each query."""
    groups, counts = np.unique(np.asarray(gallery_groups), return_counts=True)
    lookup: Mapping[int, int] = dict(zip(groups.tolist(), counts.tolist(), strict=True))
    return np.array([lookup.get(group, 0) for group in np.asarray(query_groups).tolist()], dtype=np.int64)


def chance_hit_probability(n_gallery: int, n_positives: int, k: int) -> float:
    """Probability that a random order puts at least one of the positives in the top ``k`` (hypergeometric, exact)."""
    missed = 1.0
    for drawn in range(min(k, n_gallery)):
        missed *= max(n_gallery - n_positives - drawn, 0) / (n_gallery - drawn)
    return 1.0 - missed


def chance_recall(query_groups: Groups, gallery_groups: Groups, k: int) -> float:
    """R@k in percent that random orders reach on average; queries without a correct answer left out."""
    positives = positives_per_query(query_groups, gallery_groups)
    values, counts = np.unique(positives[positives > 0], return_counts=True)
    if not values.size:
        return float("nan")
    n_gallery = len(np.asarray(gallery_groups))
    hits = [chance_hit_probability(n_gallery, int(value), k) for value in values]
    return 100.0 * float(np.average(hits, weights=counts))


def chance_recalls(speech_groups: Groups, image_groups: Groups) -> dict[str, float]:
    """The six values of `recalls` at chance level."""
    sides = {"speech_to_image": (speech_groups, image_groups), "image_to_speech": (image_groups, speech_groups)}
    return {f"{name}_r{k}": chance_recall(*sides[name], k) for name in DIRECTIONS for k in RECALL_CUTOFFS}


def chance_rank_distribution(query_groups: Groups, gallery_groups: Groups) -> FloatArray:
    """f64[N]: probability of rank 1..N of the best correct answer in a random order, averaged over queries."""
    positives = positives_per_query(query_groups, gallery_groups)
    values, counts = np.unique(positives[positives > 0], return_counts=True)
    n_gallery = len(np.asarray(gallery_groups))
    total = np.zeros(n_gallery)
    above = np.arange(n_gallery)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        none_yet = np.cumprod(np.maximum(n_gallery - value - above, 0) / (n_gallery - above))
        total += count * -np.diff(none_yet, prepend=1.0)
    return total / max(int(counts.sum()), 1)


def chance_median_rank(query_groups: Groups, gallery_groups: Groups) -> float:
    """Median rank of the best correct answer in random orders."""
    reached = np.cumsum(chance_rank_distribution(query_groups, gallery_groups))
    return float(np.searchsorted(reached, 0.5 - 1e-12) + 1)


def chance_mean_reciprocal_rank(query_groups: Groups, gallery_groups: Groups) -> float:
    """Expected reciprocal rank of the best correct answer in random orders."""
    probability = chance_rank_distribution(query_groups, gallery_groups)
    return float(np.sum(probability / np.arange(1, len(probability) + 1)))


def _checked(embeddings: Embeddings, groups: Groups, side: str) -> tuple[Tensor, Tensor]:
    rows = torch.as_tensor(embeddings).detach()
    ids = torch.as_tensor(groups).detach().to(torch.int64)
    if rows.ndim != 2 or not rows.is_floating_point():
        raise ValueError(f"{side} embeddings: expected a float matrix, got {rows.dtype} of shape {tuple(rows.shape)}")
    if not len(rows):
        raise ValueError(f"{side} embeddings: expected at least one row, got none; check that the split is not empty")
    if ids.shape != (len(rows),):
        raise ValueError(f"{side} groups: expected one number per embedding ({len(rows)}), got shape {tuple(ids.shape)}")
    # Sums stay small in memory where isfinite on the whole matrix would not; a sum of finite float32 is finite in float64.
    finite = torch.isfinite(rows.sum(dim=1, dtype=torch.float64))
    if not bool(finite.all()):
        bad = torch.nonzero(~finite).flatten().tolist()
        raise ValueError(
            f"{side} embeddings: expected finite numbers, got NaN or infinity in {len(bad)} of {len(rows)} rows "
            f"(first: row {bad[0]}); look for a diverged run or a faulty input"
        )
    return rows, ids


def _query_chunks(n_queries: int, n_gallery: int, chunk_size: int) -> Iterator[slice]:
    size = max(1, min(chunk_size, _MAX_CHUNK_SCORES // n_gallery))
    for start in range(0, n_queries, size):
        yield slice(start, min(start + size, n_queries))


def _scores(queries: Tensor, gallery: Tensor, *, cosine: bool) -> Tensor:
    """f32[Q, N] similarities, converted to float64 block by block to keep the memory small."""
    wide_queries = _wide(queries, cosine=cosine)
    scores = torch.empty(len(queries), len(gallery), dtype=torch.float32, device=queries.device)
    for start in range(0, len(gallery), _GALLERY_BLOCK):
        block = _wide(gallery[start : start + _GALLERY_BLOCK].to(queries.device), cosine=cosine)
        scores[:, start : start + _GALLERY_BLOCK] = wide_queries @ block.T
    return scores


def _wide(rows: Tensor, *, cosine: bool) -> Tensor:
    wide = rows.to(torch.float64)
    # An all-zero embedding has no direction; the floor leaves its similarities at 0 instead of NaN.
    return wide / wide.norm(dim=1, keepdim=True).clamp_min(1e-12) if cosine else wide


def _mean_tie_ranks(scores: Tensor, positive: Tensor) -> Tensor:
    best = scores.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True)
    above = (scores > best).sum(dim=1)  # no positive is above the best positive
    tied = (scores == best).logical_and_(~positive).sum(dim=1)
    ranks = 1.0 + above.to(torch.float64) + 0.5 * tied
    return ranks.masked_fill(~positive.any(dim=1), torch.nan)
