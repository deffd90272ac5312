"""LibriSpeech (Panayotov et al. 2015): speech alone, with speakers and transcripts.

As distributed: ``SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac`` next to ``SPEAKER-CHAPTER.trans.txt``,
whose lines are an utterance's name, a blank and its text.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.alignments.items import ITEM_HEADER
from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.spelling import PathNames
from fairseq_vgs.files.tables import read_lines
from fairseq_vgs.options import option
from fairseq_vgs.prepare.corpora import CORPORA, CorpusReader
from fairseq_vgs.prepare.corpus import Caption, Corpus, split_problem

ITEM_SUFFIX = ".item"
UNPACKED = "LibriSpeech"
AUDIO_SUFFIXES = (".flac", ".wav")
TRANSCRIPTS = ".trans.txt"
OTHER_SPLITS = {
    "dev-clean": "valid",
    "test-clean": "test",
    "dev-other": "valid_other",
    "test-other": "test_other",
}
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?([eE]-?[0-9]{1,2})?")


@CORPORA.register("librispeech")
@dataclass(frozen=True)
class LibriSpeech(CorpusReader):
    """LibriSpeech: speech alone, with speakers and transcripts.

    LibriSpeech as it is unpacked (SUBSET/SPEAKER/CHAPTER/*.flac and *.trans.txt): audio lists with speakers
    and transcripts. Without --subset, train-* becomes train, dev-clean valid, test-clean test, dev-other
    valid_other and test-other test_other, as far as they are there.
    """

    examples = (
        "fairseq-vgs prepare librispeech LibriSpeech DATA",
        "fairseq-vgs prepare librispeech LibriSpeech DATA --subset dev-clean=valid --abx-items dev.item",
    )
    source = ("LIBRISPEECH", "folder of the subsets")

    subset: tuple[str, ...] = option(
        (),
        help="take this subset, as part of this split; repeat for more",
        metavar="SUBSET=SPLIT",
        repeated=True,
    )
    abx_items: Path | None = option(
        None, help="ABX item file of one subset, checked and copied into the folder", metavar="FILE"
    )

    def __post_init__(self) -> None:
        """Refuse impossible subsets."""
        parse_subsets(self.subset)

    def collect(self, source: Path, faults: list[Fault]) -> Corpus:
        """Read which recordings there are, who speaks and what is said.

        Utterances found only in transcripts are listed too: their recordings are missing. Raises FaultError.
        """
        root = source / UNPACKED if (source / UNPACKED).is_dir() else source
        if not root.is_dir():
            message = "must be the folder of LibriSpeech's subsets, got none; check the path"
            raise FaultError.at(source, message, "corpus.folder")
        subsets = parse_subsets(self.subset)
        known = {path.name: split for path in _folders(root) if (split := _default_split(path.name))}
        for subset in subsets:
            if not (root / subset).is_dir():
                names = ", ".join(path.name for path in _folders(root)) or "none"
                expected, step = f"must be one of {names}", "check the folder"
                faults.append(fault(f"--subset {subset}", expected, subset, step, code="setting.value"))
        taken = {subset: split for subset, split in (subsets or known).items() if (root / subset).is_dir()}
        if not taken and not faults:
            expected = "must hold subsets such as train-clean-100 or dev-clean, got none"
            message = f"{expected}; check the folder, or name them with --subset"
            faults.append(Fault(str(root), message, "corpus.folder"))
        captions: list[Caption] = []
        for subset, split in taken.items():
            chapters = [chapter for speaker in _folders(root / subset) for chapter in _folders(speaker)]
            found = [item for chapter in chapters for item in _read_chapter(chapter, root, split, faults)]
            captions += found
            if not found and not faults:
                message = "must hold SPEAKER/CHAPTER/*.flac, got no recording; unpack it again"
                faults.append(Fault(str(root / subset), message, "recording.missing"))
        if self.abx_items is not None:
            faults += _item_faults(self.abx_items, PathNames(caption.audio for caption in captions))
        return Corpus("librispeech", audio_root=root, image_root=root, captions=captions)

    def finish(self, folder: Path) -> Mapping[str, object]:
        """Copy the item file."""
        if self.abx_items is None:
            return {}
        shutil.copyfile(self.abx_items, folder / self.abx_items.name)
        return {"abx_items": self.abx_items.name}


def parse_subsets(options: Iterable[str]) -> dict[str, str]:
    """Return the split of each subset from ``SUBSET=SPLIT`` options.

    Raises:
        FaultError: An option is malformed, or a subset is given twice.
    """
    subsets: dict[str, str] = {}
    faults = []
    for option_ in options:
        subset, found, split = option_.partition("=")
        if not subset or not found or split_problem(split) or subset in subsets:
            expected, step = "must be SUBSET=SPLIT, each subset once", "for example dev-clean=valid"
            faults.append(fault("--subset", expected, option_, step, code="setting.value"))
        subsets[subset] = split
    raise_any(faults)
    return subsets


def _default_split(subset: str) -> str | None:
    return "train" if subset.startswith("train-") else OTHER_SPLITS.get(subset)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_chapter(chapter: Path, root: Path, split: str, faults: list[Fault]) -> Iterator[Caption]:
    speaker = chapter.parent.name
    files = sorted(path for path in chapter.iterdir() if not path.name.startswith("."))
    texts: dict[str, tuple[str, str]] = {}
    for path in files:
        if path.name.lower().endswith(TRANSCRIPTS):
            _read_transcripts(path, root, texts, faults)
    recordings = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    for path in recordings:
        text, _ = texts.pop(path.stem, ("", ""))
        audio = path.relative_to(root).as_posix()
        yield Caption(audio, split, speaker=speaker, text=text, place=audio)
    for name, (text, place) in texts.items():
        audio = (chapter / f"{name}{AUDIO_SUFFIXES[0]}").relative_to(root).as_posix()
        yield Caption(audio, split, speaker=speaker, text=text, place=place)


def _read_transcripts(path: Path, root: Path, texts: dict[str, tuple[str, str]], faults: list[Fault]) -> None:
    name = path.relative_to(root).as_posix()
    chapter = path.name[: -len(TRANSCRIPTS)]
    try:
        lines, unreadable = read_lines(path)
    except FaultError as error:
        faults.extend(Fault(name, item.message, code=item.code) for item in error.faults)
        return
    faults.extend(Fault(name, str(item), code=item.code) for item in unreadable)
    for number, line in enumerate(lines, start=1):
        if line is None or not line.strip():
            continue
        utterance, _, text = line.strip().partition(" ")
        place = f"{name}:{number}"
        if not utterance.startswith(f"{chapter}-"):
            expected = f"line must begin with an utterance's name, {chapter}-NNNN"
            step = "correct the line, or unpack the chapter again"
            faults.append(fault(place, expected, line, step, code="corpus.line"))
        elif utterance in texts:
            expected, step = "utterance must have one line", "remove one of the two"
            faults.append(fault(place, expected, utterance, step, code="recording.duplicate"))
        else:
            texts[utterance] = (text.strip(), place)


def _item_faults(path: Path, recordings: PathNames) -> Iterator[Fault]:
    if path.suffix != ITEM_SUFFIX:
        # copied under its own name, it must not take a table's place
        expected = f"--abx-items: name must end in {ITEM_SUFFIX}"
        yield fault(str(path), expected, path.name, "rename the file", code="file.suffix")
        return
    read, faults = read_lines(path, marked=True)
    yield from faults
    # the ABX test takes line ends of all kinds
    lines = [part for line in read for part in (line or "").splitlines() or [""]]
    header, columns = ITEM_HEADER.split(), lines[0].split()
    if sorted(columns) != sorted(header):
        expected = f"header must be {ITEM_HEADER!r}"
        yield fault(f"{path.name}:1", expected, lines[0], "give a ZeroSpeech item file", code="table.column")
        return
    seen: set[str] = set()
    for number, line in enumerate(lines[1:], start=2):
        place, words = f"{path.name}:{number}", line.split()
        fields = dict(zip(columns, words, strict=False))
        if len(words) != len(header) or not _is_stretch(fields["onset"], fields["offset"]):
            expected, step = f"line must hold {ITEM_HEADER}, times in seconds", "make the file again"
            yield fault(place, expected, line, step, code="table.line")
        elif (file := fields["#file"]) not in seen:
            seen.add(file)
            if len(recordings.find(file)) != 1:
                expected = "#file must be one recording of these subsets"
                step = "prepare the subset that the items are from"
                yield fault(place, expected, file, step, code="recording.unknown")


def _is_stretch(onset: str, offset: str) -> bool:
    return all(map(_SECONDS.fullmatch, (onset, offset))) and float(onset) <= float(offset)
