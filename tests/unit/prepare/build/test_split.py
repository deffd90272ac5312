from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fairseq_vgs.prepare.build.split import connected_groups, split_by_group

ITEMS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.lists(st.integers(0, 12), max_size=3), max_size=20
)


def naive_groups(keys: dict[str, list[int]]) -> dict[str, str]:
    """Spread the smallest name over shared keys until nothing changes."""
    groups = {item: item for item in keys}
    changed = True
    while changed:
        changed = False
        for one in keys:
            for other in keys:
                if set(keys[one]) & set(keys[other]) and groups[other] < groups[one]:
                    groups[one] = groups[other]
                    changed = True
    return groups


@given(ITEMS)
def test_groups_are_those_of_a_plain_search(keys: dict[str, list[int]]) -> None:
    assert connected_groups(keys) == naive_groups(keys)


@given(ITEMS, st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 5))
def test_groups_never_cross_splits(keys: dict[str, list[int]], valid: float, test: float, seed: int) -> None:
    groups = connected_groups(keys)
    splits = split_by_group(groups, valid_share=valid, test_share=test, seed=seed)
    assert splits.keys() == keys.keys()
    assert len({(groups[item], splits[item]) for item in keys}) == len(set(groups.values()))


def test_shares_are_met() -> None:
    groups = {f"item{number:03d}": f"item{number:03d}" for number in range(200)}
    counts = Counter(split_by_group(groups, valid_share=0.1, test_share=0.2, seed=1).values())
    assert counts == {"train": 140, "valid": 20, "test": 40}


def test_a_large_group_goes_to_train() -> None:
    groups = {f"item{number:02d}": "large" if number < 60 else f"item{number:02d}" for number in range(100)}
    splits = split_by_group(groups, valid_share=0.1, test_share=0.1, seed=1)
    assert splits["item00"] == "train"
    assert Counter(splits.values()) == {"train": 80, "valid": 10, "test": 10}


def test_seed_and_names_decide_and_order_does_not() -> None:
    groups = {f"item{number:02d}": f"item{number:02d}" for number in range(40)}
    first = split_by_group(groups, valid_share=0.2, test_share=0.2, seed=1)
    assert split_by_group(dict(reversed(groups.items())), valid_share=0.2, test_share=0.2, seed=1) == first
    assert split_by_group(groups, valid_share=0.2, test_share=0.2, seed=2) != first


def test_positive_shares_of_few_items_get_one_each() -> None:
    groups = {name: name for name in "abcd"}
    counts = Counter(split_by_group(groups, valid_share=0.1, test_share=0.1, seed=1).values())
    assert counts == {"train": 2, "valid": 1, "test": 1}


def test_no_share_no_items() -> None:
    groups = {name: name for name in "abcd"}
    assert set(split_by_group(groups, valid_share=0, test_share=0, seed=1).values()) == {"train"}


def test_a_split_that_gets_no_group_is_named_unless_its_share_is_0(caplog) -> None:
    groups = {"a": "a", "b": "a", "c": "a"}
    split_by_group(groups, valid_share=0, test_share=0.1, seed=1)
    assert [message.split()[0] for message in caplog.messages] == ["test"]
