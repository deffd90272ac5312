"""Speech as the model reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import Wav2Vec2FeatureExtractor

NORM_EPSILON = 1e-5


class VgsFeatureExtractor(Wav2Vec2FeatureExtractor):
    """wav2vec 2.0's feature extractor, but normalising as fairseq does, whose epsilon is 1e-5, not 1e-7."""

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
