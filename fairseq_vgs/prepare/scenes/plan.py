"""Decide which objects stand in which scene: no combination of objects occurs twice in all splits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.prepare.build.split import TEST, TRAIN, VALID

Combination = tuple[int, ...]

# Held-out scenes are drawn first: they stay the same where only the size of the training set is changed.
DRAWING_ORDER = (TEST, VALID, TRAIN)
SPLIT_NUMBERS = {TRAIN: 0, VALID: 1, TEST: 2}
PLAN_STREAM, PICTURE_STREAM, CAPTION_STREAM = 0, 1, 2
# A draw that fails this often in a row means that nearly all combinations of this size are taken.
MAX_DRAWS = 50


def scene_generator(seed: int, split: str, index: int, *stream: int) -> np.random.Generator:
    """Return the random numbers of one purpose of one scene, independent of all other scenes."""
    return np.random.default_rng([seed, SPLIT_NUMBERS[split], index, *stream])


def check_capacity(n_objects: int, sizes: Sequence[int], n_scenes: int) -> None:
    """Raise ``FaultError`` where there are fewer combinations of objects than scenes."""
    capacity = sum(math.comb(n_objects, size) for size in sizes)
    if n_scenes > capacity:
        raise FaultError(
            fault(
                "scenes",
                f"must be at most {capacity:,} in all splits together, the combinations of {sizes[0]} to "
                f"{sizes[-1]} of {n_objects} objects",
                n_scenes,
                "ask for fewer scenes or more --objects",
            )
        )


def plan_scenes(
    n_objects: int, sizes: Sequence[int], n_scenes: Mapping[str, int], *, seed: int
) -> dict[str, tuple[Combination, ...]]:
    """Draw the objects of every scene.

    The number of objects in a scene is uniform over the sizes that still have free combinations; the
    combination is uniform over the free ones of that size.

    Args:
        n_objects: Objects are numbered from 0 to ``n_objects - 1``.
        sizes: Numbers of objects a scene may have, rising.
        n_scenes: Number of scenes in each split.
        seed: The same seed gives the same scenes.

    Returns:
        For each split its combinations: rising object numbers, none twice, in no two splits.

    Raises:
        FaultError: There are fewer combinations than scenes.
    """
    check_capacity(n_objects, sizes, sum(n_scenes.values()))
    taken: dict[int, set[Combination]] = {size: set() for size in sizes}
    plan = {}
    for split in DRAWING_ORDER:
        scenes = []
        for index in range(n_scenes.get(split, 0)):
            generator = scene_generator(seed, split, index, PLAN_STREAM)
            open_sizes = [size for size in sizes if len(taken[size]) < math.comb(n_objects, size)]
            size = int(generator.choice(open_sizes))
            combination = _draw_combination(generator, n_objects, size, taken[size])
            taken[size].add(combination)
            scenes.append(combination)
        plan[split] = tuple(scenes)
    return plan


def _draw_combination(
    generator: np.random.Generator, n_objects: int, size: int, taken: set[Combination]
) -> Combination:
    for _ in range(MAX_DRAWS):
        drawn = generator.choice(n_objects, size=size, replace=False)
        combination = tuple(sorted(int(number) for number in drawn))
        if combination not in taken:
            return combination
    free = [found for found in combinations(range(n_objects), size) if found not in taken]
    return free[int(generator.integers(len(free)))]
