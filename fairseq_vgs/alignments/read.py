"""Read phone alignments in the formats of common aligners.

| ending | format | recordings in a file |
|---|---|---|
| ``.lab`` | festvox and xwaves labels: a line ``#``, then ``end-time colour label`` lines | one |
| ``.TextGrid`` | Praat's, long or short: Montreal Forced Aligner, LibriSpeech alignments | one |
| ``.flite`` | what ``flite -psdur`` prints: ``label:end-time`` words on one line | one |
| ``.alignment.txt`` | LibriSpeech alignments, condensed: words only, a line for each utterance | many |
| ``.tsv`` | columns ``audio_id onset offset phone``, as in the embedded set | many |

Times are in seconds, kept exactly as written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from fairseq_vgs.alignments.textgrid import ROUNDING, Phone, read_tiers
from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.texts import decode_text
from fairseq_vgs.files.user_tables import read_table as read_user_table

PHONE_TIERS = ("phones", "phone", "phonemes", "phoneme", "segments")
TABLE_COLUMNS = ("audio_id", "onset", "offset", "phone")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{0,18})?")
_CONDENSED = re.compile(r'(\S+)\s+"([^"]*)"\s+"([^"]*)"')
_CORRECT = "correct the line, or align the recording again"


@dataclass(frozen=True, slots=True)
class Alignment:
    """The phones of one recording, pauses included, in file order.

    ``recording`` is its id in the file, or else the file's name without ending, ``source`` the file's name,
    both below the folder that all files have in common where two files have the same name, and ``folder`` the
    name of its folder: the speaker, in output of the Montreal Forced Aligner.
    """

    recording: str
    source: str
    phones: tuple[Phone, ...]
    folder: str = ""


Entries = Iterator[Alignment | Fault]


def find_alignments(sources: Sequence[Path]) -> list[Path]:
    """List the given alignment files, and those anywhere in given folders, sorted by path.

    Tables (``.tsv``) inside folders are ignored: they may be something else.

    Raises:
        FaultError: A source is missing, has an unknown ending, or a folder holds no alignment.
    """
    found: list[Path] = []
    faults: list[Fault] = []
    for source in sources:
        if source.is_dir():
            inside = sorted(path for path in source.rglob("*") if _reader_of(path) not in (None, read_table))
            if not inside:
                message = f"folder must hold files ending in {_ENDINGS}; check the path"
                faults.append(Fault(str(source), message, "folder.empty"))
            found += inside
        elif not source.is_file():
            faults.append(Fault(str(source), "alignment must exist; check the path", code="file.missing"))
        elif _reader_of(source) is None:
            expected, step = f"name must end in {_ENDINGS}", "rename it to match its format"
            faults.append(fault(str(source), expected, source.name, step, code="file.suffix"))
        else:
            found.append(source)
    raise_any(faults)
    return found


def read_alignments(
    paths: Iterable[Path], *, tier: str | None = None, below: Path | None = None
) -> list[Alignment]:
    """Read alignment files, each by its ending; ``tier`` names the TextGrids', by default that of the phones.

    ``below`` is a folder that holds all of them: recordings and sources are then named by their paths there.

    Empty and overlapping phones are not faults here; ``make_items`` counts them.

    Raises:
        FaultError: Every fault of every file, and recordings that are aligned twice.
    """
    alignments: dict[str, Alignment] = {}
    faults: list[Fault] = []
    for path, before in _folders_to_tell(list(paths), below):
        if (reader := _reader_of(path)) is None:
            raise ValueError(f"{path}: name must end in {_ENDINGS}")
        try:
            entries = list(read_textgrid(path, tier) if reader is read_textgrid else reader(path))
        except FaultError as error:
            faults += [replace(item, place=f"{before}{item.place}") for item in error.faults]
            continue
        except OSError as error:
            message = f"alignment must be readable ({error.strerror}); check the file"
            faults.append(Fault(str(path), message, "file.unreadable"))
            continue
        for entry in entries:
            if isinstance(entry, Fault):
                faults.append(replace(entry, place=f"{before}{entry.place}"))
                continue
            recording = f"{before if reader in _OF_ONE else ''}{entry.recording}"
            source, folder = f"{before}{entry.source}", path.absolute().parent.name
            found = replace(entry, recording=recording, source=source, folder=folder)
            faults += _phone_faults(found)
            if other := alignments.get(recording):
                expected = f"recording must be aligned once (also in {other.source})"
                at = f":{found.phones[0].line}" if other.source == source and found.phones else ""
                place, step = f"{source}{at}", "give one of the two"
                faults.append(fault(place, expected, recording, step, code="recording.duplicate"))
            alignments[recording] = found
    raise_any(faults)
    return list(alignments.values())


def _folders_to_tell(paths: Sequence[Path], below: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield each path with what tells it from others of its name: nothing, or its folder and a slash."""
    folders = [path.absolute().parent for path in paths]
    stems = [path.stem for path in paths if _reader_of(path) in _OF_ONE]
    if below is None and len(set(stems)) == len(stems):
        yield from ((path, "") for path in paths)
        return
    common = os.path.commonpath(folders) if below is None else below.absolute()
    for path, folder in zip(paths, folders, strict=True):
        relative = folder.relative_to(common).as_posix()
        yield path, "" if relative == "." else f"{relative}/"


