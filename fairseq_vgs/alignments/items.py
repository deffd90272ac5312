"""Make ZeroSpeech ABX item files from phone alignments.

A *triphone* item spans a phone and both its neighbours; a *phoneme* item spans the phone alone and only names
its neighbours (ZeroSpeech 2015/17 and 2021).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path, PurePosixPath

from fairseq_vgs.alignments.read import Alignment, find_alignments, read_alignments
from fairseq_vgs.alignments.textgrid import ROUNDING, Phone
from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.faults import Fault, fault, raise_any
from fairseq_vgs.files.output import refuse_existing, try_output
from fairseq_vgs.files.spelling import PathNames
from fairseq_vgs.files.tables import line_number
from fairseq_vgs.files.user_tables import read_table

ITEM_HEADER = "#file onset offset #phone prev-phone next-phone speaker"
PAUSES = ("", "#", "h#", "pau", "sil", "sp", "spn", "ssil", "<eps>", "<sil>")
TRIPHONE, PHONEME = UNITS = ("triphone", "phoneme")
SILENCE = "SIL"
ZERO_LENGTH, OVERLAP, GAP = "phone of no duration", "overlap of two phones", "gap between two phones"
MAX_PLACES = 20


@dataclass(frozen=True)
class Speakers:
    """Who speaks in a recording, and its name in item files: one of these is set.

    ``table`` holds file name and speaker by recording, whose last parts do for its name where no other ends
    so. Otherwise ``everyone`` speaks, or the part of a
    recording's name before the ``separator``, as in LibriSpeech (``-``), or the alignment's folder, as in
    output of the Montreal Forced Aligner.
    """

    everyone: str | None = None
    table: Mapping[str, tuple[str, str]] | None = None
    separator: str | None = None
    folders: bool = False

    @functools.cached_property
    def _names(self) -> PathNames:
        return PathNames(self.table or ())

    def find(self, alignment: Alignment) -> tuple[str, str] | None:
        """Return the recording's file name and speaker, or None if unknown."""
        recording = alignment.recording
        if self.table is not None:
            found = self._names.find(recording)
            return self.table[found[0]] if len(found) == 1 else None
        if self.folders:
            return recording, alignment.folder
        if self.separator is not None:
            before, divided, _ = PurePosixPath(recording).name.partition(self.separator)
            return (recording, before) if divided and before else None
        return (recording, self.everyone) if self.everyone else None


@dataclass
class Items:
    """The lines of an item file, without the header, and what was left out.

    ``n_phones`` counts phones that are not pauses, ``faulty`` faulty ones or pairs of neighbours by reason,
    with the ``places`` of the first, and ``left_out`` the items left out for it.
    """

    lines: list[str] = field(default_factory=list)
    n_phones: int = 0
    faulty: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def note(self, reason: str, place: str) -> None:
        """Count a faulty phone."""
        self.faulty[reason] += 1
        if self.faulty[reason] <= MAX_PLACES:
            self.places.setdefault(reason, []).append(place)


def seconds(value: Decimal) -> str:
    """Write a time without trailing zeros, never in exponent form."""
    # Praat writes times of -0.
    return format(value.normalize(), "f") if value else "0"


def make_items(
    alignments: Iterable[Alignment],
    speakers: Speakers,
    *,
    unit: str = TRIPHONE,
    pauses: Collection[str] = PAUSES,
    strip_stress: bool = False,
) -> Items:
    """Make the items, of a ``unit`` ``triphone`` or ``phoneme``, of all recordings.

    Items with empty phones or overlapping neighbours and triphones across a gap are left out and counted;
    times that differ by a microsecond or less are equal.
    Next to a pause, a gap or an end of the recording there is no triphone; phonemes get the context ``SIL``.
    The labels of pauses, in lower case, match in any case; ``strip_stress`` removes digits from the ends of
    labels (``AH0``).

    Raises:
        FaultError: Every recording whose speaker is unknown, or no items.
    """
    items = Items()
    faults = []
    for alignment in alignments:
        names = speakers.find(alignment)
        if names is None or any(name.split() != [name] for name in names):
            faults.append(_speaker_fault(alignment, names, speakers))
            continue
        file, speaker = names
        phones = [_labelled(phone, pauses, strip_stress) for phone in alignment.phones]
        _note_faulty(items, phones, alignment.source)
        for onset, offset, *labels in _windows(items, phones, unit):
            items.lines.append(" ".join((file, seconds(onset), seconds(offset), *labels, speaker)))
    if not faults and not items.lines:
        message = f"there must be a {unit} between pauses, got none; check --pauses"
        faults.append(Fault("alignments", message, "item.missing"))
    raise_any(faults)
    return items


