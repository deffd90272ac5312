"""A user's own recordings and pictures, listed in a table."""

from __future__ import annotations

import difflib
import logging
import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fairseq_vgs.files.faults import Fault, fault, raise_any
from fairseq_vgs.files.user_tables import TableRow, read_table
from fairseq_vgs.manifest.leakage import split_role
from fairseq_vgs.options import option
from fairseq_vgs.prepare.build.split import (
    SPLITS,
    caption_key,
    connected_groups,
    share_faults,
    split_by_group,
)
from fairseq_vgs.prepare.corpora import CORPORA, CorpusReader
from fairseq_vgs.prepare.corpus import Caption, Corpus, Picture

logger = logging.getLogger(__name__)

COLUMNS = ("audio", "image", "speaker", "text", "split")
REQUIRED = ("audio", "image")
NO_COLUMN = "NONE"
TEXT, SPEAKER = KEEP_TOGETHER = ("text", "speaker")
OTHER_NAMES = {"training": "train", "dev": "valid", "val": "valid", "validation": "valid", "testing": "test"}


def _column(name: str, note: str = "") -> Any:
    text = f"header of the column of TABLE that holds the {name} (default: {name}){note}"
    return option(name, help=text, metavar="NAME")


@CORPORA.register("pairs")
@dataclass(frozen=True)
class Pairs(CorpusReader):
    """Your own recordings and pictures, listed in a CSV, TSV or JSONL file.

    The table (.csv, .tsv or .jsonl) has the columns audio, image and, if you like, speaker, text and split.
    Paths start from the table's folder and must stay below it. Without splits, images are divided; copies of
    a picture or a recording stay in one split.
    """

    examples = (
        "fairseq-vgs prepare pairs MINE.csv DATA",
        "fairseq-vgs prepare pairs MINE.csv DATA --audio-root RECORDINGS --image-root PHOTOS --pack zip",
        "fairseq-vgs prepare pairs MINE.tsv DATA --audio-column clip --regions efficientnet --grid 3",
    )
    source = ("TABLE", ".csv, .tsv or .jsonl file")
    has_pictures = True
    arranges = True

    audio_root: Path | None = option(None, help="folder that audio paths start from", metavar="FOLDER")
    image_root: Path | None = option(None, help="folder that image paths start from", metavar="FOLDER")
    audio_column: str = _column("audio")
    image_column: str = _column("image", "; NONE: recordings alone")
    speaker_column: str = _column("speaker")
    text_column: str = _column("text")
    split_column: str = _column("split")
    keep_together: tuple[Literal["text", "speaker"], ...] = option(
        (), help="images whose captions share a text or a speaker stay in one split, too"
    )
    valid_share: float = option(0.1, help="share of images for valid", metavar="SHARE")
    test_share: float = option(0.1, help="share of images for test", metavar="SHARE")
    extra_split: tuple[str, ...] = option(
        (),
        help="a split of TABLE whose name does not begin with train, valid, dev, val or test; repeatable",
        metavar="NAME",
        repeated=True,
    )
    seed: int = option(1, help="seed of the splits", metavar="N")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        faults = share_faults(self.valid_share, self.test_share)
        if unknown := set(self.keep_together) - set(KEEP_TOGETHER):
            expected = f"must be of {', '.join(KEEP_TOGETHER)}"
            got = sorted(unknown)
            faults.append(fault("--keep-together", expected, got, "correct it", code="setting.value"))
        raise_any(faults)

    def collect(self, source: Path, faults: list[Fault]) -> Corpus:
        """Read the table; captions have no split where it has none."""
        columns = {column: getattr(self, f"{column}_column") for column in COLUMNS}
        required = [column for column in REQUIRED if column != "image" or columns[column] != NO_COLUMN]
        hints = {column: f"rename a column, or name it with --{column}-column" for column in COLUMNS}
        hints["image"] += f" ({NO_COLUMN}: recordings alone)"
        rows = read_table(source, columns, required=required, faults=faults, hints=hints)
        audio_root = (self.audio_root or source.parent).absolute()
        image_root = (self.image_root or source.parent).absolute()
        captions: list[Caption] = []
        pictures: dict[str, Picture] = {}
        for row in rows:
            audio = _below(audio_root, row, "audio", faults)
            image = _below(image_root, row, "image", faults) if row.fields.get("image") else ""
            if audio is None or image is None:
                continue
            if image:
                pictures.setdefault(image, Picture(image, image, place=row.place))
            captions.append(
                Caption(
                    audio,
                    standard_split(row.fields.get("split", ""), extra=self.extra_split),
                    image=image,
                    speaker=row.fields.get("speaker", ""),
                    text=row.fields.get("text", ""),
                    place=row.place,
                )
            )
        faults += _split_faults(captions, extra=self.extra_split)
        return Corpus("pairs", audio_root, image_root, captions, tuple(pictures.values()))

    def arrange(self, corpus: Corpus, speech: Mapping[str, str], pictures: Mapping[str, str]) -> Corpus:
        """Group pictures with the same bytes; divide images where the table has no splits.

        No picture and no recording, nor a copy of one, is then in two splits.
        """
        grouped = group_copies(corpus, pictures)
        has_splits = any(caption.split for caption in corpus.captions)
        return grouped if has_splits else divide(grouped, speech, pictures, settings=self)


