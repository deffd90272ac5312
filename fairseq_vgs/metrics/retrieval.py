"""Speech-image retrieval: ranks with mean ties, recall, and what chance would score.

Shapes: ``C`` captions, ``I`` distinct images, ``E`` embedding dims, ``Q`` queries, ``N`` gallery items.

Every caption queries the images (``speech_to_image``), every image the captions (``image_to_speech``).
Items with the same group number are correct answers for each other, so that an image with five captions has
five positives, and two copies of one image are never each other's distractors. Recall counts queries with
*any* positive in the top k.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairseq_vgs.arrays import F32, F64, I64

DIRECTIONS = ("speech_to_image", "image_to_speech")
RECALL_CUTOFFS = (1, 5, 10)
SIMILARITIES = ("dot", "cosine")

Embeddings = Tensor | npt.NDArray[np.floating]
Groups = Tensor | npt.NDArray[np.integer]

_CHUNK, _GALLERY_BLOCK = 1024, 2048  # queries and gallery rows scored at once, in float64: 17 MB
_MAX_CHUNK_SCORES = 4_000_000  # scores sorted at once: bounds the memory for large galleries


@dataclass(frozen=True)
class RetrievalRanks:
    """Rank of the best correct answer of every query; 1 is best, ties count half (so ranks may end in .5).

    ``image_to_speech`` is NaN for an image without any caption: it is a distractor, not a query.
    """

    speech_to_image: F64
    image_to_speech: F64

    def direction(self, name: str) -> F64:
        """Return the ranks of one of ``DIRECTIONS``, distractors removed."""
        ranks = self.speech_to_image if name == "speech_to_image" else self.image_to_speech
        return ranks[~np.isnan(ranks)]


@dataclass(frozen=True)
class TopItems:
    """The best gallery rows of every query, int64[Q, K] (ties in gallery order), and f32[Q, K] scores."""

    index: I64
    score: F32


@dataclass(frozen=True)
class RankedItem:
    """A gallery item as answer to one query; ties count half in the rank of an item below the best ones."""

    item: int
    rank: float
    score: float
    is_correct: bool
    is_below: bool = False


def retrieval_ranks(
    speech: Embeddings,
    images: Embeddings,
    *,
    speech_groups: Groups,
    image_groups: Groups,
    similarity: str = "dot",
    chunk_size: int = _CHUNK,
) -> RetrievalRanks:
    """Rank the images for every caption, and the captions for every image.

    rank = 1 + #(wrong answers above the best correct one) + 0.5 x #(wrong answers tied with it). An encoder
    that maps everything to one point thus gets the middle rank everywhere, not rank 1.

    Scores are summed in float64 and compared in float32: the order in which a product is summed differs
    between places of a matrix, and must not decide between two equal embeddings.

    Args:
        speech: f[C, E] caption embeddings.
        images: f[I, E] embeddings of the distinct images.
        speech_groups: int64[C] group of the image that each caption describes.
        image_groups: int64[I] group of each image.
        similarity: "dot" or "cosine".
        chunk_size: most captions scored at once.

    Raises:
        ValueError: shapes that do not fit, non-finite embeddings, or a caption whose image is not there.
    """
    rows, row_groups = _checked(speech, speech_groups, "speech")
    columns, column_groups = _checked(images, image_groups, "image")
    cosine = _is_cosine(similarity, rows, columns)
    columns, column_groups = columns.to(rows.device), column_groups.to(rows.device)
    positives = _Positives(rows, columns, row_groups, column_groups, cosine=cosine)
    parts = list(_slices(len(rows), chunk_size))
    best_caption = torch.full((len(columns),), -torch.inf, device=rows.device)
    for part in parts:
        pairs, values = positives.of(part)
        best_caption.scatter_reduce_(0, pairs[1], values, "amax")

    speech_ranks = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    column_count = torch.zeros(len(columns), dtype=torch.float64, device=rows.device)
    for part in parts:
        # The same numbers as above, not the matrix's: one value per pair, whichever direction asks.
        pairs, values = positives.of(part)
        best_image = torch.full((part.stop - part.start,), -torch.inf, device=rows.device)
        best_image.scatter_reduce_(0, pairs[0], values, "amax")
        row_count = torch.zeros(len(best_image), dtype=torch.float64, device=rows.device)
        for block, scores in _blocks(rows[part], columns, cosine=cosine):
            scores[_within(pairs, block)] = -torch.inf  # only wrong answers are counted
            row_count += _count_above(scores, best_image[:, None], dim=1)
            column_count[block] += _count_above(scores, best_caption[None, block], dim=0)
        speech_ranks[part] = _ranks(row_count, best_image)
    _refuse_lost_captions(speech_ranks)
    return RetrievalRanks(speech_ranks.cpu().numpy(), _ranks(column_count, best_caption).cpu().numpy())


def top_items(
    queries: Embeddings, gallery: Embeddings, *, n_top: int, similarity: str = "dot", chunk_size: int = _CHUNK
) -> TopItems:
    """Return the ``n_top`` best gallery items of every query (all of them where the gallery is smaller)."""
    query_rows, _ = _checked(queries, None, "query")
    gallery_rows, _ = _checked(gallery, None, "gallery")
    cosine = _is_cosine(similarity, query_rows, gallery_rows)
    n_top = min(n_top, len(gallery_rows))
    index = np.empty((len(query_rows), n_top), dtype=np.int64)
    score = np.empty((len(query_rows), n_top), dtype=np.float32)
    for part in _slices(len(query_rows), min(chunk_size, max(1, _MAX_CHUNK_SCORES // len(gallery_rows)))):
        scores = torch.cat([found for _, found in _blocks(query_rows[part], gallery_rows, cosine=cosine)], 1)
        order = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :n_top]
        index[part] = order.cpu().numpy()
        score[part] = scores.gather(1, order).cpu().numpy()
    return TopItems(index=index, score=score)


def nearest_both_ways(
    speech: Embeddings, images: Embeddings, *, similarity: str = "dot"
) -> tuple[TopItems, TopItems]:
    """Return the best image of every caption and the best caption of every image, scoring each pair once.

    They are what ``top_items`` returns with ``n_top=1``, in much less time.
    """
    rows, columns = _checked(speech, None, "speech")[0], _checked(images, None, "image")[0]
    cosine = _is_cosine(similarity, rows, columns)
    found = [
        (torch.full((len(side),), -torch.inf), torch.zeros(len(side), dtype=torch.int64))
        for side in (rows, columns)
    ]
    for part in _slices(len(rows), _CHUNK):
        for block, scores in _blocks(rows[part], columns, cosine=cosine):
            for (best, index), own, other, dim in zip(
                found, (part, block), (block, part), (1, 0), strict=True
            ):
                place = scores.argmax(dim=dim)  # the first of equal ones
                score = scores.gather(dim, place.unsqueeze(dim)).squeeze(dim).cpu()
                better = score > best[own]
                index[own][better] = place.cpu()[better] + other.start
                best[own][better] = score[better]
    to_image, to_speech = (TopItems(index[:, None].numpy(), best[:, None].numpy()) for best, index in found)
    return to_image, to_speech


def best_answers(
    query: Embeddings,
    gallery: Embeddings,
    is_correct: npt.NDArray[np.bool_],
    *,
    n_top: int,
    similarity: str = "dot",
) -> list[RankedItem]:
    """List the best gallery items for one query, then the best correct one if it is not among them.

    Args:
        query: f[1, E].
        gallery: f[N, E].
        is_correct: bool[N]; all false if the correct answer is unknown.
        n_top: how many.
        similarity: "dot" or "cosine".
    """
    top = top_items(query, gallery, n_top=len(gallery), similarity=similarity)
    order, scores = top.index[0], top.score[0]
    best = [
        RankedItem(int(item), place, float(score), bool(is_correct[item]))
        for place, (item, score) in enumerate(zip(order[:n_top], scores, strict=False), start=1)
    ]
    correct = np.flatnonzero(is_correct[order])
    if not len(correct) or correct[0] < n_top:
        return best
    score, wrong = scores[correct[0]], scores[~is_correct[order]]
    rank = 1 + np.count_nonzero(wrong > score) + 0.5 * np.count_nonzero(wrong == score)
    return [*best, RankedItem(int(order[correct[0]]), float(rank), float(score), True, is_below=True)]


def recall_at(ranks: F64 | Tensor, k: int) -> float:
    """Return the percentage of queries with a correct answer in the top ``k``; NaN ranks do not count."""
    values = np.asarray(ranks, dtype=np.float64)
    values = values[~np.isnan(values)]
    return 100.0 * float(np.mean(values <= k)) if values.size else float("nan")


def recalls(ranks: RetrievalRanks) -> dict[str, float]:
    """Return R@1, R@5 and R@10 of both directions in percent, keyed ``speech_to_image_r1`` and so on."""
    return {
        f"{direction}_r{k}": recall_at(ranks.direction(direction), k)
        for direction in DIRECTIONS
        for k in RECALL_CUTOFFS
    }


def positives_per_query(query_groups: Groups, gallery_groups: Groups) -> I64:
    """Return int64[Q]: how many gallery items are correct answers for each query."""
    counts = Counter(np.asarray(gallery_groups).tolist())
    return np.array([counts[group] for group in np.asarray(query_groups).tolist()], dtype=np.int64)


def chance_hit_probability(n_gallery: int, n_positives: int, k: int) -> float:
    """Return the probability that a random order has a positive in its top ``k`` (hypergeometric)."""
    missed = 1.0
    for drawn in range(min(k, n_gallery)):
        missed *= max(n_gallery - n_positives - drawn, 0) / (n_gallery - drawn)
    return 1.0 - missed


def chance_recall(query_groups: Groups, gallery_groups: Groups, k: int) -> float:
    """Return the mean R@k of random orders in percent; queries without a correct answer are left out."""
    positives = positives_per_query(query_groups, gallery_groups)
    values, counts = np.unique(positives[positives > 0], return_counts=True)
    if not values.size:
        return float("nan")
    n_gallery = len(np.asarray(gallery_groups))
    hits = [chance_hit_probability(n_gallery, int(value), k) for value in values]
    return 100.0 * float(np.average(hits, weights=counts))


def chance_recalls(speech_groups: Groups, image_groups: Groups) -> dict[str, float]:
    """Return the six values of ``recalls`` at chance level."""
    sides = ((speech_groups, image_groups), (image_groups, speech_groups))
    return {
        f"{name}_r{k}": chance_recall(*side, k)
        for name, side in zip(DIRECTIONS, sides, strict=True)
        for k in RECALL_CUTOFFS
    }


def chance_rank_distribution(query_groups: Groups, gallery_groups: Groups) -> F64:
    """Return f64[N]: probability of rank 1..N of the best correct answer, mean over queries."""
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
    """Return the median rank of the best correct answer in random orders."""
    reached = np.cumsum(chance_rank_distribution(query_groups, gallery_groups))
    return float(np.searchsorted(reached, 0.5 - 1e-12) + 1)


def chance_mean_reciprocal_rank(query_groups: Groups, gallery_groups: Groups) -> float:
    """Return the expected reciprocal rank of the best correct answer in random orders."""
    probability = chance_rank_distribution(query_groups, gallery_groups)
    return float(np.sum(probability / np.arange(1, len(probability) + 1)))


def _checked(embeddings: Embeddings, groups: Groups | None, side: str) -> tuple[Tensor, Tensor]:
    rows = torch.as_tensor(embeddings).detach()
    if rows.ndim != 2 or not rows.is_floating_point():
        raise ValueError(f"{side} embeddings: expected a float matrix, got {rows.dtype} {tuple(rows.shape)}")
    if not len(rows):
        raise ValueError(
            f"{side} embeddings: expected at least one row, got none; check that it is not empty"
        )
    ids = torch.arange(len(rows)) if groups is None else torch.as_tensor(groups).detach().to(torch.int64)
    if ids.shape != (len(rows),):
        raise ValueError(
            f"{side} groups: expected one number per embedding ({len(rows)}), got {tuple(ids.shape)}"
        )
    # A sum needs no copy of the matrix; it is finite only if all terms are (and may overflow even then).
    suspects = torch.nonzero(~torch.isfinite(rows.sum(dim=1))).flatten()
    bad = suspects[~torch.isfinite(rows[suspects]).all(dim=1)].tolist()
    if bad:
        raise ValueError(
            f"{side} embeddings: expected finite numbers, got NaN or infinity in {len(bad)} of {len(rows)} "
            f"rows (first: row {bad[0]}); look for a diverged run or a faulty input"
        )
    return rows, ids.to(rows.device)


def _is_cosine(similarity: str, rows: Tensor, columns: Tensor) -> bool:
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity: expected one of {', '.join(SIMILARITIES)}, got {similarity!r}")
    if rows.shape[1] != columns.shape[1]:
        raise ValueError(
            f"embeddings: expected equal dimensions, got {rows.shape[1]} and {columns.shape[1]}; "
            "use speech and image embeddings of one model"
        )
    return similarity == "cosine"


def _ranks(n_above: Tensor, best: Tensor) -> Tensor:
    return (1.0 + n_above).masked_fill(best == -torch.inf, torch.nan)


def _refuse_lost_captions(speech_ranks: Tensor) -> None:
    lost = torch.nonzero(torch.isnan(speech_ranks)).flatten().tolist()
    if lost:
        raise ValueError(
            f"caption {lost[0]}: expected its image in the pool, got no image of its group "
            f"({len(lost)} such captions); pass the image of every caption"
        )


def _slices(n: int, size: int) -> Iterator[slice]:
    if size < 1:
        raise ValueError(f"chunk_size: expected at least 1, got {size}")
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


class _Positives:
    """The correct answers: pairs of a caption (row) and an image (column) of one group."""

    def __init__(
        self, rows: Tensor, columns: Tensor, row_groups: Tensor, column_groups: Tensor, *, cosine: bool
    ) -> None:
        self._rows, self._columns, self._cosine = rows, columns, cosine
        groups, self._order = column_groups.sort(stable=True)
        self._first = torch.searchsorted(groups, row_groups)
        self._n = torch.searchsorted(groups, row_groups, right=True) - self._first

    def of(self, part: slice) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return pairs of some rows, counted from the first, by column, and f32[pairs] similarities."""
        n = self._n[part]
        row = torch.repeat_interleave(torch.arange(len(n), device=n.device), n)
        place = torch.arange(len(row), device=n.device) - (n.cumsum(0) - n)[row]
        column, order = self._order[self._first[part][row] + place].sort(stable=True)
        row = row[order]
        rows = self._rows[part]
        values = torch.empty(len(row), device=n.device)
        for some in _slices(len(row), _GALLERY_BLOCK):
            first, second = rows[row[some]], self._columns[column[some]]
            products = _wide(first, cosine=self._cosine) * _wide(second, cosine=self._cosine)
            values[some] = products.sum(dim=1).to(torch.float32)
        return (row, column), values


