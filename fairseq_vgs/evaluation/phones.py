"""The tokens of an ABX test and their recordings: from an item file, or from alignments of the recordings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.media.rates import FRAME_STRIDE, SAMPLE_RATE

if TYPE_CHECKING:
    from fairseq_vgs.alignments.items import Items
    from fairseq_vgs.alignments.read import Alignment
    from fairseq_vgs.features.recordings import Recording
    from fairseq_vgs.metrics.abx import AbxItem

_NAMED = 5  # recordings in a note
_BLANKS = re.compile(r"[\s%]")


@dataclass(frozen=True)
class Phones:
    """Tokens, the recordings that they are in by name, and what is to be said about others.

    ``name`` and ``digest`` are those of the item file, or of what was made from alignments: its ``text``.
    """

    recordings: Mapping[str, Recording]
    items: Sequence[AbxItem]
    name: str
    digest: str
    notes: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Aligned:
    """How tokens are made from alignments: a file or folder, and the settings of ``prepare items``."""

    path: Path
    tier: str | None = None
    unit: str = "triphone"
    strip_stress: bool = False
    speaker_before: str | None = None


def open_phones(folder: Path, split: str, source: Path | Aligned) -> Phones:
    """Read tokens from an item file or alignments, and list the recordings that hold them.

    Raises:
        FaultError: Faulty items, alignments or recordings, or items of other recordings; alignments and
            recordings of which none belong together.
    """
    from fairseq_vgs.features.recordings import check_items, open_recordings
    from fairseq_vgs.metrics.abx import read_items

    recordings = open_recordings(folder, split)
    if isinstance(source, Aligned):
        return _from_alignments(recordings, source, folder=folder)
    items = check_items(read_items(source), recordings, name=source.name)
    return Phones(_used(recordings, items), items, source.name, sha256_file(source))


def item_file(folder: Path, name: str | None) -> Path:
    """Return the item file of a name in a folder, or of a path; without a name, the only one in the folder.

    Raises:
        FaultError: ``file.ambiguous``, no name, and none or several; ``file.missing``, no such folder.
    """
    if name:
        inside = folder / name
        return Path(name) if Path(name).is_file() and not inside.is_file() else inside
    from fairseq_vgs.features.recordings import require_folder

    require_folder(folder)
    found = sorted(folder.glob("*.item"))
    if len(found) != 1:
        names = [path.name for path in found]
        step = "name one with --items, or give --alignments, such as a folder of TextGrids"
        raise FaultError.at(folder, f"folder must hold one item file, got {names}; {step}", "file.ambiguous")
    return found[0]


def _from_alignments(recordings: Mapping[str, Recording], source: Aligned, *, folder: Path) -> Phones:
    from fairseq_vgs.alignments.items import ITEM_HEADER, Speakers, make_items
    from fairseq_vgs.alignments.read import find_alignments, read_alignments

    below = source.path if source.path.is_dir() else None
    found = read_alignments(find_alignments([source.path]), tier=source.tier, below=below)
    matched, others = _match(found, recordings)
    if not matched:
        expected = f"alignments must be of recordings in {folder}, named by their paths"
        names = ", ".join(alignment.recording for alignment in others[:_NAMED])
        step = f"compare these names with those of the recordings, such as {next(iter(recordings))}"
        raise FaultError(fault(str(source.path), expected, names, step, code="recording.name"))
    speakers = _speakers(matched, recordings, source.speaker_before, top=folder.resolve().name)
    named = [
        replace(one, recording=_quoted(name), folder=_quoted(speakers[name])) for name, one in matched.items()
    ]
    made = make_items(named, Speakers(folders=True), unit=source.unit, strip_stress=source.strip_stress)
    items = [_item(line) for line in made.lines]
    _refuse_longer(items, recordings, matched)
    text = "\n".join([ITEM_HEADER, *made.lines]) + "\n"
    name = f"{source.unit}s of {source.path.name}"
    notes = _notes(matched, recordings, others, made)
    return Phones(_used(recordings, items), items, name, sha256(text.encode()).hexdigest(), notes, text)


def _match(
    alignments: Iterable[Alignment], recordings: Mapping[str, Recording]
) -> tuple[dict[str, Alignment], list[Alignment]]:
    """Return the alignment of each recording that has one, by its name, and those of no recording.

    Of their paths without ending, one is the end of the other.
    """
    from fairseq_vgs.files.spelling import PathNames, spelling_key

    by_path = {recording.audio_id: name for name, recording in recordings.items()}
    paths = PathNames(by_path)
    whole = {spelling_key(PurePosixPath(path).with_suffix("").as_posix()): path for path in by_path}
    matched: dict[str, Alignment] = {}
    others: list[Alignment] = []
    faults: list[Fault] = []
    for alignment in alignments:
        fits = [by_path[path] for path in paths.find(alignment.recording)]
        if not fits and alignment.recording in recordings:
            fits = [alignment.recording]
        if not fits:
            parts = spelling_key(alignment.recording).split("/")
            ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
            fits = [by_path[whole[end]] for end in ends if end in whole][:1]
        if not fits:
            others.append(alignment)
        elif len(fits) > 1:
            expected = f"alignment must be of one recording, not both {fits[0]} and {fits[1]}"
            step = "put it into a folder with the name of the recording's"
            found = fault(alignment.source, expected, alignment.recording, step, code="recording.ambiguous")
            faults.append(found)
        elif (first := matched.setdefault(fits[0], alignment)) is not alignment:
            expected = f"recording must be aligned once (also in {first.source})"
            step = "remove one of the two"
            faults.append(fault(alignment.source, expected, fits[0], step, code="recording.duplicate"))
    raise_any(faults)
    return matched, others


def _speakers(
    matched: Mapping[str, Alignment], recordings: Mapping[str, Recording], before: str | None, *, top: str
) -> dict[str, str]:
    """Return each recording's speaker: the part of its name ``before`` a text, or its folder.

    Raises:
        FaultError: ``alignment.speaker``, every recording whose name lacks that text.
    """
    found: dict[str, str] = {}
    faults: list[Fault] = []
    for name in matched:
        path = PurePosixPath(recordings[name].audio_id)
        speaker, divided, _ = path.stem.partition(before) if before else (path.parent.name or top, "/", "")
        found[name] = speaker
        if not (speaker and divided):
            expected, step = f"name must have {before!r} after the speaker", "choose another --speaker-before"
            faults.append(fault(recordings[name].place, expected, name, step, code="alignment.speaker"))
    raise_any(faults)
    return found


def _notes(
    matched: Mapping[str, Alignment],
    recordings: Mapping[str, Recording],
    others: Sequence[Alignment],
    made: Items,
) -> tuple[str, ...]:
    """Count and name what was left out."""
    silent = [name for name in recordings if name not in matched]
    left = {
        "of {n} recordings have no alignment and are left out": (silent, len(recordings)),
        "of {n} alignments have no recording and are left out": (
            [alignment.recording for alignment in others],
            len(others) + len(matched),
        ),
    }
    notes = [
        f"{len(names)} {what.format(n=total)}: {', '.join(names[:_NAMED])}"
        f"{', ...' if len(names) > _NAMED else ''}"
        for what, (names, total) in left.items()
        if names
    ]
    return (*notes, *(f"{count} items left out: {reason}" for reason, count in made.left_out.items()))


def _item(line: str) -> AbxItem:
    from fairseq_vgs.metrics.abx import AbxItem

    file, onset, offset, phone, before, after, speaker = line.split()
    times = Decimal(onset), Decimal(offset)
    return AbxItem(unquote(file), *times, phone, before, after, unquote(speaker))


def _refuse_longer(
    items: Iterable[AbxItem], recordings: Mapping[str, Recording], matched: Mapping[str, Alignment]
) -> None:
    """Refuse every alignment with a token that ends a frame, or more, after its recording."""
    ends: dict[str, Decimal] = {}
    for item in items:
        ends[item.file] = max(item.offset, ends.get(item.file, item.offset))
    step = "give the alignments of these recordings"
    raise_any(
        fault(
            matched[name].source,
            f"alignment must end within the {recordings[name].n_samples / SAMPLE_RATE:.3f} s of {name}",
            str(end),
            step,
            code="item.length",
        )
        for name, end in ends.items()
        if end * SAMPLE_RATE > recordings[name].n_samples + FRAME_STRIDE
    )


def _quoted(name: str) -> str:
    """Return a name without blanks, which divide the columns of item files; ``unquote`` reverses it."""
    return _BLANKS.sub(lambda match: quote(match[0]), name)


def _used(recordings: Mapping[str, Recording], items: Iterable[AbxItem]) -> dict[str, Recording]:
    files = {item.file for item in items}
    return {name: recording for name, recording in recordings.items() if name in files}
