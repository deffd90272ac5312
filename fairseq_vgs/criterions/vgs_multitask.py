"""SSL and VGS losses of one forward pass, weighted per update.

Shapes: B utterances of which P are paired, M masked frames per utterance, K = B * M.
"""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.criterions import register_criterion
from torch import Tensor

from fairseq_vgs.criterions.logging import log_means, log_speed
from fairseq_vgs.criterions.vgs_contrastive import (
    VGS_MEANS,
    Logs,
    VgsContrastiveCriterion,
    VgsCriterionConfig,
    count_logs,
    silenced,
)
from fairseq_vgs.losses import ALPHA_SCHEDULES, pairwise_similarity
from fairseq_vgs.settings import bad_setting, build_entry

SSL_MEANS = {
    "ssl_loss": "ssl_loss",
    "ssl_contrastive": "ssl_contrastive",
    "ssl_diversity": "ssl_diversity",
    "ssl_feature_penalty": "ssl_feature_penalty",
    "ssl_correct": "ssl_accuracy",
}
CODE_MEANS = {
    "code_perplexity": "code_perplexity",
    "prob_perplexity": "prob_perplexity",
    "temp": "gumbel_temperature",
}


@register_criterion("vgs_multitask", dataclass=VgsCriterionConfig)
class VgsMultitaskCriterion(VgsContrastiveCriterion):
    """``alpha * L_AV + (1 - alpha) * L_AUD`` (Khorrami et al. 2023, eq. 1), each a mean over its own items.

    A branch of weight zero is not computed in training, unless ``skip_unweighted`` is off; evaluation
    computes both. With alpha 0 the loss and its gradient are those of fairseq's wav2vec criterion.
    """

    def __init__(
        self,
        task: Any,
        vgs_loss: str = "masked_margin",
        vgs_loss_settings: dict[str, Any] | None = None,
        similarity: str = "dot",
        margin: float = 1.0,
        alpha_schedule: str = "constant",
        alpha_schedule_settings: dict[str, Any] | None = None,
        alpha_values: list[float] | None = None,
        alpha_boundaries: list[int] | None = None,
        loss_weights: list[float] | None = None,
        skip_unweighted: bool = True,
        seed: int = 1,
    ) -> None:
        super().__init__(task, vgs_loss, vgs_loss_settings, similarity, margin)
        chosen = SimpleNamespace(
            alpha_schedule=alpha_schedule,
            alpha_schedule_settings=alpha_schedule_settings,
            alpha_values=alpha_values,
            alpha_boundaries=alpha_boundaries,
            seed=seed,
        )
        self.schedule = build_entry(ALPHA_SCHEDULES, "criterion.alpha_schedule", chosen)
        self.loss_weights = [0.1, 1.0] if loss_weights is None else list(loss_weights)
        if len(self.loss_weights) != 2:
            expected = "two weights (diversity, feature penalty)"
            raise bad_setting("criterion.loss_weights", expected, self.loss_weights)
        self.skip_unweighted = skip_unweighted
        self.n_updates = 0

    def set_num_updates(self, n_updates: int) -> None:
        """Set the number of the next update, for the schedule; called by the task."""
        self.n_updates = n_updates

    def forward(
        self,
        model: Any,
        sample: dict[str, Any],
        reduce: bool = True,  # noqa: ARG002 - fairseq's signature
    ) -> tuple[Tensor, int, Logs]:
        """Compute fairseq's triple; loss and sample size are sums over the same items."""
        vgs_weight, ssl_weight = self.schedule.weights(self.n_updates)
        skip = self.training and self.skip_unweighted
        compute_vgs = not skip or vgs_weight > 0
        compute_ssl = (not skip or ssl_weight > 0) and self._has_ssl(model, ssl_weight)
        net_output = model(
            **sample["net_input"],
            compute_ssl=compute_ssl,
            compute_vgs=compute_vgs,
            learned=self.learned if compute_vgs else (),
        )
        logs = count_logs(sample)
        logs.update(alpha=vgs_weight, n_batches=1)
        weighted: list[Tensor] = []
        sample_size = sample["n_pairs"]
        if compute_ssl:
            ssl_sum, sample_size, ssl_logs = self.ssl_branch(model, sample, net_output)
            logs.update(ssl_logs)
            weighted.append(ssl_sum if ssl_weight == 1 else ssl_weight * ssl_sum)
        if compute_vgs:
            vgs_mean, vgs_logs = self.vgs_branch(net_output, sample)
            logs.update(vgs_logs)
            if vgs_weight > 0 or self.training:
                # fairseq divides the summed gradient by the summed sample_size;
                # the VGS mean is scaled to survive that, by pairs where an update has several batches.
                share = sample.get("vgs_sample_size", sample_size) if compute_ssl else sample_size
                weighted.append(vgs_weight * share * vgs_mean)
        loss = sum(weighted[1:], start=weighted[0])  # the weights sum to 1, so there is at least one
        logs.update(loss=loss.detach(), sample_size=sample_size)
        return loss, sample_size, silenced(logs) if sample.get("is_dummy") else logs

    @staticmethod
    def _has_ssl(model: Any, ssl_weight: float) -> bool:
        """Return whether the model has an SSL loss; a model of text has none."""
        has_ssl = bool(getattr(model, "has_ssl", True))
        if ssl_weight > 0 and not has_ssl:
            expected = "[1.0] with model.caption_encoder=text, which has no SSL loss"
            raise bad_setting("criterion.alpha_values", expected, 1.0 - ssl_weight, "set scenario=text")
        return has_ssl

    def ssl_branch(
        self, model: Any, sample: dict[str, Any], net_output: dict[str, Any]
    ) -> tuple[Tensor, int, Logs]:
        """Compute wav2vec 2.0's loss summed over masked frames (nats), their number K, and logs.

        The arithmetic is fairseq's: contrastive cross-entropy plus weighted extra losses times K.
        """
        logits = model.get_logits(net_output).float()
        target = model.get_targets(sample, net_output)
        n_frames = target.numel()
        contrastive = F.cross_entropy(logits, target, reduction="sum")
        loss = contrastive.clone()
        logs: Logs = {"ssl_contrastive": contrastive.detach(), "n_ssl_frames": n_frames}
        names: tuple[str, ...] = ("ssl_diversity", "ssl_feature_penalty")
        extra_losses = model.get_extra_losses(net_output)
        if len(extra_losses) == 1:  # without a quantizer there is no diversity loss
            names, weights = names[1:], self.loss_weights[1:]
        else:
            weights = self.loss_weights
        for name, weight, extra in zip(names, weights, extra_losses, strict=True):
            loss += weight * extra.float() * n_frames
            logs[name] = extra.detach().float() * n_frames
        logs["ssl_loss"] = loss.detach()
        with torch.no_grad():
            # As fairseq counts: the positive wins, unless all logits are equal.
            logs["ssl_correct"] = ((logits.argmax(-1) == 0) & (logits.argmin(-1) != 0)).sum()
        if "code_perplexity" in net_output:
            for key in CODE_MEANS:
                value = net_output[key]
                logs[key] = value.detach() if torch.is_tensor(value) else value
            logs["n_code_batches"] = 1
        return loss, n_frames, logs

    def separate_losses(self, model: Any, sample: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Compute the SSL and the VGS loss of one forward pass, whatever their weights; for probes.

        Both are means over their items, in nats, as `forward` weighs them. VGS contrasts this rank's pairs
        only; the criterion calls no collective, though batch norm in the model may.
        """
        net_output = model(**sample["net_input"], compute_ssl=True, compute_vgs=True, learned=self.learned)
        ssl_sum, n_frames, _ = self.ssl_branch(model, sample, net_output)
        speech, image = net_output["speech_embedding"], net_output["image_embedding"]
        similarity = pairwise_similarity(speech, image, kind=self.similarity)
        return ssl_sum / n_frames, self._loss(similarity, sample["image_id"], net_output).loss

    @staticmethod
    def reduce_metrics(logging_outputs: list[Logs]) -> None:
        """Average over ranks and accumulated batches; losses are in nats."""
        log_means(logging_outputs, {"loss": "loss"}, "sample_size", priority=0)
        log_means(logging_outputs, {"alpha": "alpha"}, "n_batches", priority=1)
        log_means(logging_outputs, SSL_MEANS, "n_ssl_frames", priority=2)
        log_means(logging_outputs, CODE_MEANS, "n_code_batches", priority=7)
        log_means(logging_outputs, VGS_MEANS, "n_vgs_pairs", priority=10)
        log_speed(logging_outputs)