def read_lab(path: Path) -> Entries:
    """Read xwaves labels, as in festvox voices; text after a semicolon is ignored.

    Raises:
        FaultError: Every faulty line.
    """
    lines = decode_text(path.read_bytes(), path.name).splitlines()
    if "#" not in lines:
        message = "header must end with a line '#'; give a festvox or xwaves label file"
        raise FaultError.at(f"{path.name}:1", message, "alignment.syntax")
    ends: list[tuple[Decimal, str, int]] = []
    faults: list[Fault] = []
    for number, line in enumerate(lines[lines.index("#") + 1 :], start=lines.index("#") + 2):
        fields = line.partition(";")[0].split()
        end = _seconds(fields[0]) if len(fields) == 3 else None
        if end is not None:
            ends.append((end, fields[2], number))
        elif line.strip():
            expected = "line must be 'end-time colour label'"
            faults.append(fault(f"{path.name}:{number}", expected, line, _CORRECT, code="alignment.syntax"))
    raise_any(faults)
    yield Alignment(path.stem, path.name, _from_ends(ends))


def read_textgrid(path: Path, tier: str | None = None) -> Entries:
    """Read one tier of a TextGrid, by default the only one called ``phones`` or the like.

    Raises:
        FaultError: ``alignment.tier``, or ``alignment.time`` of every interval.
    """
    tiers = read_tiers(path)
    chosen = [rows for name, rows in tiers if (name == tier if tier else _is_phone_tier(name))]
    if len(chosen) != 1:
        wanted = f"called {tier!r}" if tier else f"called or ending in one of {', '.join(PHONE_TIERS)}"
        expected, names = f"there must be one interval tier {wanted}", [name for name, _ in tiers]
        raise FaultError(fault(path.name, expected, names, "choose it with --tier", code="alignment.tier"))
    expected, step = "times must be 0 or more", "shift the tier to start at 0"
    raise_any(
        fault(f"{path.name}:{row.line}", expected, str(row.onset), step, code="alignment.time")
        for row in chosen[0]
        if row.onset < 0
    )
    yield Alignment(path.stem, path.name, chosen[0])


def read_flite(path: Path) -> Entries:
    """Read what ``flite -psdur`` printed for one utterance: ``pau:0.200 hh:0.245 ...``.

    Raises:
        FaultError: Every faulty word or line.
    """
    ends: list[tuple[Decimal, str, int]] = []
    faults: list[Fault] = []
    spoken = 0
    for number, line in enumerate(decode_text(path.read_bytes(), path.name).splitlines(), start=1):
        place, words = f"{path.name}:{number}", line.split()
        spoken += bool(words)
        if spoken > 1 and words:
            # Its times start from 0 again, and nothing says where its sound starts in the recording.
            expected, step = "file must hold one utterance", "run flite on each text separately"
            faults.append(fault(place, expected, line, step, code="alignment.syntax"))
            continue
        for word in words:
            label, _, text = word.rpartition(":")
            end = _seconds(text)
            if end is None or not label:
                expected, step = "words must be label:end-time", "print with flite -psdur"
                faults.append(fault(place, expected, word, step, code="alignment.syntax"))
            else:
                ends.append((end, label, number))
    raise_any(faults)
    yield Alignment(path.stem, path.name, _from_ends(ends))


