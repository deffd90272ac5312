"""What the ABX evaluation compares: a model's layers, or MFCC, of one recording at a time.

One at a time, since a comparison reads them so; `features` batches.

Shapes: S samples at 16 kHz, T frames, D dims of the transformer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_vgs.checkpoints.load import Checkpoint, CheckpointError, section
from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.waveform import normalize_waveform
from fairseq_vgs.features import mfcc
from fairseq_vgs.features.recordings import Recording
from fairseq_vgs.features.speech import speech_features
from fairseq_vgs.files.faults import fault
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules.conv_spec import ConvLayers, n_frames, parse_conv_layers

LayerFeatures = Callable[[str], Mapping[str, Tensor]]

MFCC_LAYER = "mfcc"
MFCC_FRAME_RATE = mfcc.FRAME_RATE


def frame_rate(checkpoint: Checkpoint) -> float:
    """Return the frames per second of a model's extractor: 50 for wav2vec 2.0."""
    return SAMPLE_RATE / math.prod(stride for _, _, stride in _extractor(checkpoint))


def layer_features(
    checkpoint: Checkpoint,
    recordings: Mapping[str, Recording],
    *,
    device: str = "cpu",
    layers: Collection[int] | None = None,
) -> LayerFeatures:
    """Offer the unmasked transformer layers of recordings, all in one pass.

    ``layer_0`` is what enters the first layer (after the positional convolution), ``layer_1`` ... are the
    outputs of the layers; the CLS vector is in none. Nothing is cut; speech is normalised as in the run.

    Args:
        checkpoint: the model.
        recordings: by name.
        device: where the model runs; features come back to the CPU.
        layers: numbers of the layers that are wanted, all if None: those of many hours may not fit in memory.

    Returns:
        name of a recording -> name of a layer -> f[T, D].

    Raises:
        CheckpointError: the model has no such layer.
    """
    model: Any = checkpoint.model.eval().to(device)
    extractor = _extractor(checkpoint)
    n_layers = len(model.encoder.layers)
    if unknown := sorted(set(layers or ()) - set(range(n_layers + 1))):
        raise CheckpointError(f"{checkpoint.path}: layers must be from 0 to {n_layers}, got {unknown}")
    names = None if layers is None else {f"layer_{number}" for number in layers}
    normalize = bool(section(checkpoint.config, "task").get("normalize", True))

    def features(name: str) -> dict[str, Tensor]:
        recording = recordings[name]
        if n_frames(recording.n_samples, extractor) < 1:
            expected = "utterance must be long enough for a frame"
            raise BadItemError(
                fault(recording.place, expected, f"{recording.n_samples} samples", "remove the line")
            )
        waveform = recording.waveform()
        source = torch.from_numpy(normalize_waveform(waveform) if normalize else waveform)
        found = encode_layers(model, source.to(device))
        return found if names is None else {name: found[name] for name in found if name in names}

    return features


def mfcc_features(recordings: Mapping[str, Recording]) -> LayerFeatures:
    """Offer MFCC of recordings: name -> ``mfcc`` -> f[T, 39], at `MFCC_FRAME_RATE`."""

    def features(name: str) -> dict[str, Tensor]:
        return {MFCC_LAYER: torch.from_numpy(mfcc.mfcc(recordings[name].waveform()))}

    return features


def encode_layers(model: nn.Module, source: Tensor) -> dict[str, Tensor]:
    """Encode one utterance without masks.

    Args:
        model: wav2vec 2.0 or the plugin's, in evaluation mode.
        source: f[S], normalised as the model expects, long enough for a frame.

    Returns:
        ``layer_0`` ... ``layer_L``, each f32[T, D] on the CPU.
    """
    return speech_features(model, [source])[0].layers


def _extractor(checkpoint: Checkpoint) -> ConvLayers:
    return parse_conv_layers(str(section(checkpoint.config, "model")["conv_feature_layers"]))
