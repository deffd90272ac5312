"""A user's own recordings and pictures, listed in a table."""

from __future__ import annotations

import difflib
import logging
import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fairseq_vgs.files.faults import Fault, fault
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.manifest.leakage import split_role
from fairseq_vgs.prepare.build.folder import BuildOptions, build_folder
from fairseq_vgs.prepare.build.split import SPLITS, connected_groups, split_by_group
from fairseq_vgs.prepare.build.tables import command_line
from fairseq_vgs.prepare.corpora.corpus import Caption, Corpus, Picture
from fairseq_vgs.prepare.corpora.corpus_check import raise_any, raise_or_collect
from fairseq_vgs.prepare.corpora.stamps import caption_key
from fairseq_vgs.prepare.corpora.table import TableRow, read_table

logger = logging.getLogger(__name__)

COLUMNS = ("audio", "image", "speaker", "text", "split")
REQUIRED = ("audio", "image")
NO_COLUMN = "NONE"
TEXT, SPEAKER = KEEP_TOGETHER = ("text", "speaker")
OTHER_NAMES = {"training": "train", "dev": "valid", "val": "valid", "validation": "valid", "testing": "test"}


@dataclass(frozen=True)
class PairsConfig:
    """How to read the table, and how to divide it if it has no splits.

    Attributes:
        audio_root: folder that audio paths start from; None: the table's.
        image_root: folder that image paths start from; None: the table's.
        columns: name in the table of audio, image, speaker, text and split; image may be ``NONE``: recordings
            alone.
        valid_share: share of images for valid.
        test_share: share of images for test.
        keep_together: ``text``, ``speaker``: what images must not share across splits, beside copies.
        extra_splits: names of splits in the table that do not begin as train, valid and test do.
        seed: another seed gives another division.
    """

    audio_root: Path | None = None
    image_root: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    valid_share: float = 0.1
    test_share: float = 0.1
    keep_together: tuple[str, ...] = ()
    extra_splits: tuple[str, ...] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuses impossible values."""
        faults = []
        for name in ("valid_share", "test_share"):
            share = getattr(self, name)
            if not 0.0 <= share < 1.0:
                option = "--" + name.replace("_", "-")
                faults.append(fault(option, "must be a share from 0 to below 1", share, "correct it"))
        if not faults and self.valid_share + self.test_share >= 1.0:
            total = self.valid_share + self.test_share
            expected = "must leave something to train, together"
            faults.append(fault("--valid-share, --test-share", expected, total, "lower one"))
        if unknown := set(self.keep_together) - set(KEEP_TOGETHER):
            expected = f"must be of {', '.join(KEEP_TOGETHER)}"
            faults.append(fault("--keep-together", expected, sorted(unknown), "correct it"))
        raise_any(faults)

    def settings(self) -> dict[str, object]:
        """Returns what differs from the defaults, without paths."""
        default = asdict(PairsConfig())
        chosen = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("audio_root", "image_root", "columns", "extra_splits") and value != default[name]
        }
        columns = {f"{name}_column": value for name, value in self.columns.items() if name != value}
        extra = {"extra_split": self.extra_splits} if self.extra_splits else {}
        return {**columns, **extra, **chosen, "seed": self.seed}


def prepare_pairs(
    table: Path,
    output: Path,
    *,
    config: PairsConfig | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Builds a data folder of a user's own pairs and returns its summary.

    Pictures with the same bytes become one group. Without splits in the table, images are divided so that no
    picture and no recording, nor a copy of one, is in two splits.

    Args:
        table: ``.csv``, ``.tsv`` or ``.jsonl`` with audio, image and, if wanted, speaker, text and split.
        output: the folder to make.
        config: how to read and divide the table.
        options: how to build the folder.
        progress: called with (files done, files in all).

    Raises:
        FaultError: all faults of the table, or of its media.
    """
    config = config or PairsConfig()
    faults: list[Fault] = []
    corpus = read_pairs_table(table, config=config, faults=faults)

    def arrange(usable: Corpus, speech: Mapping[str, str], pictures: Mapping[str, str]) -> Corpus:
        grouped = group_copies(usable, pictures)
        has_splits = any(caption.split for caption in usable.captions)
        return grouped if has_splits else divide(grouped, speech, pictures, config=config)

    settings = config.settings()
    return build_folder(
        corpus,
        output,
        options=options or BuildOptions(),
        faults=faults,
        progress=progress,
        command=command_line("pairs", "TABLE OUTPUT", settings),
        settings=settings,
        inputs=[table],
        arrange=arrange,
    )


