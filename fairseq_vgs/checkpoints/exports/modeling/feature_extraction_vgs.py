"""Speech as the model reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import Wav2Vec2FeatureExtractor

NORM_EPSILON = 1e-5


class VgsFeatureExtractor(Wav2Vec2FeatureExtractor):
    """wav2vec 2.0's feature extractor, but normalising as fairseq does, whose epsilon is 1e-5, not 1e-7.

    Args:
        max_samples: the model was evaluated on utterances cut to this, before they were normalised:
            ``truncation=True, max_length=extractor.max_samples`` does the same.
        pad_to_max: all utterances are cut and padded to it unless ``padding`` is given, for models that
            were trained so.
        others: see transformers.
    """

    def __init__(self, max_samples: int = 160_000, pad_to_max: bool = False, **others: Any) -> None:
        super().__init__(**others)
        self.max_samples, self.pad_to_max = max_samples, pad_to_max

    def __call__(self, raw_speech: Any, **given: Any) -> Any:  # type: ignore[override]
        """Return ``input_values`` and ``attention_mask`` of one or several waveforms."""
        if self.pad_to_max and "padding" not in given:
            given = {"padding": "max_length", "truncation": True, "max_length": self.max_samples, **given}
        return super().__call__(raw_speech, **given)

    @staticmethod
    def zero_mean_unit_var_norm(
        input_values: list[Any], attention_mask: Any, padding_value: float = 0.0
    ) -> list[Any]:
        """Normalise each utterance over its own samples; padding becomes ``padding_value``."""
        lengths = [len(x) for x in input_values] if attention_mask is None else np.sum(attention_mask, axis=1)
        normed = []
        for values, length in zip(input_values, lengths, strict=True):
            padded = np.full(len(values), padding_value, dtype=np.float32)
            padded[:length] = _normalize(np.asarray(values[:length], dtype=np.float32))
            normed.append(padded)
        return normed


def _normalize(waveform: Any) -> Any:
    centred = waveform - waveform.mean(dtype=np.float64).astype(np.float32)
    variance = np.mean(np.square(centred, dtype=np.float64))
    return centred * np.float32(1.0 / np.sqrt(variance + NORM_EPSILON))
