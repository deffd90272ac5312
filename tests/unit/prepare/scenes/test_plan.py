from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from support.faults import raises_fault

from fairseq_vgs.prepare.scenes.plan import plan_scenes, scene_generator


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 2), st.data())
def test_no_combination_occurs_twice(n_objects: int, fewest: int, more: int, data: st.DataObject) -> None:
    sizes = range(fewest, fewest + more + 1)
    capacity = sum(math.comb(n_objects, size) for size in sizes)
    n_test = data.draw(st.integers(0, min(capacity, 60)))
    n_train = data.draw(st.integers(0, min(capacity - n_test, 60)))
    plan = plan_scenes(n_objects, sizes, {"train": n_train, "test": n_test}, seed=1)
    assert (len(plan["train"]), len(plan["valid"]), len(plan["test"])) == (n_train, 0, n_test)
    scenes = [*plan["train"], *plan["test"]]
    assert len(set(scenes)) == len(scenes)
    for scene in scenes:
        assert len(scene) in sizes
        assert list(scene) == sorted(set(scene))
        assert set(scene) <= set(range(n_objects))


def test_all_combinations_can_be_used_and_one_more_is_refused() -> None:
    plan = plan_scenes(6, range(2, 4), {"train": 30, "valid": 3, "test": 2}, seed=1)
    assert len({scene for scenes in plan.values() for scene in scenes}) == 15 + 20
    with raises_fault("setting.value", "scenes"):
        plan_scenes(6, range(2, 4), {"train": 31, "valid": 3, "test": 2}, seed=1)


def test_sizes_are_uniform_while_there_are_free_combinations() -> None:
    plan = plan_scenes(60, range(2, 5), {"train": 3000}, seed=1)
    counts = Counter(map(len, plan["train"]))
    assert all(abs(counts[size] - 1000) < 4 * math.sqrt(1000 * 2 / 3) for size in (2, 3, 4))


def test_held_out_scenes_do_not_depend_on_the_training_set() -> None:
    small = plan_scenes(20, range(2, 5), {"train": 10, "valid": 5, "test": 7}, seed=1)
    large = plan_scenes(20, range(2, 5), {"train": 500, "valid": 5, "test": 7}, seed=1)
    assert (small["valid"], small["test"]) == (large["valid"], large["test"])
    assert small["train"] == large["train"][:10]


def test_seed_decides() -> None:
    counts = {"train": 10, "test": 5}
    first = plan_scenes(20, range(2, 5), counts, seed=1)
    assert plan_scenes(20, range(2, 5), counts, seed=1) == first
    assert plan_scenes(20, range(2, 5), counts, seed=2) != first


def test_generators_of_scenes_and_purposes_differ() -> None:
    keys = [(1, "train", 0, 0), (1, "train", 1, 0), (1, "test", 0, 0), (2, "train", 0, 0), (1, "train", 0, 1)]
    draws = {scene_generator(*key).integers(2**60) for key in keys}
    assert len(draws) == len(keys)
    assert scene_generator(*keys[0]).integers(2**60) in draws
