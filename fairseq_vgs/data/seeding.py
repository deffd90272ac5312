"""Random numbers that depend only on (seed, epoch, index).

No generator is kept between items, so the numbers do not depend on the worker or the order of items, and a
resumed run continues as if it had never stopped.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Purpose of the numbers; the streams of an item are independent."""

    CROP = 0
    MASK = 1
    TRIM = 2
    ORDER = 3
    UNPAIRED = 4
    PICTURE = 5


def generator(seed: int, epoch: int, *, index: int, stream: Stream) -> np.random.Generator:
    """Return the generator of one item for one purpose; all arguments must be non-negative."""
    return np.random.default_rng((seed, epoch, index, int(stream)))