def standard_split(name: str, *, extra: Collection[str] = ()) -> str:
    """Return a split's name here: ``dev`` and ``val_seen`` are ``valid`` and ``valid_seen``."""
    role = split_role(name)
    return name if name in extra else OTHER_NAMES.get(role, role) + name[len(role) :]


def _split_faults(captions: Sequence[Caption], *, extra: Collection[str]) -> Iterator[Fault]:
    uses = Counter(caption.split for caption in captions)
    firsts = {caption.split: caption.place for caption in reversed(captions)}
    for split, count in uses.items():
        if split and split not in extra and split_role(split) not in SPLITS:
            near = difflib.get_close_matches(split.lower(), (*SPLITS, *OTHER_NAMES), n=1)
            did_you_mean = f"did you mean {near[0]!r}? Correct it" if near else "correct it"
            noun = "line" if count == 1 else "lines"
            expected = f"split must be train, valid, test, or begin so, as in test_seen ({count:,} {noun})"
            step = f"{did_you_mean}, or allow it with --extra-split {split}"
            yield fault(firsts[split], expected, split, step, code="split.name")
    if any(uses) and uses[""]:
        expected = "split must be named in every line or in none"
        step = f"fill it in, or take splits from no column with --split-column {NO_COLUMN}"
        for caption in captions:
            if not caption.split:
                yield fault(caption.place, expected, "", step, code="split.missing")


def _below(root: Path, row: TableRow, column: str, faults: list[Fault]) -> str | None:
    """Return a path of the table as it is below its root, or None with a fault."""
    entry = row.fields.get(column, "")
    path = entry
    if path.startswith("/"):
        # As the paths are written, without following links: the user may mean either.
        roots = (str(root), os.path.realpath(root))
        path = next((os.path.relpath(path, start) for start in roots if _is_below(path, start)), "..")
    path = posixpath.normpath(path) if path else ""
    if not path or path == "." or path == ".." or path.startswith("../"):
        step = f"correct the line, or name another folder with --{column}-root"
        expected = f"{column} must be a file below {root.name or root}/"
        faults.append(fault(row.place, expected, entry, step, code="file.path"))
        return None
    return path


def _is_below(path: str, root: str) -> bool:
    return os.path.commonpath([os.path.normpath(path), root]) == root


def group_copies(corpus: Corpus, prints: Mapping[str, str]) -> Corpus:
    """Return the corpus with pictures of equal content in one group.

    Args:
        corpus: Any corpus.
        prints: What identifies each picture's content, by path.
    """
    firsts: dict[str, str] = {}
    for picture in corpus.pictures:
        firsts.setdefault(prints[picture.path], picture.image_id)
    sizes = Counter(prints[picture.path] for picture in corpus.pictures)
    pictures = [
        replace(picture, group=firsts[prints[picture.path]]) if sizes[prints[picture.path]] > 1 else picture
        for picture in corpus.pictures
    ]
    return replace(corpus, pictures=pictures)


def divide(
    corpus: Corpus, speech: Mapping[str, str], pictures: Mapping[str, str], *, settings: Pairs
) -> Corpus:
    """Return the corpus with splits: by image, or by recording where there is none.

    Args:
        corpus: Captions without splits.
        speech: What identifies each recording's content, by path.
        pictures: What identifies each picture's content, by path.
        settings: Shares, seed, and what to keep together.
    """
    paths = {picture.image_id: picture.path for picture in corpus.pictures}
    keys: dict[str, list[Hashable]] = defaultdict(list)
    for caption in corpus.captions:
        item = _item(caption)
        keys[item].append(("recording", speech[caption.audio]))
        if caption.image:
            keys[item].append(("picture", pictures[paths[caption.image]]))
        if TEXT in settings.keep_together and caption_key(caption.text):
            keys[item].append((TEXT, caption_key(caption.text)))
        if SPEAKER in settings.keep_together and caption.speaker:
            keys[item].append((SPEAKER, caption.speaker))
    splits = split_by_group(
        connected_groups(keys),
        valid_share=settings.valid_share,
        test_share=settings.test_share,
        seed=settings.seed,
    )
    wanted = zip(SPLITS, (1.0, settings.valid_share, settings.test_share), strict=True)
    for split in [name for name, share in wanted if share and name not in splits.values()]:
        logger.warning("%s is empty and left out: too few groups of pictures for its share", split)
    return replace(corpus, captions=[_with_split(caption, splits) for caption in corpus.captions])


def _item(caption: Caption) -> str:
    # A path may not begin with a blank, so that recordings and images cannot be mistaken for each other.
    return caption.image or f" {caption.audio}"


def _with_split(caption: Caption, splits: Mapping[str, str]) -> Caption:
    return replace(caption, split=splits[_item(caption)])
