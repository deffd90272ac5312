"""A user's own recordings and pictures, listed in a table."""

from __future__ import annotations

import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from fairseq_vgs.files.faults import Fault, fault, raise_any
from fairseq_vgs.files.spelling import nearest, on_disk
from fairseq_vgs.files.user_tables import TableRow, read_table
from fairseq_vgs.manifest.leakage import split_role
from fairseq_vgs.options import option
from fairseq_vgs.prepare.build.split import SPLITS, bad_shares, caption_key, connected_groups, split_by_group
from fairseq_vgs.prepare.corpora import CORPORA, CorpusReader
from fairseq_vgs.prepare.corpus import Caption, Corpus, Picture

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

    The table has the columns audio, image and, if you like, speaker, text and split.
    Paths start from the table's folder and must stay below it. Without splits, images are divided; copies of
    a picture or a recording stay in one split.
    """

    examples = (
        "fairseq-vgs prepare pairs MINE.csv DATA",
        "fairseq-vgs prepare pairs MINE.csv DATA --audio-root RECORDINGS --image-root PHOTOS --pack zip",
        "fairseq-vgs prepare pairs MINE.tsv DATA --audio-column clip --regions efficientnet --grid 3",
    )
    source = ("TABLE", ".csv, .tsv, .txt (with tabs) or .jsonl file")
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
        faults = bad_shares(self.valid_share, self.test_share)
        if unknown := sorted(set(self.keep_together) - set(KEEP_TOGETHER)):
            expected, step = f"must be of {', '.join(KEEP_TOGETHER)}", "name one or both of them"
            faults.append(fault("--keep-together", expected, unknown, step, code="setting.value"))
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
            split = standard_split(row.fields.get("split", ""), extra=self.extra_split)
            speaker, text = row.fields.get("speaker", ""), row.fields.get("text", "")
            captions.append(Caption(audio, split, image, speaker, text, row.place))
        faults += _split_faults(captions, extra=self.extra_split)
        return Corpus("pairs", audio_root, image_root, captions, tuple(pictures.values()))

    def arrange(self, corpus: Corpus, speech: Mapping[str, str], pictures: Mapping[str, str]) -> Corpus:
        """Group pictures with the same bytes; divide images where the table has no splits.

        No picture and no recording, nor a copy of one, is then in two splits.
        """
        grouped = _group_copies(corpus, pictures)
        has_splits = any(caption.split for caption in corpus.captions)
        return grouped if has_splits else self._divide(grouped, speech, pictures)

    def _divide(self, corpus: Corpus, speech: Mapping[str, str], pictures: Mapping[str, str]) -> Corpus:
        """Divide by image, or by recording where there is none."""
        paths = {picture.image_id: picture.path for picture in corpus.pictures}
        keys: dict[str, list[Hashable]] = defaultdict(list)
        for caption in corpus.captions:
            found = keys[_item(caption)]
            found.append(("recording", speech[caption.audio]))
            if caption.image:
                found.append(("picture", pictures[paths[caption.image]]))
            if TEXT in self.keep_together and (key := caption_key(caption.text)):
                found.append((TEXT, key))
            if SPEAKER in self.keep_together and caption.speaker:
                found.append((SPEAKER, caption.speaker))
        shares = {"valid_share": self.valid_share, "test_share": self.test_share}
        split_of = split_by_group(connected_groups(keys), **shares, seed=self.seed)
        captions = [replace(caption, split=split_of[_item(caption)]) for caption in corpus.captions]
        return replace(corpus, captions=captions)


def standard_split(name: str, *, extra: Collection[str] = ()) -> str:
    """Return a split's name here: ``dev`` and ``val_seen`` are ``valid`` and ``valid_seen``."""
    role = split_role(name)
    return name if name in extra else OTHER_NAMES.get(role, role) + name[len(role) :]


def _split_faults(captions: Sequence[Caption], *, extra: Collection[str]) -> Iterator[Fault]:
    uses = Counter(caption.split for caption in captions)
    firsts = {caption.split: caption.place for caption in reversed(captions)}
    for split, count in uses.items():
        if split and split not in extra and split_role(split) not in SPLITS:
            near = nearest(split.lower(), (*SPLITS, *OTHER_NAMES))
            did_you_mean = f"did you mean {near!r}? Correct it" if near else "correct it"
            noun = "line" if count == 1 else "lines"
            expected = f"split must be train, valid, test, or begin so, as in test_seen ({count:,} {noun})"
            step = f"{did_you_mean}, or allow it with --extra-split {split}"
            yield fault(firsts[split], expected, split, step, code="split.name")
    if any(uses) and uses[""]:
        expected = "split must be named in every line or in none"
        step = f"fill it in, or take splits from no column with --split-column {NO_COLUMN}"
        for caption in (caption for caption in captions if not caption.split):
            yield fault(caption.place, expected, "", step, code="split.missing")


def _below(root: Path, row: TableRow, column: str, faults: list[Fault]) -> str | None:
    """Return a path of the table as it is below its root, or None with a fault."""
    entry = row.fields.get(column, "")
    path = entry
    if "\\" in entry and not os.path.lexists(root / entry):
        path = ".." if PureWindowsPath(entry).drive else entry.replace("\\", "/")
    if path.startswith("/"):
        # As the paths are written, without following links: the user may mean either.
        roots = (str(root), os.path.realpath(root))
        path = next((os.path.relpath(path, start) for start in roots if _is_below(path, start)), "..")
    path = posixpath.normpath(path) if path else ""
    if path in ("", ".", "..") or path.startswith("../"):
        step = f"correct the line, or name another folder with --{column}-root"
        expected = f"{column} must be a file below {root.name or root}/"
        faults.append(fault(row.place, expected, entry, step, code="file.path"))
        return None
    return on_disk(root, path)  # here, as a picture's path is its id as well


def _is_below(path: str, root: str) -> bool:
    return os.path.commonpath([os.path.normpath(path), root]) == root


def _group_copies(corpus: Corpus, prints: Mapping[str, str]) -> Corpus:
    """Put pictures of equal content, which ``prints`` identify by path, in one group."""
    alike = defaultdict(list)
    for picture in corpus.pictures:
        alike[prints[picture.path]].append(picture.image_id)
    pictures = [
        replace(picture, group=ids[0]) if len(ids := alike[prints[picture.path]]) > 1 else picture
        for picture in corpus.pictures
    ]
    return replace(corpus, pictures=pictures)


def _item(caption: Caption) -> str:
    # A path may not begin with a blank, so that recordings and images cannot be mistaken for each other.
    return caption.image or f" {caption.audio}"
