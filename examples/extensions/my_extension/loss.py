"""A VGS loss with its own setting: hinges over all triplets (Harwath et al. 2016), averaged.

Legend: `N` pairs of the global batch.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fairseq_vgs.losses import LOSSES, ContrastiveLoss


@LOSSES.register("triplet")
@dataclass(frozen=True)
class Triplet:
    """Every wrong pair should score less than the right one, by a margin.

    Attributes:
        triplet_margin: the margin, in units of similarity.
    """

    triplet_margin: float = 1.0
    learned: ClassVar[tuple[str, ...]] = ()  # or "logit_scale", "logit_bias": the model's learned scalars

    def __call__(self, similarity: Tensor, image_ids: Tensor, **_: Tensor) -> ContrastiveLoss:
        """Return mean hinges, from f[N, N] similarities: speech rows, image columns."""
        similarity = similarity.float()
        wrong = image_ids.unsqueeze(1) != image_ids.unsqueeze(0)  # not the same picture
        right = similarity.diagonal()
        speech_to_image = self._hinges(similarity - right.unsqueeze(1), wrong)
        image_to_speech = self._hinges(similarity - right.unsqueeze(0), wrong)
        return ContrastiveLoss(speech_to_image + image_to_speech, speech_to_image, image_to_speech)

    def _hinges(self, excess: Tensor, wrong: Tensor) -> Tensor:
        hinges = torch.relu(self.triplet_margin + excess).masked_fill(~wrong, 0.0)
        return hinges.sum() / wrong.sum().clamp(min=1)
