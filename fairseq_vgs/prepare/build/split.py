"""Divide items into train, valid and test so that nothing they have in common crosses splits."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence

from fairseq_vgs.files.faults import Fault, fault

TRAIN, VALID, TEST = "train", "valid", "test"
SPLITS = (TRAIN, VALID, TEST)


def share_faults(valid_share: float, test_share: float) -> list[Fault]:
    """Return what is wrong with the shares of valid and test."""
    shares = {"--valid-share": valid_share, "--test-share": test_share}
    expected = "must be a share from 0 to below 1"
    faults = [
        fault(name, expected, share, "correct it", code="setting.value")
        for name, share in shares.items()
        if not 0.0 <= share < 1.0
    ]
    if not faults and valid_share + test_share >= 1.0:
        expected, got = "must leave something to train, together", valid_share + test_share
        faults.append(fault(", ".join(shares), expected, got, "lower one", code="setting.value"))
    return faults


def caption_key(caption: str) -> str:
    """Return the caption without case, punctuation and extra spaces: equal keys mean the same caption."""
    kept = "".join(character if character.isalnum() else " " for character in caption.casefold())
    return " ".join(kept.split())


def connected_groups(keys: Mapping[str, Sequence[Hashable]]) -> dict[str, str]:
    """Join items that share a key, directly or through others.

    Args:
        keys: What each item must not share across splits, such as its recording's hash and its caption.

    Returns:
        The group of each item, named after the group's smallest item.
    """
    parents = {item: item for item in keys}

    def find(item: str) -> str:
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    first_with_key: dict[Hashable, str] = {}
    for item in sorted(keys):
        for key in keys[item]:
            one, other = sorted((find(item), find(first_with_key.setdefault(key, item))))
            parents[other] = one
    return {item: find(item) for item in keys}


def split_by_group(
    groups: Mapping[str, str], *, valid_share: float, test_share: float, seed: int
) -> dict[str, str]:
    """Assign whole groups to splits, in an order that depends on the seed and the group's name only.

    Groups larger than a split's whole share go to train, so that one of them cannot be most of a test set.

    Args:
        groups: The group of each item.
        valid_share: Share of all items meant for valid; at least one group if positive.
        test_share: The same for test.
        seed: Another seed gives another division.

    Returns:
        The split of each item.
    """
    sizes: dict[str, int] = {}
    for group in groups.values():
        sizes[group] = sizes.get(group, 0) + 1
    room = {TEST: test_share * len(groups), VALID: valid_share * len(groups)}
    room = {split: max(1.0, size) if size > 0 else 0.0 for split, size in room.items()}
    limits = dict(room)
    assigned = {}
    for group in sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()):
        fitting = (
            split for split, left in room.items() if left >= 0.5 and sizes[group] <= max(1.0, limits[split])
        )
        split = next(fitting, TRAIN)
        assigned[group] = split
        if split != TRAIN:
            room[split] -= sizes[group]
    return {item: assigned[group] for item, group in groups.items()}