def read_condensed(path: Path) -> Entries:
    """Read condensed LibriSpeech alignments of words: ``ID ",GO,," "0.490,0.890,1.27"``."""
    for number, line in enumerate(decode_text(path.read_bytes(), path.name).splitlines(), start=1):
        match, place = _CONDENSED.fullmatch(line.strip()), f"{path.name}:{number}"
        if match is None:
            if line.strip():
                expected = """line must be 'utterance-id "words" "end times"'"""
                yield fault(place, expected, line, _CORRECT, code="alignment.syntax")
            continue
        words, ends = match[2].split(","), [_seconds(text) for text in match[3].split(",")]
        if len(words) != len(ends) or None in ends:
            expected = f"line must have an end time in seconds for each of its {len(words)} words"
            yield fault(place, expected, match[3], _CORRECT, code="alignment.syntax")
        else:
            rows = [(end, word, number) for end, word in zip(ends, words, strict=True) if end is not None]
            yield Alignment(match[1], path.name, _from_ends(rows))


def read_table(path: Path) -> Entries:
    """Read one table for many recordings, such as ``alignments.tsv`` of the embedded set."""
    faults: list[Fault] = []
    columns = {name: name for name in TABLE_COLUMNS}
    recordings: dict[str, list[Phone]] = {}
    for row in read_user_table(path, columns, required=TABLE_COLUMNS, faults=faults):
        audio_id, *seconds, label = (row.fields[name] for name in TABLE_COLUMNS)
        onset, offset = map(_seconds, seconds)
        if onset is None or offset is None:
            expected = "onset and offset must be seconds, 0 or more"
            faults.append(fault(row.place, expected, " ".join(seconds), _CORRECT, code="alignment.time"))
        else:
            phone = Phone(onset, offset, label, row.line)
            recordings.setdefault(audio_id, []).append(phone)
    yield from faults
    yield from (Alignment(name, path.name, tuple(phones)) for name, phones in recordings.items())


def _seconds(text: str) -> Decimal | None:
    return Decimal(text) if _SECONDS.fullmatch(text) else None


def _from_ends(ends: Sequence[tuple[Decimal, str, int]]) -> tuple[Phone, ...]:
    onsets = (Decimal(0), *(end for end, _, _ in ends))
    return tuple(Phone(onset, *rest) for onset, rest in zip(onsets, ends, strict=False))


def _phone_faults(alignment: Alignment) -> Iterator[Fault]:
    if not alignment.phones:
        message = f"alignment of {alignment.recording!r} must hold phones, got none; align it again"
        yield Fault(alignment.source, message, "alignment.empty")
    for phone in alignment.phones:
        place = f"{alignment.source}:{phone.line}"
        if phone.offset < phone.onset - ROUNDING:
            expected, times = "a phone must not end before it starts", f"{phone.onset} {phone.offset}"
            yield fault(place, expected, times, _CORRECT, code="alignment.time")
        if phone.label.split() not in ([], [phone.label]):
            expected, step = "a label must not have blanks", "choose the phone tier"
            yield fault(place, expected, phone.label, step, code="alignment.label")


def _is_phone_tier(name: str) -> bool:
    return name.lower().rpartition(" - ")[2].strip() in PHONE_TIERS


def _reader_of(path: Path) -> Callable[[Path], Entries] | None:
    return next((reader for ending, reader in _READERS.items() if path.name.lower().endswith(ending)), None)


_READERS: dict[str, Callable[[Path], Entries]] = {
    ".lab": read_lab,
    ".textgrid": read_textgrid,
    ".flite": read_flite,
    ".alignment.txt": read_condensed,
    ".tsv": read_table,
}
_OF_ONE = (read_lab, read_textgrid, read_flite)  # of one recording, which has the file's name
_ENDINGS = ", ".join(_READERS)
