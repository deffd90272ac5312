"""A metric: how often a caption prefers its own picture to one drawn at random (two-alternative choice)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fairseq_vgs.evaluation.evaluator import EVALUATORS, UNTRAINED, CommonSettings, Evaluator, Model
from fairseq_vgs.evaluation.results import Items, Reported, Scores
from fairseq_vgs.metrics.intervals import hits
from fairseq_vgs.options import option


@dataclass(frozen=True)
class ChoiceSettings(CommonSettings):
    """Options of ``fairseq-vgs evaluate choice``."""

    trials: int = option(10, help="other pictures that each caption is asked about", metavar="N")


@EVALUATORS.register("choice")
class Choice(Evaluator):
    """Percentage of trials in which the own picture scores higher; chance is 50 %."""

    name = "choice"
    summary = "two-alternative choice between pictures"
    description = "Play each caption with its own picture and one drawn at random: which scores higher?"
    examples = "fairseq-vgs evaluate choice CHECKPOINT DATA --trials 20"
    Settings = ChoiceSettings
    baselines = (UNTRAINED,)
    needs_embeddings = True

    def measure(self, model: Model, settings: ChoiceSettings) -> Scores:
        """Embed the split, then draw the other pictures: the same ones for all models."""
        from fairseq_vgs.features.embeddings import embed_split, open_split

        split = open_split(settings.data, settings.split, config=model.checkpoint.config)
        found = embed_split(model.checkpoint.model, split, device=settings.device)
        scores = found.speech @ found.images.T  # f[C, I]
        rows = np.arange(len(scores))
        own = scores[rows, split.caption_image]
        draws = np.random.default_rng(settings.seed)
        wins = np.zeros(len(scores))
        for _ in range(settings.trials):
            steps = draws.integers(1, scores.shape[1], len(scores))  # never the own picture
            other = (split.caption_image + steps) % scores.shape[1]
            wins += hits(own > scores[rows, other]) / settings.trials
        items = Items({"audio_id": split.audio_ids}, split.speech_groups, "images", {"choice": wins})
        return Scores({"captions": items}, {"choice": Reported("%", 50.0)})

    def describe(self, content: Any) -> list[str]:
        """Say what was measured."""
        return [f"choice between two pictures, {content['condition']['trials']} trials per caption"]
