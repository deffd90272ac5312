"""Divide items into train, valid and test so that no shared property crosses splits."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from fairseq_vgs.files.faults import Fault, fault

logger = logging.getLogger(__name__)

TRAIN, VALID, TEST = "train", "valid", "test"
SPLITS = (TRAIN, VALID, TEST)


def bad_shares(valid_share: float, test_share: float) -> list[Fault]:
    """Return the faults of the shares of valid and test."""
    shares = {"--valid-share": valid_share, "--test-share": test_share}
    faults = [
        fault(name, "must be a share from 0 to below 1", share, "give 0.1 for a tenth", code="setting.value")
        for name, share in shares.items()
        if not 0.0 <= share < 1.0
    ]
    if not faults and valid_share + test_share >= 1.0:
        expected, got = "must leave something to train, together", valid_share + test_share
        faults.append(fault(", ".join(shares), expected, got, "lower one", code="setting.value"))
    return faults


def caption_key(caption: str) -> str:
    """Return the caption without case, punctuation and extra spaces, to find equal captions."""
    kept = "".join(character if character.isalnum() else " " for character in caption.casefold())
    return " ".join(kept.split())


def connected_groups(keys: Mapping[str, Sequence[Hashable]]) -> dict[str, str]:
    """Return the group of each item, named after its smallest: items sharing a key, even through others."""
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
    """Return the split of each item; whole groups are assigned in an order set by seed and group name.

    Groups larger than a split's whole share go to train, so that none dominates a test set. Positive shares
    get at least one group, as long as there are groups; a warning names splits without any.
    """
    sizes = Counter(groups.values())
    limits = {TEST: test_share * len(groups), VALID: valid_share * len(groups)}
    limits = {split: max(1.0, size) for split, size in limits.items() if size > 0}
    room: dict[str, float] = {**limits, TRAIN: math.inf}
    assigned = {}
    for group in shuffled(sizes, seed):
        fits = (
            split for split, left in room.items() if left >= 0.5 and sizes[group] <= limits.get(split, left)
        )
        assigned[group] = next(fits)
        room[assigned[group]] -= sizes[group]
    for split in [split for split in (TRAIN, *limits) if split not in assigned.values()]:
        logger.warning("%s is empty and left out: too few groups of pictures for its share", split)
    return {item: assigned[group] for item, group in groups.items()}


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Return names in an order that depends on the seed and the names alone."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
