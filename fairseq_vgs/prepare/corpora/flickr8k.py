"""Flickr8k Audio (Harwath and Glass 2015): five captions of each of 8,000 pictures, read aloud.

As distributed: ``flickr_audio`` with ``wavs/``, ``wav2capt.txt`` (``WAV IMAGE #NUMBER``) and ``wav2spk.txt``
(``WAV SPEAKER``); ``Flickr8k_text`` with ``Flickr8k.token.txt`` (``IMAGE#NUMBER``, tab, caption) and a list
of pictures for each split; the pictures in ``Flicker8k_Dataset``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.prepare.build.folder import BuildOptions, build_folder
from fairseq_vgs.prepare.build.split import TEST, TRAIN, VALID
from fairseq_vgs.prepare.build.tables import command_line
from fairseq_vgs.prepare.corpora.corpus import Caption, Corpus, Picture
from fairseq_vgs.prepare.corpora.corpus_check import corpus_faults, raise_or_collect
from fairseq_vgs.prepare.corpora.published import read_corpus_lines, read_published

logger = logging.getLogger(__name__)

AUDIO_FOLDERS = ("flickr_audio", "flickr_audio/flickr_audio", ".")
IMAGE_FOLDERS = (
    "Flicker8k_Dataset",
    "Flickr8k_Dataset/Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "Images",
)
TEXT_FOLDERS = ("Flickr8k_text", ".")
RECORDINGS, CAPTIONS, SPEAKERS, TEXTS = "wavs", "wav2capt.txt", "wav2spk.txt", "Flickr8k.token.txt"
LISTS = {
    TRAIN: (
        "Flickr_8k.trainImages.txt",
        "e330ddd5156a4c2d2e2b67bc587e70e588f2d132bd8a10dc54dcb71e58115d8e",
    ),
    VALID: ("Flickr_8k.devImages.txt", "18ba829f47f6df1cb830bf7f0506e2ddf333818925299babbd1bbcaf50fdc504"),
    TEST: ("Flickr_8k.testImages.txt", "c0924146c131458ceba45da59670fe9520eadce1e5cafffa16a817672a9b1f17"),
}
IN_NO_LIST = "recording of a picture that is in no published list"
NAMED_FAULTY = "recording named as faulty"
_NUMBER = re.compile(r"#[0-9]{1,3}")


@dataclass(frozen=True)
class Flickr8kConfig:
    """What to make of Flickr8k Audio.

    Attributes:
        images: folder of the pictures; None looks for it in the corpus.
        pictures: take the pictures; without them, region features stand for them.
        lists: folder of the published lists of pictures, where the corpus has none.
        faulty: file that names recordings to leave out, one a line.
    """

    images: Path | None = None
    pictures: bool = True
    lists: Path | None = None
    faulty: Path | None = None


def prepare_flickr8k(
    folder: Path,
    output: Path,
    *,
    config: Flickr8kConfig | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Builds a data folder of Flickr8k Audio and returns its summary.

    Args:
        folder: the folder of ``flickr_audio``, ``Flickr8k_text`` and ``Flicker8k_Dataset``.
        output: the folder to make.
        config: what to make of it.
        options: how to build it.
        progress: called with (files done, files in all).

    Raises:
        FaultError: faulty lists, recordings or pictures: all of them.
    """
    config = config or Flickr8kConfig()
    faults: list[Fault] = []
    return build_folder(
        read_flickr8k(folder, config=config, faults=faults),
        output,
        options=options or BuildOptions(),
        faults=faults,
        progress=progress,
        command=command_line("flickr8k", "FLICKR8K OUTPUT", {}),
        settings={"pictures": config.pictures},
        inputs=[path for path in (folder, config.lists, config.faulty) if path is not None],
    )


