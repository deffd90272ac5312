"""Build the model that a file's settings describe, unless it is far larger than the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_META = torch.device("meta")
_MOST_OPERATIONS = 20_000  # four times those of the largest public wav2vec 2.0, of 48 layers
SPARE = 25_000_000
_MOST = 10_000_000
"""Largest plausible number in a model's settings."""


class TooLargeError(ValueError):
    """Settings ask for a model that is far larger than the file with its weights."""


class WithinLimits(TorchDispatchMode):
    """Refuse to build what asks for more than ``n_numbers`` numbers in all, or for endless operations.

    Every operation runs on the meta device first, which tells the size of its result without memory; so what
    a model is made of does not matter, and the numbers drawn are the same.
    """

    def __init__(self, n_numbers: int) -> None:
        super().__init__()
        self.n_numbers = n_numbers
        self.n_operations = _MOST_OPERATIONS

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and what it makes, then run it.

        Raises:
            TooLargeError: there are too many, or they make too much.
        """
        kwargs = kwargs or {}
        self.n_operations -= 1
        if not func._schema.is_mutable:
            self.n_numbers -= _size_of_result(func, args, kwargs)
        if self.n_operations < 0 or self.n_numbers < 0:
            raise TooLargeError("they describe a model far larger than the file with its weights")
        return func(*args, **kwargs)


def _size_of_result(func: Any, args: Any, kwargs: Mapping[str, Any]) -> int:
    args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to(_META), (args, dict(kwargs)))
    if any(argument.name == "device" for argument in func._schema.arguments):
        kwargs = {**kwargs, "device": _META}
    try:
        result = func(*args, **{**kwargs, "generator": None} if "generator" in kwargs else kwargs)
    except (RuntimeError, TypeError):  # it needs the values, such as one to return, or fails in any case
        return 0
    known = {_storage(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
    new = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
    return sum(tensor.numel() for tensor in new if _storage(tensor) not in known)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def within_limits_of(*paths: Path, spare: int = SPARE) -> WithinLimits:
    """Limit a model to what these files or folders can hold, and ``spare`` numbers.

    A byte counts as a number: weights have two or four of them, and drawing initial ones takes up to half as
    many again.
    """
    files = [file for path in paths for file in (path.iterdir() if path.is_dir() else [path])]
    return WithinLimits(spare + sum(file.stat().st_size for file in files if file.is_file()))


def refuse_absurd_numbers(settings: Any, *, place: str = "") -> None:
    """Refuse settings with numbers that no model has, nested ones included.

    Raises:
        TooLargeError: with the name of the setting.
    """
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            refuse_absurd_numbers(value, place=f"{place}.{key}".lstrip("."))
    elif isinstance(settings, Sequence) and not isinstance(settings, str | bytes):
        for value in settings:
            refuse_absurd_numbers(value, place=place)
    elif isinstance(settings, int) and abs(settings) > _MOST:
        raise TooLargeError(f"{place} must be at most {_MOST}, got {settings}")