def _within(pairs: tuple[Tensor, Tensor], block: slice) -> tuple[Tensor, Tensor]:
    """Return the pairs, sorted by column, whose column is in a block, counted from its first."""
    edges = torch.tensor([block.start, block.stop], device=pairs[1].device)
    first, last = torch.searchsorted(pairs[1], edges).tolist()
    return pairs[0][first:last], pairs[1][first:last] - block.start


def _blocks(rows: Tensor, columns: Tensor, *, cosine: bool) -> Iterator[tuple[slice, Tensor]]:
    """Yield the similarities of rows with a block of columns at a time: f32[rows, block].

    Both sides are cut, as converting all columns for few rows would take longer than their product.
    """
    wide = _wide(rows, cosine=cosine)
    for block in _slices(len(columns), _GALLERY_BLOCK):
        part = _wide(columns[block].to(rows.device), cosine=cosine)
        yield block, (wide @ part.T).to(torch.float32)


def _wide(rows: Tensor, *, cosine: bool) -> Tensor:
    wide = rows.to(torch.float64)
    # An all-zero embedding has no direction; the floor leaves its similarities at 0 instead of NaN.
    return wide / wide.norm(dim=1, keepdim=True).clamp_min(1e-12) if cosine else wide


def _count_above(scores: Tensor, best: Tensor, *, dim: int) -> Tensor:
    """f64: how many scores lie above ``best``, plus half of those equal to it."""
    # A difference of two floats is 0 only if they are equal, and its sign is exact.
    above_minus_below = torch.sub(scores, best).sign_().sum(dim=dim)
    return 0.5 * (scores.shape[dim] + above_minus_below.to(torch.float64))