def read_pairs_table(table: Path, *, config: PairsConfig, faults: list[Fault] | None = None) -> Corpus:
    """Reads a user's table; captions have no split where it has none.

    Args:
        table: the table.
        config: how to read it.
        faults: gets the faults of lines, which are raised otherwise.

    Raises:
        FaultError: the table cannot be read, or all its faults.
    """
    found: list[Fault] = []
    columns = {column: config.columns.get(column, column) for column in COLUMNS}
    required = [column for column in REQUIRED if column != "image" or columns[column] != NO_COLUMN]
    rows = read_table(table, columns, required=required, faults=found)
    audio_root, image_root = (
        (table.parent if root is None else root).absolute() for root in (config.audio_root, config.image_root)
    )
    captions: list[Caption] = []
    pictures: dict[str, Picture] = {}
    for row in rows:
        audio = _below(audio_root, row, "audio", found)
        image = _below(image_root, row, "image", found) if row.fields.get("image") else ""
        if audio is None or image is None:
            continue
        if image:
            pictures.setdefault(image, Picture(image, image, place=row.place))
        captions.append(
            Caption(
                audio,
                standard_split(row.fields.get("split", ""), extra=config.extra_splits),
                image=image,
                speaker=row.fields.get("speaker", ""),
                text=row.fields.get("text", ""),
                place=row.place,
            )
        )
    found.extend(_split_faults(captions, extra=config.extra_splits))
    raise_or_collect(found, faults)
    return Corpus("pairs", audio_root, image_root, captions, tuple(pictures.values()))


def standard_split(name: str, *, extra: Collection[str] = ()) -> str:
    """Returns a split's name here: ``dev`` and ``val_seen`` are ``valid`` and ``valid_seen``."""
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
            yield fault(firsts[split], expected, split, step)
    if any(uses) and uses[""]:
        expected = "split must be named in every line or in none"
        step = f"fill it in, or take splits from no column with --split-column {NO_COLUMN}"
        for caption in captions:
            if not caption.split:
                yield fault(caption.place, expected, "", step)


def _below(root: Path, row: TableRow, column: str, faults: list[Fault]) -> str | None:
    """Returns a path of the table as it is below its root, or None with a fault."""
    entry = row.fields.get(column, "")
    path = entry
    if path.startswith("/"):
        # As the paths are written, without following links: the user may mean either.
        roots = (str(root), os.path.realpath(root))
        path = next((os.path.relpath(path, start) for start in roots if _is_below(path, start)), "..")
    path = posixpath.normpath(path) if path else ""
    if not path or path == "." or path == ".." or path.startswith("../"):
        step = f"correct the line, or name another folder with --{column}-root"
        faults.append(fault(row.place, f"{column} must be a file below {root.name or root}/", entry, step))
        return None
    return path


def _is_below(path: str, root: str) -> bool:
    return os.path.commonpath([os.path.normpath(path), root]) == root


def group_copies(corpus: Corpus, prints: Mapping[str, str]) -> Corpus:
    """Returns the corpus with pictures of equal content in one group.

    Args:
        corpus: any corpus.
        prints: what identifies each picture's content, by path.
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
    corpus: Corpus, speech: Mapping[str, str], pictures: Mapping[str, str], *, config: PairsConfig
) -> Corpus:
    """Returns the corpus with splits: by image, or by recording where there is none.

    Args:
        corpus: captions without splits.
        speech: what identifies each recording's content, by path.
        pictures: what identifies each picture's content, by path.
        config: shares, seed, and what to keep together.
    """
    paths = {picture.image_id: picture.path for picture in corpus.pictures}
    keys: dict[str, list[Hashable]] = defaultdict(list)
    for caption in corpus.captions:
        item = _item(caption)
        keys[item].append(("recording", speech[caption.audio]))
        if caption.image:
            keys[item].append(("picture", pictures[paths[caption.image]]))
        if TEXT in config.keep_together and caption_key(caption.text):
            keys[item].append((TEXT, caption_key(caption.text)))
        if SPEAKER in config.keep_together and caption.speaker:
            keys[item].append((SPEAKER, caption.speaker))
    splits = split_by_group(
        connected_groups(keys),
        valid_share=config.valid_share,
        test_share=config.test_share,
        seed=config.seed,
    )
    wanted = zip(SPLITS, (1.0, config.valid_share, config.test_share), strict=True)
    for split in [name for name, share in wanted if share and name not in splits.values()]:
        logger.warning("%s is empty and left out: too few groups of pictures for its share", split)
    return replace(corpus, captions=[_with_split(caption, splits) for caption in corpus.captions])


def _item(caption: Caption) -> str:
    # A path may not begin with a blank, so that recordings and images cannot be mistaken for each other.
    return caption.image or f" {caption.audio}"


def _with_split(caption: Caption, splits: Mapping[str, str]) -> Caption:
    return replace(caption, split=splits[_item(caption)])
