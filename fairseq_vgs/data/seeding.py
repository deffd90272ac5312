"""Random numbers that depend on (seed, epoch, index) and on nothing else.

No generator is kept between items: whichever worker loads an item, after whichever others, draws the same
numbers, and a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What the numbers are for; streams of one item are independent of each other."""

    CROP = 0
    MASK = 1
    TRIM = 2
    ORDER = 3
    UNPAIRED = 4
    PICTURE = 5


def generator(seed: int, epoch: int, *, index: int, stream: Stream) -> np.random.Generator:
    """Return the generator of one item's draws for one purpose; all numbers must be non-negative."""
    return np.random.default_rng((seed, epoch, index, int(stream)))
