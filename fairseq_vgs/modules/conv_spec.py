"""The layers of the convolutional extractor, parsed without running the setting as code.

fairseq passes a Python expression, like ``[(512, 10, 5)] + [(512, 3, 2)] * 4``, to ``eval``. The text also
comes from untrusted checkpoints, so only tuples of positive integers, lists, ``+`` and ``*`` are accepted.
"""

import ast
from typing import Any, TypeVar

from fairseq_vgs.files.faults import FaultError
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
        layers = _evaluate(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise _impossible(text, str(error)) from None
    if not isinstance(layers, list) or not 0 < len(layers) <= _MAX_LAYERS:
        raise _impossible(text, f"the result is not a list of 1 to {_MAX_LAYERS} layers")
    for layer in layers:
        is_triple = isinstance(layer, tuple) and len(layer) == 3
        if not is_triple or not all(isinstance(n, int) and n > 0 for n in layer):
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


def _evaluate(node: ast.expr) -> object:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(_evaluate(item) for item in node.elts)
    if isinstance(node, ast.List):
        return [_evaluate(item) for item in node.elts]
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left), _evaluate(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return left + right
        if isinstance(node.op, ast.Mult) and isinstance(left, list) and isinstance(right, int):
            if not 0 <= right <= _MAX_LAYERS:
                raise ValueError(f"repeat count {right} is not in 0..{_MAX_LAYERS}")
            return left * right
    raise ValueError(f"{ast.unparse(node)!r} is not allowed")


def _impossible(text: str, problem: str) -> FaultError:
    expected = "a list of (channels, kernel, stride), like '[(512, 10, 5)] + [(512, 3, 2)] * 4'"
    return bad_setting("model.conv_feature_layers", expected, text, f"correct it ({problem})")
