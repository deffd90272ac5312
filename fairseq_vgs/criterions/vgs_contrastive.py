"""The VGS loss alone: spoken captions against pictures over the global batch.

Shapes: P pairs on this rank, N pairs on all ranks, E embedding dims.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II
from torch import Tensor

from fairseq_vgs.criterions.logging import log_means, log_speed
from fairseq_vgs.losses import (
    LOSSES,
    ContrastiveLoss,
    contrastive_accuracy,
    embedding_spread,
    gather_ids,
    gather_with_gradient,
    pairwise_similarity,
)
from fairseq_vgs.settings import bad_setting, build_entry, setting

Logs = dict[str, Any]

_VGS_NAMES = (
    "vgs_loss",
    "vgs_speech_to_image_loss",
    "vgs_image_to_speech_loss",
    "vgs_speech_to_image_accuracy",
    "vgs_image_to_speech_accuracy",
    "speech_spread",
    "image_spread",
)
VGS_MEANS = {name: name for name in _VGS_NAMES}


@dataclass
class VgsCriterionConfig(FairseqDataclass):
    """Settings of both losses and of their weight; ``vgs_contrastive`` ignores those of SSL and alpha.

    Both criterions accept all keys, so switching a run between them only takes the criterion's name.
    """

    vgs_loss: str = setting(
        "masked_margin", "masked_margin (the paper), infonce (CLIP, learned temperature) or sigmoid (SigLIP)"
    )
    vgs_loss_settings: Optional[Dict[str, Any]] = setting(
        None, "settings of the VGS loss that have no key of their own, by name"
    )
    similarity: ChoiceEnum(["dot", "cosine"]) = setting(  # type: ignore[valid-type]
        "dot", "similarity of two embeddings, in training and in retrieval"
    )
    margin: float = setting(1.0, "subtracted from matching pairs (masked_margin only)")
    alpha_schedule: str = setting(
        "constant",
        "how alpha, the weight of the VGS loss, changes over updates: constant, piecewise, linear, cosine "
        "or draw",
    )
    alpha_schedule_settings: Optional[Dict[str, Any]] = setting(
        None, "settings of the schedule that have no key of their own, by name"
    )
    alpha_values: List[float] = setting(
        [0.5], "[alpha] (constant), one per piece (piecewise), [first, last] (linear, cosine), [p] (draw)"
    )
    alpha_boundaries: List[int] = setting(
        [], "updates at which the pieces change (piecewise) or the ramp starts and ends (linear, cosine)"
    )
    loss_weights: List[float] = setting(
        [0.1, 1.0], "weights of the diversity loss and the feature penalty inside the SSL loss"
    )
    skip_unweighted: bool = setting(
        True,
        "do not compute a branch of weight zero in training; false (the authors): its loss is logged, its "
        "weights decay and its batch norm follows the frames",
    )
    seed: int = II("common.seed")


@register_criterion("vgs_contrastive", dataclass=VgsCriterionConfig)
class VgsContrastiveCriterion(FairseqCriterion):
    """Contrast the spoken captions and pictures of the global batch (Khorrami et al. 2023, L_AV)."""

    def __init__(
        self,
        task: Any,
        vgs_loss: str = "masked_margin",
        vgs_loss_settings: dict[str, Any] | None = None,
        similarity: str = "dot",
        margin: float = 1.0,
    ) -> None:
        super().__init__(task)
        chosen = SimpleNamespace(vgs_loss=vgs_loss, vgs_loss_settings=vgs_loss_settings, margin=margin)
        self.vgs_loss = build_entry(LOSSES, "criterion.vgs_loss", chosen)
        self.similarity = str(similarity)
        self.learned: tuple[str, ...] = self.vgs_loss.learned

    def forward(
        self,
        model: Any,
        sample: dict[str, Any],
        reduce: bool = True,  # noqa: ARG002 - fairseq's signature
    ) -> tuple[Tensor, int, Logs]:
        """Compute fairseq's triple: loss summed over pairs (nats), number of pairs, logs."""
        net_output = model(**sample["net_input"], compute_ssl=False, compute_vgs=True, learned=self.learned)
        loss, logs = self.vgs_branch(net_output, sample)
        n_pairs = sample["n_pairs"]
        logs.update(count_logs(sample), sample_size=n_pairs)
        loss = loss * n_pairs
        logs["loss"] = loss.detach()
        return loss, n_pairs, silenced(logs) if sample.get("is_dummy") else logs

    def vgs_branch(self, net_output: dict[str, Tensor], sample: dict[str, Any]) -> tuple[Tensor, Logs]:
        """Compute the mean loss (nats) over the global batch's pairs, and logs weighted by this rank's pairs.

        ``net_output`` has both embeddings f[P, E]. In evaluation the sample gains ``embeddings``, for
        retrieval over the whole set.

        Raises:
            FaultError: ``setting.value``: the global batch has a single pair in training.
        """
        speech, image = net_output["speech_embedding"], net_output["image_embedding"]
        if not self.training:
            sample["embeddings"] = {"speech": speech.detach(), "image": image.detach()}
        n_local = 0 if sample.get("is_dummy") else speech.size(0)
        both = gather_with_gradient(torch.cat([speech, image], dim=1)[:n_local])
        all_speech, all_images = both.tensor_split(2, dim=1)
        ids = gather_ids(sample["image_id"][:n_local].to(speech.device))
        if len(ids) == 0:  # every rank has fairseq's dummy batch, but backward passes still need a graph
            nothing = both.sum() + 0.0 * (speech.sum() + image.sum())
            return nothing, {**dict.fromkeys(VGS_MEANS, nothing.detach()), "n_vgs_pairs": 0}
        if len(ids) < 2 and self.training:
            place = f"pair {sample['id'].tolist()} of the training split"
            expected = "at least 2 pairs in a batch (one pair has no negatives)"
            raise bad_setting(place, expected, len(ids), "raise dataset.batch_size or dataset.max_tokens")
        similarity = pairwise_similarity(all_speech, all_images, kind=self.similarity)
        parts = self._loss(similarity, ids, net_output)
        with torch.no_grad():
            losses = (parts.loss, parts.speech_to_image, parts.image_to_speech)
            spreads = (embedding_spread(all_speech), embedding_spread(all_images))
            means = (*losses, *contrastive_accuracy(similarity, ids), *spreads)
        # A validation batch of one pair has no negatives: its loss gets weight 0, its embeddings still count
        # in retrieval.
        weight = n_local if len(ids) > 1 else 0
        # Tensors on every rank: fairseq sums tensors and numbers over ranks separately.
        # A loss over no pairs is NaN, so zeros instead of a product.
        logs: Logs = {
            key: value.detach() * weight if weight else torch.zeros_like(value)
            for key, value in zip(_VGS_NAMES, means, strict=True)
        }
        logs["n_vgs_pairs"] = weight
        return parts.loss, logs

    def _loss(self, similarity: Tensor, ids: Tensor, net_output: dict[str, Tensor]) -> ContrastiveLoss:
        return self.vgs_loss(similarity, ids, **{name: net_output[name] for name in self.learned})

    @staticmethod
    def reduce_metrics(logging_outputs: list[Logs]) -> None:
        """Average over ranks and accumulated batches; losses are in nats."""
        log_means(logging_outputs, {"loss": "loss"}, "sample_size", priority=0)
        log_means(logging_outputs, VGS_MEANS, "n_vgs_pairs", priority=10)
        log_speed(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Every log is a sum."""
        return True


def silenced(logs: Logs) -> Logs:
    """Empty the logs of a dummy batch: on a single rank fairseq would count it as a real one."""
    return {key: torch.zeros_like(value) if torch.is_tensor(value) else 0 for key, value in logs.items()}


def count_logs(sample: dict[str, Any]) -> Logs:
    """Count what a batch holds."""
    counts = {key: sample[key] for key in ("ntokens", "nsentences", "n_pairs", "n_padded")}
    return {**counts, "n_skipped": sample.get("n_skipped", 0)}
