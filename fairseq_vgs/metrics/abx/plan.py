"""Plan what is compared with what: groups of tokens, cells, and the token pairs whose distance is needed.

A *group* holds the tokens of one phone in one context by one speaker. A *cell* compares groups: A and B by
the same speaker, of phones a and b, and X of phone a: A itself (within speaker), or of another speaker
(across).

Shapes: G groups, C cells, O ordered phone pairs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from fairseq_vgs.arrays import I64
from fairseq_vgs.metrics.abx.items import AbxError, AbxItem

Name = TypeVar("Name", str, tuple[str, str])

SPEAKER_MODES = ("within", "across")
CONTEXT_MODES = ("within", "any")


@dataclass(frozen=True)
class AbxCells:
    """The cells of a task, one entry per cell in every array; the same for every model and layer.

    Attributes:
        pairs: O ordered phone pairs (a, b), sorted.
        speakers: names of speakers.
        contexts: (previous, next) phones; one ("", "") where the context does not matter.
        pair: int64[C] number among ``pairs``.
        context: int64[C] number among ``contexts``.
        speaker: int64[C] speaker of A and B.
        x_speaker: int64[C] speaker of X.
        n_triples: int64[C] triples (a, b, x) that were compared.
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
    """A task in numbers.

    Attributes:
        cells: what the cells are.
        groups: per group the positions of its tokens among the items, after subsampling.
        cell_groups: int64[C, 3] groups A, B and X of each cell.
        n_subsampled: tokens left out of groups that exceed ``max_size_group``.
    """

    cells: AbxCells
    groups: tuple[I64, ...]
    cell_groups: I64
    n_subsampled: int


@dataclass(frozen=True)
class _Key:
    context: tuple[str, str]
    phone: str
    speaker: str


def make_plan(
    items: Sequence[AbxItem],
    usable: Sequence[bool],
    *,
    speaker: str,
    context: str,
    max_size_group: int | None,
    max_x_across: int | None,
    seed: int,
) -> Plan:
    """Enumerate groups and cells; the draws depend on the seed and each group's name alone.

    Args:
        items: all tokens.
        usable: whether each has frames.
        speaker: "within" or "across".
        context: "within" (A, B and X between the same phones) or "any".
        max_size_group: most tokens of a group; all if None.
        max_x_across: most speakers of X per context, phone a and speaker of A; all if None.
        seed: of the draws.

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
    numbers = {key: number for number, key in enumerate(keys)}
    if speaker == "within":
        found = list(_within(keys, groups))
    else:
        found = list(_across(keys, numbers, max_x_across, seed=seed))
    if not found:
        message = (
            f"expected at least one pair of phones to compare ({speaker} speaker, {context} context), "
            f"got none among {sum(usable)} usable tokens of {len({key.phone for key in keys})} phones by "
            f"{len({key.speaker for key in keys})} speakers; give more tokens or another condition"
        )
        raise AbxError.at("items", message, "item.unusable")
    cell_groups = np.array(found, dtype=np.int64)
    n_subsampled = sum(map(len, members.values())) - sum(map(len, groups))
    return Plan(_cells(keys, groups, cell_groups), groups, cell_groups, n_subsampled)


def n_overlapping(plan: Plan, starts: I64, lengths: I64) -> int:
    """Count the pairs of tokens that a cell compares, x with a or with b, and that share frames.

    Args:
        plan: groups and cells.
        starts: int64[items] first frame of each token, files one after the other.
        lengths: int64[items] frames of each token.
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
    codes = (group[i] * len(plan.groups) + group[j] for i, j in ((one, other), (other, one)))
    forth, back = (np.isin(code, known) for code in codes)
    return int((forth | back).sum())


def require_speakers(items: Sequence[AbxItem], speakers: Sequence[str], *, place: str) -> None:
    """Refuse items without two phones to compare within a context, "within" or "across" speaker.

    Whether tokens have frames is not checked.

    Args:
        items: all tokens.
        speakers: of ``SPEAKER_MODES``.
        place: the item file, for errors.

    Raises:
        AbxError: there is no cell.
    """
    for speaker in speakers:
        try:
            make_plan(
                items,
                [True] * len(items),
                speaker=speaker,
                context="within",
                max_size_group=None,
                max_x_across=1,
                seed=1,
            )
        except AbxError as error:
            faults = [replace(found, place=f"{place}: {found.place}") for found in error.faults]
            raise AbxError(faults) from None


def _within(keys: Sequence[_Key], groups: Sequence[I64]) -> Iterator[tuple[int, int, int]]:
    together: dict[tuple[tuple[str, str], str], list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        together[key.context, key.speaker].append(number)
    for numbers in together.values():
        for a in numbers:
            if len(groups[a]) > 1:
                yield from ((a, b, a) for b in numbers if b != a)


def _across(
    keys: Sequence[_Key], numbers: Mapping[_Key, int], max_x_across: int | None, *, seed: int
) -> Iterator[tuple[int, int, int]]:
    phones: dict[tuple[tuple[str, str], str], list[str]] = defaultdict(list)
    speakers: dict[tuple[tuple[str, str], str], list[str]] = defaultdict(list)
    for key in keys:
        phones[key.context, key.speaker].append(key.phone)
        speakers[key.context, key.phone].append(key.speaker)
    for key in keys:
        others = [name for name in speakers[key.context, key.phone] if name != key.speaker]
        chosen = _drawn(list(range(len(others))), max_x_across, seed=seed, key=key)
        x_groups = [numbers[_Key(key.context, key.phone, others[index])] for index in chosen.tolist()]
        for phone in phones[key.context, key.speaker]:
            if phone != key.phone:
                b = numbers[_Key(key.context, phone, key.speaker)]
                yield from ((numbers[key], b, x) for x in x_groups)


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
    pairs = [(keys[i].phone, keys[j].phone) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    pair_names, pair = numbered(pairs)
    contexts, context = numbered([keys[i].context for i in a.tolist()])
    speakers, _ = numbered([key.speaker for key in keys])
    speaker_number = {name: number for number, name in enumerate(speakers)}
    of_group = np.array([speaker_number[key.speaker] for key in keys], dtype=np.int64)
    return AbxCells(
        pairs=pair_names,
        speakers=speakers,
        contexts=contexts,
        pair=pair,
        context=context,
        speaker=of_group[a],
        x_speaker=of_group[x],
        n_triples=np.where(a == x, sizes[a] * (sizes[a] - 1), sizes[x] * sizes[a]) * sizes[b],
    )


def numbered(names: Sequence[Name]) -> tuple[tuple[Name, ...], I64]:
    """Return the distinct names, sorted, and int64[n] the number of each name among them."""
    distinct = tuple(sorted(set(names)))
    numbers = {name: number for number, name in enumerate(distinct)}
    return distinct, np.array([numbers[name] for name in names], dtype=np.int64)
