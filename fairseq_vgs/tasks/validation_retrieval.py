"""Retrieval over a whole validation set, from batches of all ranks.

Shapes: P pairs of a batch, C captions and I distinct pictures so far, E embedding dims.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from fairseq_vgs.losses import gather_ids, gather_with_gradient
from fairseq_vgs.metrics.retrieval import DIRECTIONS, RECALL_CUTOFFS, recalls, retrieval_ranks
from fairseq_vgs.modules.alone import mixes_padding, speech_embeddings

_RECALLS = (f"{direction}_r{k}" for direction in DIRECTIONS for k in RECALL_CUTOFFS)
METRIC_NAMES = (*_RECALLS, "retrieval_images", "retrieval_captions")


def validation_speech(
    model: Any, sample: Mapping[str, Any], embeddings: Mapping[str, Tensor], *, pad_to_max: bool
) -> Tensor:
    """Return the speech embeddings f[P, E] of a batch as evaluation computes them.

    They are those of the criterion unless padding influenced them: then the batch is embedded again.
    """
    net_input = sample["net_input"]
    if not callable(getattr(model, "encode_speech", None)) or not mixes_padding(model):
        return embeddings["speech"]
    with torch.no_grad():
        return speech_embeddings(model, net_input["source"], net_input["padding_mask"], pad_to_max=pad_to_max)


class RetrievalCollector:
    """Collects embeddings during a validation and ranks them on demand, by "dot" or "cosine" similarity.

    fairseq fills up the ranks' shares with copies of the first batch; every pair counts once.
    """

    def __init__(self, similarity: str) -> None:
        self.similarity = similarity
        self._values = dict.fromkeys(METRIC_NAMES, math.nan)
        self.reset()

    def reset(self) -> None:
        """Drop the embeddings before another validation set; keep the values until new ones are known."""
        self._begun: set[int] = set()
        self._pair_ids: set[int] = set()
        self._image_rows: set[int] = set()
        self._speech: list[Tensor] = []
        self._speech_groups: list[int] = []
        self._images: list[Tensor] = []
        self._image_groups: list[int] = []
        self._n_ranked = 0

    @property
    def n_pairs(self) -> int:
        """Number of different pairs collected, over all ranks."""
        return len(self._pair_ids)

    def begin(self, sample: Mapping[str, Any]) -> bool:
        """Register a batch before it is evaluated, and return whether it is a copy; a collective.

        When a rank has no batch left, or an empty one, fairseq gives it a copy of the first batch, possibly
        another rank's: earlier batches, or lower ranks now, hold all its pairs.
        """
        ids = sample["id"]
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        owned = gather_ids(torch.stack([ids, torch.full_like(ids, rank)], dim=1)).tolist()
        known = self._begun.union(pair_id for pair_id, owner in owned if owner < rank)
        self._begun.update(pair_id for pair_id, _ in owned)
        return known.issuperset(ids.tolist())

    def add(self, sample: Mapping[str, Any], embeddings: Mapping[str, Tensor]) -> None:
        """Add a batch (``id``, ``image_index``, ``image_id`` int64[P]) of every rank; a collective.

        ``embeddings`` are ``speech`` and ``image`` f[P, E].
        """
        ids = torch.stack([sample["id"], sample["image_index"], sample["image_id"]], dim=1)
        both = torch.cat([embeddings["speech"], embeddings["image"]], dim=1).detach().float()
        speech, images = gather_with_gradient(both).cpu().tensor_split(2, dim=1)
        numbers = gather_ids(ids.to(both.device)).tolist()
        for row, (pair_id, image_row, group) in enumerate(numbers):
            if pair_id not in self._pair_ids:
                self._pair_ids.add(pair_id)
                self._speech.append(speech[row])
                self._speech_groups.append(group)
            if image_row not in self._image_rows:
                self._image_rows.add(image_row)
                self._images.append(images[row])
                self._image_groups.append(group)

    def values(self, n_pairs: float) -> dict[str, float]:
        """Return all ``METRIC_NAMES``, recall in percent; NaN before the first validation.

        fairseq asks after every batch too. Ranking each time would be quadratic in the number of batches, so
        the ranks are computed only when the calling meters have seen all pairs collected so far, by their
        number ``n_pairs``; otherwise the latest values are returned.
        """
        if self.n_pairs and n_pairs >= self.n_pairs and self._n_ranked != self.n_pairs:
            self._values = self._rank()
            self._n_ranked = self.n_pairs
        return self._values

    def _rank(self) -> dict[str, float]:
        ranks = retrieval_ranks(
            torch.stack(self._speech),
            torch.stack(self._images),
            speech_groups=torch.tensor(self._speech_groups),
            image_groups=torch.tensor(self._image_groups),
            similarity=self.similarity,
        )
        n_images, n_captions = float(len(self._images)), float(len(self._speech))
        return {**recalls(ranks), "retrieval_images": n_images, "retrieval_captions": n_captions}
