"""Random numbers of its own for what a run does besides training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fairseq import utils
from fairseq.data import data_utils


@contextmanager
def separate_random_numbers(seed: int) -> Iterator[None]:
    """Draw from generators seeded anew within the block; torch's and NumPy's own ones are as before after."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), data_utils.numpy_seed(seed):
        utils.set_torch_seed(seed)
        yield