def read_flickr8k(
    folder: Path, *, config: Flickr8kConfig | None = None, faults: list[Fault] | None = None
) -> Corpus:
    """Reads which recordings and pictures there are.

    A picture's id is its file's name without ending.

    Args:
        folder: the folder of ``flickr_audio``, ``Flickr8k_text`` and ``Flicker8k_Dataset``.
        config: what to make of it.
        faults: gets the faults of the lists, which are raised otherwise.

    Raises:
        FaultError: all faults of the lists.
    """
    config = config or Flickr8kConfig()
    audio = _find(folder, AUDIO_FOLDERS, CAPTIONS, "flickr_audio")
    images = config.images or (_find(folder, IMAGE_FOLDERS, "", "pictures") if config.pictures else audio)
    text = next((folder / name for name in TEXT_FOLDERS if (folder / name / TEXTS).is_file()), None)
    split_of = _read_splits(folder, config.lists)
    lists = _Lists()
    faulty = set(lists.names(config.faulty)) if config.faulty else set()
    texts = dict(lists.texts(text / TEXTS)) if text else {}
    speakers = dict(lists.speakers(audio / SPEAKERS))
    captions: list[Caption] = []
    excluded: dict[str, list[str]] = {}
    for recording, image, number, place in lists.captions(audio / CAPTIONS):
        reason = NAMED_FAULTY if recording in faulty else IN_NO_LIST if image not in split_of else ""
        if reason:
            excluded.setdefault(reason, []).append(recording)
            continue
        captions.append(
            Caption(
                f"{RECORDINGS}/{recording}",
                split_of[image],
                image=Path(image).stem,
                speaker=speakers.get(recording, ""),
                text=texts.get(image + number, ""),
                place=place,
            )
        )
    corpus = Corpus(
        "flickr8k",
        audio_root=audio,
        image_root=images,
        captions=captions,
        pictures=list(_pictures(split_of, captions)) if config.pictures else (),
        excluded=excluded,
        checksums=dict(LISTS.values()),
    )
    if captions or not lists.faults:
        lists.faults.extend(corpus_faults(corpus, needs_splits=True))
    raise_or_collect(lists.faults, faults)
    if unused := sorted(faulty.difference(excluded.get(NAMED_FAULTY, ()))):
        logger.warning("%s names recordings that the corpus does not list: %s", config.faulty, unused)
    _log_notes(captions, has_texts=text is not None)
    return corpus


def _find(folder: Path, names: tuple[str, ...], inside: str, what: str) -> Path:
    for name in names:
        found = folder / name
        if (found / inside).is_file() if inside else found.is_dir():
            return found
    holding = f"with {inside} " if inside else ""
    expected = f"must hold the folder of the {what} {holding}as one of {', '.join(names)}, got none"
    raise FaultError(Fault(str(folder), f"{expected}; unpack it there"))


def _read_splits(folder: Path, lists: Path | None) -> dict[str, str]:
    first = LISTS[TRAIN][0]
    own = [folder / name for name in TEXT_FOLDERS if (folder / name / first).is_file()]
    where = own[0] if own else lists
    if where is None:
        expected = f"must hold {first} and the like in one of {', '.join(TEXT_FOLDERS)}, got none"
        raise FaultError(Fault(str(folder), f"{expected}; unpack Flickr8k_text, or give --lists"))
    return {
        image: split
        for split, (name, sha256) in LISTS.items()
        for image in read_published(where / name, sha256)
    }


def _pictures(split_of: dict[str, str], captions: list[Caption]) -> Iterator[Picture]:
    described = {caption.image: caption.place for caption in captions}
    for image in split_of:
        if place := described.get(Path(image).stem):
            yield Picture(Path(image).stem, image, place=place)


def _log_notes(captions: list[Caption], *, has_texts: bool) -> None:
    silent = sum(not caption.text for caption in captions)
    if not has_texts:
        logger.warning("no %s: the captions' texts stay empty", TEXTS)
    elif silent:
        logger.warning("%d recordings have no text in %s", silent, TEXTS)
    if unknown := sum(not caption.speaker for caption in captions):
        logger.warning("%d recordings have no speaker in %s", unknown, SPEAKERS)


@dataclass
class _Lists:
    """The corpus' text files, and what is wrong with them."""

    faults: list[Fault] = field(default_factory=list)

    def names(self, path: Path) -> Iterator[str]:
        """Yields the names of a list; what follows ``#`` is passed over."""
        for line, _ in self._lines(path):
            if name := line.partition("#")[0].strip():
                yield name

    def speakers(self, path: Path) -> Iterator[tuple[str, str]]:
        """Yields recordings with their speakers."""
        for line, place in self._lines(path):
            fields = line.split()
            if len(fields) == 2:
                yield fields[0], fields[1]
            else:
                self._fault(place, "line must be WAV SPEAKER", line)

    def texts(self, path: Path) -> Iterator[tuple[str, str]]:
        """Yields ``IMAGE#NUMBER`` with the caption."""
        for line, place in self._lines(path):
            caption, tab, text = line.partition("\t")
            if tab:
                yield caption.strip(), text
            else:
                self._fault(place, "line must be IMAGE#NUMBER, a tab and the caption", line)

    def captions(self, path: Path) -> Iterator[tuple[str, str, str, str]]:
        """Yields recording, picture, number and place."""
        for line, place in self._lines(path):
            fields = line.split()
            if len(fields) == 3 and _NUMBER.fullmatch(fields[2]) and "/" not in fields[0]:
                yield fields[0], fields[1], fields[2], place
            else:
                self._fault(place, "line must be WAV IMAGE #NUMBER, the WAV without folders", line)

    def _lines(self, path: Path) -> Iterator[tuple[str, str]]:
        lines, faults = read_corpus_lines(path)
        self.faults.extend(faults)
        yield from lines

    def _fault(self, place: str, expected: str, line: str) -> None:
        self.faults.append(fault(place, expected, line, "correct the line, or unpack the corpus again"))
