"""Lexical test: are the nearest tokens of a spoken word tokens of the same word?

The definition of CDI-Lextest and COCO-Lextest (Khorrami, Cruz Blandon and Räsänen, CogSci 2023): every token
ranks the tokens of all other folds; of the k nearest, k being the number of its word's other tokens, the
share that are the same word is its recall. Fold i holds the i-th token of every word (in CDI-Lextest one
speaker and style), so that a token is never compared with other words said in the same way.

Embeddings of whole words are compared by cosine distance, sequences of frames by dynamic time warping: the
least sum of Euclidean frame distances along a path, not divided by its length.

On the log-mel examples of both repositories this gives the recalls that they publish: 17.10 % and 47.08 %
(CDI-Lextest, words and frames), 0.208 and 0.568 (COCO-Lextest); ``benchmarks/lextest.py`` repeats it.

Shapes: N tokens, P tokens of a pool, T frames of one token, F the most frames of a pool, D dims.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairseq_vgs.arrays import F64, I64, Bool
from fairseq_vgs.files.faults import Fault, FaultError, raise_any

_MAX_CELLS = 4_000_000  # frame distances held at once
_DECIMALS = 10  # of cosine distances that are compared


@dataclass(frozen=True)
class LexicalResult:
    """What was measured of one set of tokens.

    ``words`` has the word of each token that has another token, ``recall`` (f64[tokens]) the share (0..1) of
    its nearest tokens that are the same word. ``chance`` is the recall of a random order, and of features
    that are all equal. The ``n_single`` other tokens are in the pools, but ask nothing.
    """

    words: tuple[str, ...]
    recall: F64
    chance: float
    n_single: int

    @cached_property
    def by_word(self) -> dict[str, float]:
        """Mean recall of each word's tokens, in the words' order."""
        words, number = np.unique(self.words, return_inverse=True)
        means = np.bincount(number, weights=self.recall) / np.bincount(number)
        return dict(zip(words.tolist(), means.tolist(), strict=True))

    @property
    def overall(self) -> float:
        """Mean over words of the mean over their tokens."""
        return float(np.mean(list(self.by_word.values())))


def folds(words: Sequence[str]) -> I64:
    """Return int64[N]: tokens of each word numbered from 0."""
    counters: defaultdict[str, Iterator[int]] = defaultdict(count)
    return np.array([next(counters[word]) for word in words], dtype=np.int64)


def vector_recall(embeddings: Tensor, words: Sequence[str]) -> LexicalResult:
    """Score one embedding per token.

    Cosine distances are computed in float64 and compared to 1e-10: the last digits of a product depend on its
    place in the matrix, so equal embeddings would not tie.

    Args:
        embeddings: f[N, D].
        words: word of each token, in the order that makes the folds.

    Raises:
        FaultError: no word has two tokens, all tokens are in one fold, or numbers that are not finite.
    """
    _check(words, [embeddings[index : index + 1] for index in range(len(words))])
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    return _score(words, (1.0 - unit @ unit.T).round(decimals=_DECIMALS).cpu().numpy())


def frame_recall(
    features: Sequence[Tensor], words: Sequence[str], *, device: str | torch.device = "cpu"
) -> LexicalResult:
    """Score sequences of frames.

    Distances are summed in float64 and compared in float32, so that equal ones tie however they were summed.

    Args:
        features: f[T, D] of each token; frames with NaN in them are skipped, as the originals do.
        words: word of each token, in the order that makes the folds.
        device: where to warp.

    Raises:
        FaultError: as ``vector_recall``, or a token without frames.
    """
    kept = [frames[~frames.isnan().any(dim=1)].double().to(device) for frames in features]
    _check(words, kept)
    return _score(words, _warped_distances(kept).float().cpu().numpy())


def _check(words: Sequence[str], features: Sequence[Tensor]) -> None:
    if len(words) != len(features):
        raise ValueError(f"lexical test: expected as many words as tokens, got {len(words)}, {len(features)}")
    raise_any(_faults(words, features))
    if len(set(words)) == len(words):
        found = f"{len(words)} tokens of {len(words)} words"
        message = f"a word must have at least two tokens, got {found}; give more tokens"
        raise FaultError.at("lexical test", message, "recording.word")


def _faults(words: Sequence[str], features: Sequence[Tensor]) -> Iterator[Fault]:
    for number, (word, frames) in enumerate(zip(words, features, strict=True)):
        place = f"token {number} ({word})"
        if not len(frames):
            yield Fault(place, "token must have a frame, has none; leave it out", "sound.length")
        elif not bool(torch.isfinite(frames).all()):
            yield Fault(place, "features must be finite numbers; check the model", "features.not_finite")


def _score(words: Sequence[str], distances: npt.NDArray[Any]) -> LexicalResult:
    fold, counts = folds(words), Counter(words)
    labels = np.array(words)
    asked = [query for query, word in enumerate(words) if counts[word] > 1]
    recalls, chances = [], []
    for query in asked:
        pool, k = np.flatnonzero(fold != fold[query]), counts[words[query]] - 1
        recalls.append(_share_of_nearest(distances[query, pool], labels[pool] == words[query], k))
        chances.append(k / len(pool))
    # Words count alike in the overall recall, however many tokens they have; so they do in chance.
    chance = float(np.average(chances, weights=[1.0 / counts[words[query]] for query in asked]))
    found = tuple(words[query] for query in asked)
    return LexicalResult(found, np.array(recalls), chance, len(words) - len(asked))


def _share_of_nearest(distance: npt.NDArray[Any], same: Bool, k: int) -> float:
    """Return the share of ``same`` among the k nearest, in expectation over the order of ties.

    The originals take ties in the order of the files; without ties the results are the same.
    """
    last = np.partition(distance, k - 1)[k - 1]
    nearer, tied = distance < last, distance == last
    share = (k - nearer.sum()) / tied.sum()
    return float((same[nearer].sum() + share * same[tied].sum()) / k)


def _warped_distances(features: Sequence[Tensor]) -> Tensor:
    """Return f64[N, N]; each pair once, since warping is symmetric."""
    n_tokens = len(features)
    lengths = torch.tensor([len(frames) for frames in features])
    distances = torch.zeros(n_tokens, n_tokens, dtype=torch.float64)
    # In order of length, so that little is computed beyond a token's end.
    order = torch.argsort(lengths, stable=True).tolist()
    for place, query in enumerate(order):
        rest = order[place + 1 :]
        while rest:
            most = max(1, _MAX_CELLS // (len(features[query]) * len(features[rest[-1]])))
            chunk, rest = rest[:most], rest[most:]
            pool = torch.nn.utils.rnn.pad_sequence([features[index] for index in chunk], batch_first=True)
            found = warped_distance(features[query], pool, lengths[chunk]).cpu()
            distances[query, chunk] = distances[chunk, query] = found
    return distances


def warped_distance(query: Tensor, pool: Tensor, lengths: Tensor) -> Tensor:
    """Return f64[P], the least sum of frame distances along a warping path, from one token to others.

    A row of the table follows from the one above without a loop over its cells: the cost of reaching cell j
    along the row from cell i is a difference of the row's running sums, so that the best i is a running
    minimum.

    Args:
        query: f64[T, D].
        pool: f64[P, F, D]; what lies beyond a token's own length does not matter, if finite.
        lengths: int64[P] frames of each, 1..F.
    """
    # cdist's products would lose the small distances that decide between neighbours.
    cost = torch.cdist(query[None], pool, compute_mode="donot_use_mm_for_euclid_dist").transpose(0, 1)
    total = cost[0].cumsum(dim=1)
    for row in cost[1:]:
        sums = row.cumsum(dim=1)
        corner = torch.nn.functional.pad(total[:, :-1], (1, 0), value=torch.inf)
        enter = torch.minimum(total, corner) - (sums - row)
        total = sums + enter.cummin(dim=1).values
    return total.gather(1, lengths.to(total.device)[:, None] - 1).squeeze(1)
