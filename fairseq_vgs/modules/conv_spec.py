"""The layers of the convolutional extractor, parsed without running the setting as code.

fairseq takes a Python expression, like ``[(512, 10, 5)] + [(512, 3, 2)] * 4``, and passes it to ``eval``; the
text also comes from untrusted checkpoints.
"""

import math
from typing import Any, TypeVar

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.modules.expressions import evaluate
from fairseq_vgs.settings import bad_setting

ConvLayers = tuple[tuple[int, int, int], ...]
Length = TypeVar("Length")  # int, numpy array or tensor of integers

_MAX_LAYERS = 64


def parse_conv_layers(text: str) -> ConvLayers:
    """Read fairseq's ``conv_feature_layers``: one (channels, kernel, stride) triple per layer.

    Raises:
        FaultError: ``setting.value``: the text is not an expression of these.
    """
    try:
        layers = evaluate(text)
    except ValueError as error:
        raise _impossible(text, str(error)) from None
    if not isinstance(layers, list) or not 0 < len(layers) <= _MAX_LAYERS:
        raise _impossible(text, f"the result is not a list of 1 to {_MAX_LAYERS} layers")
    for layer in layers:
        is_triple = isinstance(layer, tuple) and len(layer) == 3
        if not is_triple or not all(type(n) is int and n > 0 for n in layer):
            raise _impossible(text, f"layer {layer!r} is not three positive integers")
    return tuple(layers)


def n_frames(n_samples: Length, layers: ConvLayers) -> Length:
    """Count the frames that layers without padding make of a length, or lengths, in samples.

    The result has the type of ``n_samples``; it is zero or negative where the waveform is too short.
    """
    length: Any = n_samples
    for _, kernel, stride in layers:
        length = (length - kernel) // stride + 1
    return length


def complete_length(n_samples: int, layers: ConvLayers) -> int:
    """Return the length at which no frame is lacking whose middle lies within ``n_samples``; never less.

    A frame sees more samples than lie between two frames: without padding the last one, or two, are lost.
    """
    stride = math.prod(stride for _, _, stride in layers)
    seen = 1
    for _, kernel, step in reversed(layers):
        seen = (seen - 1) * step + kernel
    n_wanted = (2 * n_samples + stride) // (2 * stride)  # middles at (i + 1/2) strides
    return max(n_samples, (n_wanted - 1) * stride + seen)


def _impossible(text: str, problem: str) -> FaultError:
    expected = "a list of (channels, kernel, stride), like '[(512, 10, 5)] + [(512, 3, 2)] * 4'"
    return bad_setting("model.conv_feature_layers", expected, text, f"correct it ({problem})")
