"""Choose the objects of every scene: no combination of objects occurs twice in all splits.

numpy is imported where it is used: the command line reads its options from this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.options import option
from fairseq_vgs.prepare.build.split import TEST, TRAIN, VALID

if TYPE_CHECKING:
    import numpy as np

Combination = tuple[int, ...]

# Held-out scenes are drawn first: they do not depend on the size of the training set.
DRAWING_ORDER = (TEST, VALID, TRAIN)
SPLIT_NUMBERS = {TRAIN: 0, VALID: 1, TEST: 2}
PLAN_STREAM, PICTURE_STREAM, CAPTION_STREAM = 0, 1, 2
# After so many failed draws, nearly all combinations of this size are taken: free ones are listed instead.
MAX_DRAWS = 50
MAX_PICTURES = 6
MIN_CANVAS = 64


def _count(default: int, what: str) -> Any:
    return option(default, help=what, metavar="N")


@dataclass(frozen=True)
class ScenesConfig:
    """What scenes to compose; the same seed gives the same folder."""

    objects: int = _count(60, "different objects")
    train_scenes: int = _count(1500, "scenes in train")
    valid_scenes: int = _count(100, "scenes in valid")
    test_scenes: int = _count(200, "scenes in test")
    captions: int = _count(2, "spoken captions of each scene")
    pictures_per_scene: tuple[int, int] = option(
        (2, 4), help="objects in a scene", metavar=("FEWEST", "MOST")
    )
    max_object_seconds: float = option(
        1.5, help="skip objects with a longer recorded name; 0: none", metavar="SECONDS"
    )
    canvas_size: int = option(224, help="width and height of a scene", metavar="PIXELS")
    seed: int = option(1, help="seed of all choices", metavar="N")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        fewest, most = self.pictures_per_scene
        if not 1 <= fewest <= most <= MAX_PICTURES:
            place, expected = "--pictures-per-scene", f"must be two rising numbers from 1 to {MAX_PICTURES}"
            raise FaultError(fault(place, expected, (fewest, most), "2 4 is usual", code="setting.value"))
        least = dict.fromkeys(("objects", "train_scenes", "captions"), 1)
        least |= dict.fromkeys(("valid_scenes", "test_scenes", "max_object_seconds", "seed"), 0)
        for name, minimum in (least | {"canvas_size": MIN_CANVAS}).items():
            if (value := getattr(self, name)) < minimum:
                place, expected = "--" + name.replace("_", "-"), f"must be at least {minimum}"
                raise FaultError(fault(place, expected, value, "raise it", code="setting.value"))
        check_capacity(self.objects, self.sizes, sum(self.n_scenes.values()))

    @property
    def sizes(self) -> range:
        """The numbers of objects a scene may have."""
        return range(self.pictures_per_scene[0], self.pictures_per_scene[1] + 1)

    @property
    def n_scenes(self) -> dict[str, int]:
        """The number of scenes in each split."""
        return {TRAIN: self.train_scenes, VALID: self.valid_scenes, TEST: self.test_scenes}


def scene_generator(seed: int, split: str, index: int, *stream: int) -> np.random.Generator:
    """Return the generator for one purpose of one scene, independent of all other scenes."""
    import numpy as np

    return np.random.default_rng([seed, SPLIT_NUMBERS[split], index, *stream])


def check_capacity(n_objects: int, sizes: Sequence[int], n_scenes: int) -> None:
    """Raise ``FaultError`` if there are fewer combinations of objects than scenes."""
    capacity = sum(math.comb(n_objects, size) for size in sizes)
    if n_scenes > capacity:
        combined = f"the combinations of {sizes[0]} to {sizes[-1]} of {n_objects} objects"
        expected = f"must be at most {capacity:,} in all splits together, {combined}"
        step = "ask for fewer scenes or more --objects"
        raise FaultError(fault("scenes", expected, n_scenes, step, code="setting.value"))


def plan_scenes(
    n_objects: int, sizes: Sequence[int], n_scenes: Mapping[str, int], *, seed: int
) -> dict[str, tuple[Combination, ...]]:
    """Draw the objects of every scene.

    The number of objects in a scene is uniform over the ``sizes``, ascending, that still have free
    combinations; the combination is uniform over the free ones of that size.

    Returns:
        The combinations of each split, as ascending object numbers from 0; none occurs twice.

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
        combination = tuple(sorted(drawn.tolist()))
        if combination not in taken:
            return combination
    free = [found for found in combinations(range(n_objects), size) if found not in taken]
    return free[int(generator.integers(len(free)))]
