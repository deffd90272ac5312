"""Leakage: material that training and held-out splits share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from fairseq_vgs.files.faults import Fault
from fairseq_vgs.files.tables import Table
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow


class Use(NamedTuple):
    """One use of some material: which split, where, under which name."""

    split: str
    place: str
    name: str


def split_role(split: str) -> str:
    """Return the part before the first ``_``, ``-`` or ``.``: ``train_extra`` is training material too."""
    return re.split(r"[_.\-]", split)[0]


def audio_leakage(
    audio: Mapping[str, Table[AudioRow]], fingerprints: Mapping[str, Sequence[str | None]]
) -> list[Fault]:
    """Return the utterances that also occur in an earlier split (in the order given) with another role.

    Fingerprints are of the sound of each row of each list; None if it could not be read.
    """
    uses = (
        (print_, Use(split, place, row.audio_id))
        for split, table in audio.items()
        for (place, row), print_ in zip(table.placed(), fingerprints[split], strict=True)
    )
    return [
        _leak(use, first, "splits must not share audio", f"the same audio as {first.name!r}")
        for use, first in _shared(uses)
    ]


def image_leakage(
    pairs: Mapping[str, Table[PairRow]], images: Mapping[str, ImageRow], fingerprints: Mapping[str, str]
) -> list[Fault]:
    """Return the images that also occur in an earlier split with another role, by id, content or group.

    Splits have their order of precedence; images and fingerprints of the readable ones' content are by id.
    """
    uses = list(_first_uses(pairs))
    faults, leaked = [], set()
    for use, first in _shared((use.name, use) for use in uses):
        leaked.add((use.split, use.name))
        faults.append(_leak(use, first, "splits must not share images", f"image_id {use.name!r}"))
    others = [use for use in uses if (use.split, use.name) not in leaked]
    for use, first in _shared((fingerprints.get(use.name), use) for use in others):
        got = f"{use.name!r} with the same picture as {first.name!r}"
        faults.append(_leak(use, first, "splits must not share images", got))
    grouped = ((images[use.name].group_id, use) for use in others if use.name in images)
    for use, first in _shared(grouped):
        got = f"{use.name!r} and {first.name!r} of group {images[use.name].group_id!r}"
        faults.append(_leak(use, first, "splits must not share groups of images", got))
    return faults


def _first_uses(pairs: Mapping[str, Table[PairRow]]) -> Iterator[Use]:
    for split, table in pairs.items():
        first: dict[str, str] = {}
        for place, row in table.placed():
            first.setdefault(row.image_id, place)
        yield from (Use(split, place, image_id) for image_id, place in first.items())


def _shared(uses: Iterable[tuple[str | None, Use]]) -> Iterator[tuple[Use, Use]]:
    first_uses: dict[str, Use] = {}
    for key, use in uses:
        if key is None:
            continue
        first = first_uses.setdefault(key, use)
        if split_role(first.split) != split_role(use.split):
            yield use, first


def _leak(use: Use, first: Use, expected: str, got: str) -> Fault:
    step = f"remove it from {use.split} or {first.split}"
    return Fault(use.place, f"{expected}, got {got} ({first.place}); {step}", "split.leakage")
