"""Contrastive losses between spoken captions and images.

All take similarities `[N, N]` of the N pairs of the (global) batch (speech rows x image columns; the diagonal
holds the true pairs) and the ids of the images, int `[N]`: pairs off the diagonal whose ids are equal show
the same (or an interchangeable) image and are neither positives nor negatives. Values are in nats, averaged
per pair, computed in float32 under any autocast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_vgs.losses.similarity import full_precision, without_autocast
from fairseq_vgs.registry import Registry
from fairseq_vgs.settings import from_config

# Added to excluded similarities, as in the authors' public code: exp(-10000) is zero in float32.
EXCLUDED_OFFSET = -10_000.0


class ContrastiveLoss(NamedTuple):
    """A loss and its two directions: scalars, nats per pair."""

    loss: Tensor
    speech_to_image: Tensor
    image_to_speech: Tensor


class VgsLoss(Protocol):
    """Interface of the entries of `LOSSES`: a dataclass whose fields are the loss's settings.

    `learned` are scalars of the model that it takes as keywords: ``logit_scale``, ``logit_bias``.
    """

    learned: ClassVar[tuple[str, ...]]

    def __call__(self, similarity: Tensor, image_ids: Tensor, **learned: Tensor) -> ContrastiveLoss:
        """Compute the loss of f[N, N] similarities of speech rows and image columns, and int[N] image ids."""


LOSSES: Registry[type[VgsLoss]] = Registry("VGS loss", "fairseq_vgs.losses")


@LOSSES.register("masked_margin")
@dataclass(frozen=True)
class MaskedMargin:
    """The paper's loss; see `masked_margin_infonce`."""

    margin: float = from_config("margin", default=1.0)
    learned: ClassVar[tuple[str, ...]] = ()

    def __call__(self, similarity: Tensor, image_ids: Tensor, **_: Tensor) -> ContrastiveLoss:
        """Compute the loss."""
        return masked_margin_infonce(similarity, image_ids, margin=self.margin)


@LOSSES.register("infonce")
@dataclass(frozen=True)
class InfoNCE:
    """InfoNCE with a learned temperature; see `symmetric_infonce`."""

    learned: ClassVar[tuple[str, ...]] = ("logit_scale",)

    def __call__(self, similarity: Tensor, image_ids: Tensor, **learned: Tensor) -> ContrastiveLoss:
        """Compute the loss."""
        return symmetric_infonce(similarity, image_ids, logit_scale=learned["logit_scale"])


@LOSSES.register("sigmoid")
@dataclass(frozen=True)
class Sigmoid:
    """Sigmoid loss with a learned scale and bias; see `sigmoid_pairwise`."""

    learned: ClassVar[tuple[str, ...]] = ("logit_scale", "logit_bias")

    def __call__(self, similarity: Tensor, image_ids: Tensor, **learned: Tensor) -> ContrastiveLoss:
        """Compute the loss."""
        return sigmoid_pairwise(
            similarity, image_ids, logit_scale=learned["logit_scale"], logit_bias=learned["logit_bias"]
        )


def masked_margin_infonce(similarity: Tensor, image_ids: Tensor, *, margin: float = 1.0) -> ContrastiveLoss:
    """Margin InfoNCE of FaST-VGS and VGS+: cross-entropy over rows **plus** cross-entropy over columns.

    The margin is subtracted from the diagonal, then -10000 is added to off-diagonal pairs of the same image.
    No temperature. Uninformative embeddings cost `2 ln(1 + (N - 1) e^margin)`: 10.30 nats at N = 64.
    Source: Ilharco et al. 2019 (masked margin softmax); Peng & Harwath 2022; the loss code of the
    public FaST-VGS-Family and scheduled_VGS_plus repositories, which sum the two directions.
    """
    _check_inputs("masked_margin_infonce", similarity, image_ids)
    with without_autocast(similarity):
        logits = full_precision(similarity)
        identity = torch.eye(len(logits), dtype=logits.dtype, device=logits.device)
        speech_to_image, image_to_speech = _both_directions(logits - margin * identity, image_ids)
        return ContrastiveLoss(speech_to_image + image_to_speech, speech_to_image, image_to_speech)