def _speaker_fault(alignment: Alignment, names: tuple[str, str] | None, speakers: Speakers) -> Fault:
    expected, got = "recording must have a speaker", alignment.recording
    step = "add it, with its folder if others have its name, to the table of --speakers"
    if names is not None:
        # Item files divide columns by blanks, and have no quotes.
        expected, got = "file name and speaker must be without blanks in an item file", ", ".join(names)
        step = "give others in a table for --speakers (columns audio_id, file, speaker)"
        step += ", or rename the folder" if speakers.folders else ""
    return fault(alignment.source, expected, got, step, code="alignment.speaker")


def write_items(path: Path, items: Items, *, force: bool = False) -> int:
    """Write the item file; return the number of items."""
    write_text(path, "\n".join([ITEM_HEADER, *items.lines]) + "\n", force=force)
    return len(items.lines)


def read_speakers(path: Path) -> Speakers:
    """Read a table with the columns ``file`` and ``speaker``, such as the embedded set's ``utterances.tsv``.

    A column ``audio_id``, if present, is the recording's name in the alignments.

    Raises:
        FaultError: Every faulty line.
    """
    faults: list[Fault] = []
    table: dict[str, tuple[str, str]] = {}
    columns = {name: name for name in ("file", "speaker", "audio_id")}
    for row in read_table(path, columns, required=("file", "speaker"), faults=faults):
        recording = row.fields.get("audio_id", row.fields["file"])
        if recording in table:
            expected, step = "recording must be listed once", "remove one of the two"
            faults.append(fault(row.place, expected, recording, step, code="recording.duplicate"))
        table[recording] = row.fields["file"], row.fields["speaker"]
    raise_any(sorted(faults, key=line_number))
    return Speakers(table=table)


def prepare_items(
    sources: Sequence[Path],
    output: Path,
    *,
    speakers: Speakers,
    unit: str = TRIPHONE,
    pauses: Collection[str] = PAUSES,
    strip_stress: bool = False,
    tier: str | None = None,
    force: bool = False,
) -> dict[str, object]:
    """Make an item file from alignment files or folders of them; return counts.

    See ``make_items`` for the settings, and ``read_alignments`` for ``tier``.

    Raises:
        FaultError: All faults of the alignments; nothing is written. Or ``output.unwritable``.
        OutputExistsError: The item file exists and ``force`` is off.
    """
    refuse_existing(output, force=force)
    try_output(output.parent, option="OUTPUT")
    alignments = read_alignments(find_alignments(sources), tier=tier)
    items = make_items(alignments, speakers, unit=unit, pauses=pauses, strip_stress=strip_stress)
    n_items = write_items(output, items, force=force)
    faulty = {
        reason: {"count": count, "items_left_out": items.left_out[reason], "places": items.places[reason]}
        for reason, count in items.faulty.items()
    }
    counts: dict[str, object] = {"unit": unit, "recordings": len(alignments), "phones": items.n_phones}
    return {**counts, "items": n_items, "faulty": faulty}


def _labelled(phone: Phone, pauses: Collection[str], strip_stress: bool) -> Phone:
    if phone.label.lower() in pauses:
        return phone._replace(label="")
    # A label of digits only has no stress to strip.
    label = phone.label.rstrip("0123456789") if strip_stress else ""
    return phone._replace(label=label or phone.label)


def _is_empty(phone: Phone) -> bool:
    return bool(phone.label) and phone.offset - phone.onset <= ROUNDING


def _joint(first: Phone, second: Phone) -> str | None:
    if second.onset < first.offset - ROUNDING:
        return OVERLAP
    return GAP if second.onset > first.offset + ROUNDING else None


def _note_faulty(items: Items, phones: Sequence[Phone], source: str) -> None:
    for phone in phones:
        items.n_phones += bool(phone.label)
        if _is_empty(phone):
            items.note(ZERO_LENGTH, f"{source}:{phone.line}")
    for first, second in pairwise(phones):
        if reason := _joint(first, second):
            items.note(reason, f"{source}:{second.line}")


def _windows(
    items: Items, phones: Sequence[Phone], unit: str
) -> Iterator[tuple[Decimal, Decimal, str, str, str]]:
    """Yield onset, offset and labels (phone, before, after) of each item; count those left out."""
    wide = unit == TRIPHONE
    for before, phone, after in zip((None, *phones), phones, (*phones[1:], None), strict=False):
        left, right = (each.label if each else "" for each in (before, after))
        joints = [before and _joint(before, phone), after and _joint(phone, after)]
        if not phone.label or (wide and not (left and right)):
            continue
        if any(each and _is_empty(each) for each in ((before, phone, after) if wide else (phone,))):
            items.left_out[ZERO_LENGTH] += 1
        elif OVERLAP in joints or (wide and GAP in joints):
            items.left_out[OVERLAP if OVERLAP in joints else GAP] += 1
        elif wide and before and after:
            yield before.onset, after.offset, phone.label, left, right
        else:
            left = SILENCE if not left or joints[0] == GAP else left
            right = SILENCE if not right or joints[1] == GAP else right
            yield phone.onset, phone.offset, phone.label, left, right
