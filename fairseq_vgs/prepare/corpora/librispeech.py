"""LibriSpeech (Panayotov et al. 2015): speech alone, with speakers and transcripts.

As distributed: ``SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac`` beside ``SPEAKER-CHAPTER.trans.txt``,
whose lines are the utterance's name, a blank and what is said.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.files.tables import read_lines
from fairseq_vgs.prepare.alignments.items import ITEM_HEADER
from fairseq_vgs.prepare.build.folder import BuildOptions, build_folder
from fairseq_vgs.prepare.build.tables import command_line
from fairseq_vgs.prepare.corpora.corpus import Caption, Corpus
from fairseq_vgs.prepare.corpora.corpus_check import raise_any, raise_or_collect, split_problem

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
_TRAIN = "train"
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?([eE]-?[0-9]{1,2})?")


@dataclass(frozen=True)
class LibrispeechConfig:
    """What to take.

    Attributes:
        subsets: split of each subset that is taken; empty: all that are there, by their names.
        abx_items: ABX item file of these recordings, to copy along.
    """

    subsets: Mapping[str, str] = field(default_factory=dict)
    abx_items: Path | None = None


def parse_subsets(options: Iterable[str]) -> dict[str, str]:
    """Returns the split of each subset from ``SUBSET=SPLIT`` options.

    Raises:
        FaultError: an option says something else, or a subset is given twice.
    """
    subsets: dict[str, str] = {}
    faults = []
    for option in options:
        subset, found, split = option.partition("=")
        if not subset or not found or split_problem(split) or subset in subsets:
            expected = "must be SUBSET=SPLIT, each subset once"
            faults.append(fault("--subset", expected, option, "for example dev-clean=valid"))
        subsets[subset] = split
    raise_any(faults)
    return subsets


def prepare_librispeech(
    folder: Path,
    output: Path,
    *,
    config: LibrispeechConfig | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Builds a data folder of LibriSpeech and returns its summary.

    Args:
        folder: the folder of the subsets, or the one that it was unpacked in.
        output: the folder to make.
        config: what to take.
        options: how to build it.
        progress: called with (files done, files in all).

    Raises:
        FaultError: faulty layout, transcripts, items or recordings: all of them.
    """
    config = config or LibrispeechConfig()
    faults: list[Fault] = []
    corpus = read_librispeech(folder, subsets=config.subsets, faults=faults)
    items = config.abx_items
    if items is not None and items.suffix != ITEM_SUFFIX:
        # copied under its own name, it must not take a table's place
        expected = f"--abx-items: name must end in {ITEM_SUFFIX}"
        faults.append(fault(str(items), expected, items.name, "rename the file"))
    elif items is not None:
        faults += _item_faults(items, {PurePosixPath(caption.audio).stem for caption in corpus.captions})

    def finish(data: Path) -> Mapping[str, object]:
        if items is None:
            return {}
        shutil.copyfile(items, data / items.name)
        return {"abx_items": items.name}

    settings = {"subset": [f"{subset}={split}" for subset, split in config.subsets.items()]}
    return build_folder(
        corpus,
        output,
        options=options or BuildOptions(),
        faults=faults,
        progress=progress,
        command=command_line("librispeech", "LIBRISPEECH OUTPUT", {}),
        settings=settings,
        inputs=[folder] if items is None else [folder, items],
        finish=finish,
    )


def read_librispeech(
    folder: Path, *, subsets: Mapping[str, str] | None = None, faults: list[Fault] | None = None
) -> Corpus:
    """Reads which recordings there are, who speaks and what is said.

    Utterances that only the transcripts name are listed too, so that their missing recordings are found.

    Args:
        folder: the folder of the subsets, or the one that it was unpacked in.
        subsets: split of each subset to take; None or empty: all that are there, by their names.
        faults: gets the faults of layout and transcripts, which are raised otherwise.

    Raises:
        FaultError: there is no such folder, or all faults.
    """
    root = folder / UNPACKED if (folder / UNPACKED).is_dir() else folder
    if not root.is_dir():
        raise FaultError(Fault(str(folder), "must be the folder of LibriSpeech's subsets, got none"))
    known = {path.name: split for path in _folders(root) if (split := default_split(path.name))}
    found: list[Fault] = []
    for subset in subsets or ():
        if not (root / subset).is_dir():
            names = ", ".join(path.name for path in _folders(root)) or "none"
            found.append(fault(f"--subset {subset}", f"must be one of {names}", subset, "check the folder"))
    taken = {subset: split for subset, split in (subsets or known).items() if (root / subset).is_dir()}
    if not taken and not found:
        expected = "must hold subsets such as train-clean-100 or dev-clean, got none"
        found.append(Fault(str(root), f"{expected}; check the folder, or name them with --subset"))
    captions: list[Caption] = []
    for subset, split in taken.items():
        chapters = [chapter for speaker in _folders(root / subset) for chapter in _folders(speaker)]
        before = len(captions)
        for chapter in chapters:
            captions.extend(_read_chapter(chapter, root, split, found))
        if len(captions) == before and not found:
            expected = "must hold SPEAKER/CHAPTER/*.flac, got no recording"
            found.append(Fault(str(root / subset), f"{expected}; unpack it again"))
    raise_or_collect(found, faults)
    return Corpus("librispeech", audio_root=root, image_root=root, captions=captions)


def default_split(subset: str) -> str | None:
    """Returns the split that a subset becomes by its name, or None for a folder that is no subset."""
    return _TRAIN if subset.startswith("train-") else OTHER_SPLITS.get(subset)


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
        faults.extend(Fault(name, item.message) for item in error.faults)
        return
    faults.extend(Fault(name, str(item)) for item in unreadable)
    for number, line in enumerate(lines, start=1):
        if line is None or not line.strip():
            continue
        utterance, _, text = line.strip().partition(" ")
        place = f"{name}:{number}"
        if not utterance.startswith(f"{chapter}-"):
            expected = f"line must begin with an utterance's name, {chapter}-NNNN"
            faults.append(fault(place, expected, line, "correct the line, or unpack the chapter again"))
        elif utterance in texts:
            faults.append(fault(place, "utterance must have one line", utterance, "remove one of the two"))
        else:
            texts[utterance] = (text.strip(), place)


def _item_faults(path: Path, recordings: set[str]) -> Iterator[Fault]:
    lines, faults = read_lines(path)
    yield from faults
    header = ITEM_HEADER.split()
    columns = (lines[0] or "").split()
    if sorted(columns) != sorted(header):
        expected = f"header must be {ITEM_HEADER!r}"
        yield fault(f"{path.name}:1", expected, lines[0], "give a ZeroSpeech item file")
        return
    unknown: set[str] = set()
    for number, line in enumerate(lines[1:], start=2):
        place = f"{path.name}:{number}"
        fields = dict(zip(columns, (line or "").split(), strict=False))
        if line is None or len(line.split()) != len(header) or not _is_stretch(fields):
            yield fault(place, f"line must hold {ITEM_HEADER}, times in seconds", line, "make the file again")
        elif fields["#file"] not in recordings and fields["#file"] not in unknown:
            unknown.add(fields["#file"])
            step = "prepare the subset that the items are of"
            yield fault(place, "#file must be a recording of these subsets", fields["#file"], step)


def _is_stretch(fields: Mapping[str, str]) -> bool:
    times: Sequence[str] = (fields["onset"], fields["offset"])
    return all(map(_SECONDS.fullmatch, times)) and float(times[0]) <= float(times[1])