def symmetric_infonce(
    similarity: Tensor, image_ids: Tensor, *, logit_scale: Tensor | float
) -> ContrastiveLoss:
    """InfoNCE with a temperature: the **mean** of cross-entropy over rows and over columns.

    As in CLIP (Radford et al. 2021). The similarities, normally cosines, are multiplied by the scale (1 /
    temperature; already exponentiated). Uninformative embeddings cost `ln N`.
    """
    _check_inputs("symmetric_infonce", similarity, image_ids)
    with without_autocast(similarity):
        logits = full_precision(similarity) * _scalar(logit_scale)
        speech_to_image, image_to_speech = _both_directions(logits, image_ids)
        return ContrastiveLoss((speech_to_image + image_to_speech) / 2, speech_to_image, image_to_speech)


def sigmoid_pairwise(
    similarity: Tensor, image_ids: Tensor, *, logit_scale: Tensor | float, logit_bias: Tensor | float
) -> ContrastiveLoss:
    """Sigmoid loss over all pairs, divided by N (SigLIP, Zhai et al. 2023).

    Every pair is its own binary decision, so there are no directions: both directions equal the loss (the sum
    over rows is the sum over columns). The similarities, normally cosines, are multiplied by the scale
    (already exponentiated; SigLIP starts at 10), then the bias is added (SigLIP starts at -10).
    """
    _check_inputs("sigmoid_pairwise", similarity, image_ids)
    with without_autocast(similarity):
        logits = full_precision(similarity) * _scalar(logit_scale) + _scalar(logit_bias)
        identity = torch.eye(len(logits), dtype=logits.dtype, device=logits.device)
        nats = -F.logsigmoid((2 * identity - 1) * logits)
        kept = nats.masked_fill(_same_image_off_diagonal(image_ids), 0.0)
        loss = kept.sum() / max(len(kept), 1)
        return ContrastiveLoss(loss, loss, loss)


@torch.no_grad()
def contrastive_accuracy(similarity: Tensor, image_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Fractions of pairs whose own partner scores highest: (speech to image, image to speech).

    A tie for the first place among k candidates counts 1/k, so that collapsed embeddings score chance (1/N),
    not 0 or 1; a NaN never counts as correct.
    """
    _check_inputs("contrastive_accuracy", similarity, image_ids)
    scores = full_precision(similarity)
    excluded = _same_image_off_diagonal(image_ids)
    return _fraction_first(scores, excluded), _fraction_first(scores.t(), excluded)


def _fraction_first(scores: Tensor, excluded: Tensor) -> Tensor:
    own = scores.diagonal().unsqueeze(1)
    # `~(<=)` rather than `>`: a comparison with NaN must count against the pair.
    n_above = (~(scores <= own) & ~excluded).sum(dim=1)
    n_tied = ((scores == own) & ~excluded).sum(dim=1)
    credit = (n_above == 0).to(scores.dtype) / n_tied.clamp(min=1)
    return credit.sum() / max(len(scores), 1)


def _both_directions(logits: Tensor, image_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the diagonal as target, over rows and over columns; zero for an empty batch."""
    if len(logits) == 0:
        zero = logits.sum()  # stays attached, so that backward works on every rank
        return zero, zero
    logits = logits + EXCLUDED_OFFSET * _same_image_off_diagonal(image_ids).to(logits.dtype)
    target = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, target), F.cross_entropy(logits.t(), target)


def _same_image_off_diagonal(image_ids: Tensor) -> Tensor:
    same = image_ids.unsqueeze(1) == image_ids.unsqueeze(0)
    return same & ~torch.eye(len(image_ids), dtype=torch.bool, device=image_ids.device)


def _scalar(value: Tensor | float) -> Tensor | float:
    if not isinstance(value, Tensor):
        return value
    if value.numel() != 1:
        raise ValueError(f"logit_scale and logit_bias: expected scalars, got shape {tuple(value.shape)}")
    return full_precision(value).reshape(())


def _check_inputs(place: str, similarity: Tensor, image_ids: Tensor) -> None:
    shape, ids_shape = tuple(similarity.shape), tuple(image_ids.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        got = f"got shape {shape}; gather both branches over the same pairs"
        raise ValueError(f"{place}: expected a square similarity matrix (speech rows x image columns), {got}")
    if ids_shape != shape[:1]:
        got = f"got shape {ids_shape}; gather the ids together with the embeddings"
        raise ValueError(f"{place}: expected one image id per pair ({shape[0]}), {got}")
