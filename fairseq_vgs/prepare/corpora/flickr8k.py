"""Flickr8k Audio (Harwath and Glass 2015): five captions of each of 8,000 pictures, read aloud.

As distributed: ``flickr_audio`` with ``wavs/``, ``wav2capt.txt`` (``WAV IMAGE #NUMBER``) and ``wav2spk.txt``
(``WAV SPEAKER``); ``Flickr8k_text`` with ``Flickr8k.token.txt`` (``IMAGE#NUMBER``, tab, caption) and a list
of pictures for each split; the pictures in ``Flicker8k_Dataset``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.options import option
from fairseq_vgs.prepare.build.split import TEST, TRAIN, VALID
from fairseq_vgs.prepare.corpora import CORPORA, CorpusReader, images_option, without_pictures_option
from fairseq_vgs.prepare.corpus import Caption, Corpus, Picture
from fairseq_vgs.prepare.lists import SPLIT_LISTS, read_corpus_lines, read_published

logger = logging.getLogger(__name__)

AUDIO_FOLDERS = ("flickr_audio", "flickr_audio/flickr_audio", ".")
IMAGE_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "Flickr8k_Dataset", "Images")
TEXT_FOLDERS = ("Flickr8k_text", ".")
RECORDINGS, CAPTIONS, SPEAKERS, TEXTS = "wavs", "wav2capt.txt", "wav2spk.txt", "Flickr8k.token.txt"
LISTS = {
    TRAIN: ("Flickr_8k.trainImages.txt", "e330ddd5156a4c2d2e2b67bc587e70e588f2d132bd8a10dc54dcb71e58115d8e"),
    VALID: ("Flickr_8k.devImages.txt", "18ba829f47f6df1cb830bf7f0506e2ddf333818925299babbd1bbcaf50fdc504"),
    TEST: ("Flickr_8k.testImages.txt", "c0924146c131458ceba45da59670fe9520eadce1e5cafffa16a817672a9b1f17"),
}
IN_NO_LIST = "recording of a picture that is in no published list"
NAMED_FAULTY = "recording named as faulty"
# Kinds of lines, with what they must be.
_SPEAKER = re.compile(r"\s*(\S+)\s+(\S+)\s*"), "line must be WAV SPEAKER"
_TEXT = re.compile(r"([^\t]*)\t(.*)"), "line must be IMAGE#NUMBER, a tab and the caption"
_CAPTION = (
    re.compile(r"\s*([^\s/]+)\s+(\S+)\s+(#[0-9]{1,3})\s*"),
    "line must be WAV IMAGE #NUMBER, the WAV without folders",
)


@CORPORA.register("flickr8k")
@dataclass(frozen=True)
class Flickr8k(CorpusReader):
    """Flickr8k Audio: five spoken captions per picture.

    Flickr8k Audio as it is unpacked: a folder with flickr_audio (wavs, wav2capt.txt, wav2spk.txt),
    Flickr8k_text and Flicker8k_Dataset. Splits are the published lists, which are verified; without
    Flickr8k_text, those that come with the package are taken and the captions have no texts.
    """

    examples = (
        "fairseq-vgs prepare flickr8k FLICKR8K DATA",
        "fairseq-vgs prepare flickr8k FLICKR8K DATA --images PICTURES --skip-bad",
        "fairseq-vgs prepare flickr8k FLICKR8K DATA --regions efficientnet",
    )
    source = ("FLICKR8K", "folder of flickr_audio")
    has_pictures = True

    images: Path | None = images_option("the pictures (default: Flicker8k_Dataset in FLICKR8K)", needed=False)
    without_pictures: bool = without_pictures_option(needed=False)
    lists: Path | None = option(
        None,
        help="the published lists of pictures, if FLICKR8K has none (default: those of the package)",
        metavar="FOLDER",
    )
    faulty: Path | None = option(
        None,
        help="names of recordings to leave out, one a line; they are counted and named in summary.json",
        metavar="FILE",
    )

    def collect(self, source: Path, faults: list[Fault]) -> Corpus:
        """Read which recordings and pictures there are; a picture's id is its file's name without suffix."""
        audio = _find(source, AUDIO_FOLDERS, CAPTIONS, "flickr_audio")
        images = self.images or (
            audio if self.without_pictures else _find(source, IMAGE_FOLDERS, "", "pictures")
        )
        text = next((source / name for name in TEXT_FOLDERS if (source / name / TEXTS).is_file()), None)
        split_of = _read_splits(source, self.lists)
        faulty = _names(self.faulty, faults) if self.faulty else set()
        texts = {key.strip(): said for key, said, _ in _rows(text / TEXTS, _TEXT, faults)} if text else {}
        speakers = {recording: who for recording, who, _ in _rows(audio / SPEAKERS, _SPEAKER, faults)}
        captions: list[Caption] = []
        excluded: dict[str, list[str]] = {}
        for recording, image, number, place in _rows(audio / CAPTIONS, _CAPTION, faults):
            reason = NAMED_FAULTY if recording in faulty else IN_NO_LIST if image not in split_of else ""
            if reason:
                excluded.setdefault(reason, []).append(recording)
                continue
            path, speaker = f"{RECORDINGS}/{recording}", speakers.get(recording, "")
            said = texts.get(image + number, "")
            captions.append(Caption(path, split_of[image], Path(image).stem, speaker, said, place))
        if unused := sorted(faulty.difference(excluded.get(NAMED_FAULTY, ()))):
            logger.warning("%s names recordings that the corpus does not list: %s", self.faulty, unused)
        _log_notes(captions, has_texts=text is not None)
        return Corpus(
            "flickr8k",
            audio_root=audio,
            image_root=images,
            captions=captions,
            pictures=() if self.without_pictures else list(_pictures(split_of, captions)),
            excluded=excluded,
            checksums=dict(LISTS.values()),
        )


def _find(folder: Path, names: tuple[str, ...], inside: str, what: str) -> Path:
    for name in names:
        found = folder / name
        if (found / inside).is_file() if inside else found.is_dir():
            return found
    holding = f"with {inside} " if inside else ""
    expected = f"must hold the folder of the {what} {holding}as one of {', '.join(names)}, got none"
    raise FaultError.at(folder, f"{expected}; unpack it there", "corpus.folder")


def _read_splits(folder: Path, lists: Path | None) -> dict[str, str]:
    first = LISTS[TRAIN][0]
    own = [folder / name for name in TEXT_FOLDERS if (folder / name / first).is_file()]
    where = own[0] if own else lists or SPLIT_LISTS / "flickr8k"
    return {
        image: split
        for split, (name, sha256) in LISTS.items()
        for image in read_published(where / name, sha256)
    }


def _names(path: Path, faults: list[Fault]) -> set[str]:
    """Return the names of a list; text after ``#`` is ignored."""
    lines, unreadable = read_corpus_lines(path)
    faults += unreadable
    return {name for line, _ in lines if (name := line.partition("#")[0].strip())}


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


def _rows(path: Path, kind: tuple[re.Pattern[str], str], faults: list[Fault]) -> Iterator[tuple[str, ...]]:
    """Yield the fields of each line of a file, and its place."""
    pattern, expected = kind
    lines, unreadable = read_corpus_lines(path)
    faults += unreadable
    for line, place in lines:
        if match := pattern.fullmatch(line):
            yield *match.groups(), place
        else:
            step = "correct the line, or unpack the corpus again"
            faults.append(fault(place, expected, line, step, code="corpus.line"))
