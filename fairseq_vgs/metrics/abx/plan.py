"""Plan what is compared with what: groups of tokens, cells, and the token pairs whose distance is needed.

A *group* holds the tokens of one phone in one context by one speaker. A *cell* compares groups: A and B by
the same speaker, of phones a and b, and X of phone a: A itself (within speaker), or of another speaker
(across).

Shapes: G groups, C cells, O ordered phone pairs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from fairseq_vgs.arrays import I64
from fairseq_vgs.metrics.abx.items import AbxError, AbxItem

Name = TypeVar("Name", str, tuple[str, str])
Context = tuple[str, str]

SPEAKER_MODES = ("within", "across")
CONTEXT_MODES = ("within", "any")


@dataclass(frozen=True)
class AbxCells:
    """The cells of a task, one entry per cell in every array; the same for every model and layer.

    Names: the O ordered phone pairs (a, b), sorted; speakers; contexts (previous, next phone), one ("", "")
    where the context does not matter. int64[C] numbers of each cell's pair, context, speaker (of A and B)
    and ``x_speaker``, and how many triples (a, b, x) were compared.
    """

    pairs: tuple[tuple[str, str], ...]
    speakers: tuple[str, ...]
    contexts: tuple[tuple[str, str], ...]
    pair: I64
    context: I64
    speaker: I64
    x_speaker: I64
    n_triples: I64

    def __len__(self) -> int:
        return len(self.pair)


@dataclass(frozen=True)
class Plan:
    """A task in numbers: cells, positions of each group's tokens among the items, int64[C, 3] groups A, B, X.

    ``n_subsampled`` tokens were left out of groups that exceed ``max_size_group``.
    """

    cells: AbxCells
    groups: tuple[I64, ...]
    cell_groups: I64
    n_subsampled: int


@dataclass(frozen=True)
class _Key:
    context: Context
    phone: str
    speaker: str


def make_plan(
    items: Sequence[AbxItem],
    usable: Sequence[bool],
    *,
    speaker: str,
    context: str = "within",
    max_size_group: int | None = None,
    max_x_across: int | None = None,
    seed: int = 1,
) -> Plan:
    """Enumerate groups and cells; the draws depend on the seed and each group's name alone.

    Options are those of ``abx_scores``; ``usable``: whether each token has frames.

    Raises:
        AbxError: there is no cell.
    """
    members: dict[_Key, list[int]] = defaultdict(list)
    for position, (item, has_frames) in enumerate(zip(items, usable, strict=True)):
        if has_frames:
            place = (item.previous_phone, item.next_phone) if context == "within" else ("", "")
            members[_Key(place, item.phone, item.speaker)].append(position)
    # What is compared within a speaker is adjacent, so that it can be computed together.
    keys = sorted(members, key=lambda key: (key.context, key.speaker, key.phone))
    groups = tuple(_drawn(members[key], max_size_group, seed=seed, key=key) for key in keys)
    across = speaker == "across"
    found = list(_across(keys, max_x_across, seed=seed) if across else _within(keys, groups))
    if not found:
        n_phones, n_speakers = len({key.phone for key in keys}), len({key.speaker for key in keys})
        message = (
            f"must have a pair of phones to compare ({speaker} speaker, {context} context), got none among "
            f"{sum(usable)} usable tokens of {n_phones} phones by {n_speakers} speakers; give more tokens or "
            "another condition"
        )
        raise AbxError.at("items", message, "item.unusable")
    cell_groups = np.array(found, dtype=np.int64)
    n_subsampled = sum(map(len, members.values())) - sum(map(len, groups))
    return Plan(_cells(keys, groups, cell_groups), groups, cell_groups, n_subsampled)


def n_overlapping(plan: Plan, starts: I64, lengths: I64) -> int:
    """Count the pairs of tokens that a cell compares, x with a or with b, and that share frames.

    ``starts``: int64[items] first frame of each token, files one after the other.
    """
    tokens = np.concatenate(plan.groups)
    group = np.repeat(np.arange(len(plan.groups)), [len(members) for members in plan.groups])
    is_compared = np.isin(group, plan.cell_groups)  # others may have no frames yet
    tokens, group = tokens[is_compared], group[is_compared]
    order = np.argsort(starts[tokens], kind="stable")
    group, first = group[order], starts[tokens][order]
    # Sorted by their first frames, those that share some with a token and come after it follow it directly.
    place = np.arange(len(order))
    n_sharing = np.searchsorted(first, first + lengths[tokens][order]) - place - 1
    one = np.repeat(place, n_sharing)
    other = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(n_sharing) - n_sharing, n_sharing)
    a, b, x = plan.cell_groups.T
    known = np.unique(np.concatenate([x, x]) * len(plan.groups) + np.concatenate([a, b]))
    forth, back = (
        np.isin(group[i] * len(plan.groups) + group[j], known) for i, j in ((one, other), (other, one))
    )
    return int((forth | back).sum())


def require_speakers(items: Sequence[AbxItem], speakers: Sequence[str], *, place: str) -> None:
    """Refuse items (of the file ``place``) without two phones to compare within a context, by ``speakers``.

    Whether tokens have frames is not checked.

    Raises:
        AbxError: there is no cell.
    """
    for speaker in speakers:
        try:
            make_plan(items, [True] * len(items), speaker=speaker, max_x_across=1)
        except AbxError as error:
            faults = [replace(found, place=f"{place}: {found.place}") for found in error.faults]
            raise AbxError(faults) from None


def _within(keys: Sequence[_Key], groups: Sequence[I64]) -> Iterator[tuple[int, int, int]]:
    together: dict[tuple[Context, str], list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        together[key.context, key.speaker].append(number)
    for numbers in together.values():
        for a in numbers:
            if len(groups[a]) > 1:
                yield from ((a, b, a) for b in numbers if b != a)


def _across(keys: Sequence[_Key], max_x_across: int | None, *, seed: int) -> Iterator[tuple[int, int, int]]:
    by_speaker: dict[tuple[Context, str], list[int]] = defaultdict(list)
    by_phone: dict[tuple[Context, str], list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        by_speaker[key.context, key.speaker].append(number)
        by_phone[key.context, key.phone].append(number)
    for a, key in enumerate(keys):
        others = [x for x in by_phone[key.context, key.phone] if x != a]
        chosen = _drawn(others, max_x_across, seed=seed, key=key).tolist()
        for b in by_speaker[key.context, key.speaker]:
            if b != a:
                yield from ((a, b, x) for x in chosen)


def _drawn(positions: list[int], most: int | None, *, seed: int, key: _Key) -> I64:
    all_positions = np.array(positions, dtype=np.int64)
    if most is None or len(positions) <= most:
        return all_positions
    name = "\0".join((*key.context, key.phone, key.speaker)).encode()
    digest = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
    chosen = np.random.default_rng([seed, digest]).choice(len(positions), size=most, replace=False)
    return all_positions[np.sort(chosen)]


def _cells(keys: Sequence[_Key], groups: Sequence[I64], cell_groups: I64) -> AbxCells:
    sizes = np.array([len(group) for group in groups], dtype=np.int64)
    a, b, x = cell_groups.T
    pairs, pair = _numbered(
        [(keys[i].phone, keys[j].phone) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    )
    contexts, context = _numbered([keys[i].context for i in a.tolist()])
    speakers, speaker = _numbered([key.speaker for key in keys])
    n_triples = np.where(a == x, sizes[a] * (sizes[a] - 1), sizes[x] * sizes[a]) * sizes[b]
    return AbxCells(pairs, speakers, contexts, pair, context, speaker[a], speaker[x], n_triples)


def _numbered(names: Sequence[Name]) -> tuple[tuple[Name, ...], I64]:
    """Return the distinct names, sorted, and int64[n] the number of each name among them."""
    distinct = tuple(sorted(set(names)))
    numbers = {name: number for number, name in enumerate(distinct)}
    return distinct, np.array([numbers[name] for name in names], dtype=np.int64)
