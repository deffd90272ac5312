"""Tables and summary of a data folder."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_vgs.files.atomic import write_array, write_text
from fairseq_vgs.files.location import split_entry
from fairseq_vgs.files.output import MADE_BY, MADE_BY_KEY, SUMMARY_NAME
from fairseq_vgs.manifest import AudioRow, ImageRow, ManifestFolder, PairRow, RegionRow, UtteranceRow
from fairseq_vgs.manifest.leakage import split_role
from fairseq_vgs.manifest.tables import (
    write_audio_list,
    write_images,
    write_pairs,
    write_regions,
    write_utterances,
)
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.prepare.build.split import SPLITS
from fairseq_vgs.prepare.corpus import PICTURES, SPEECH, Caption, Corpus

if TYPE_CHECKING:
    from fairseq_vgs.arrays import F16
    from fairseq_vgs.prepare.build.media import Finished

RELATIVE_ROOT = "."
# Upper ends, in seconds, of the length histogram's classes; the last class has none.
LENGTH_CLASSES = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30)


@dataclass(frozen=True)
class Built:
    """A corpus, without what was left out, whose media are finished.

    Finished recordings and pictures are by path, archive ``entries`` of packed media by kind and name in the
    data folder; ``converts`` says that recordings were written as FLAC; ``n_reused`` counts the files that an
    earlier run finished; ``n_read`` files of ``bytes_read`` were not.
    """

    corpus: Corpus
    speech: Mapping[str, Finished]
    pictures: Mapping[str, Finished]
    entries: Mapping[str, Mapping[str, str]]
    converts: bool
    pack: str
    n_reused: int
    n_read: int
    bytes_read: int

    def audio_row(self, caption: Caption) -> AudioRow:
        """Return the row of a recording in its audio list."""
        finished = self.speech[caption.audio]
        return AudioRow(self._entry(finished), finished.measures[0])

    def image_rows(self) -> list[ImageRow]:
        """Return the image table."""
        finished = [self.pictures[picture.path] for picture in self.corpus.pictures]
        return [
            ImageRow(picture.image_id, self._entry(item), item.measures[0], item.measures[1], picture.group)
            for picture, item in zip(self.corpus.pictures, finished, strict=True)
        ]

    def _entry(self, finished: Finished) -> str:
        return self.entries[finished.kind].get(finished.target, finished.target)


def by_split(captions: Iterable[Caption]) -> dict[str, list[Caption]]:
    """Return the captions of each split: train, valid, test, then others in order of appearance."""
    found: dict[str, list[Caption]] = defaultdict(list)
    for caption in captions:
        found[caption.split].append(caption)
    order = [split for split in SPLITS if split in found]
    return {split: found[split] for split in [*order, *(split for split in found if split not in order)]}


def write_folder(folder: Path, output: Path, built: Built, *, relative_root: bool) -> None:
    """Write all tables into a folder that will be ``output``."""
    names, corpus = ManifestFolder(folder), built.corpus
    root: Path | str = corpus.audio_root.absolute()
    if built.pack or built.converts:
        root = SPEECH if relative_root else output.absolute() / SPEECH
    for split, captions in by_split(corpus.captions).items():
        rows = [built.audio_row(caption) for caption in captions]
        write_audio_list(names.audio_list(split), rows, root=root, force=True)
        pairs: list[PairRow] = []
        alone: list[UtteranceRow] = []
        for row, caption in zip(rows, captions, strict=True):
            speaker, text = _one_line(caption.speaker), _one_line(caption.text)
            if caption.image:
                pairs.append(PairRow(row.audio_id, caption.image, speaker, text))
            elif caption.speaker or caption.text:
                alone.append(UtteranceRow(row.audio_id, speaker, text))
        if pairs:
            write_pairs(names.pairs(split), pairs, force=True)
        if alone:
            write_utterances(names.utterances(split), alone, force=True)
    if corpus.pictures:
        image_root = PICTURES if built.pack else corpus.image_root.absolute()
        write_images(names.images, built.image_rows(), root=image_root, force=True)


def _one_line(text: str) -> str:
    """Return a text on one line: some published captions hold line ends."""
    return text.strip() if text.isprintable() else " ".join(text.replace("\0", " ").split())


def summarize(built: Built) -> dict[str, object]:
    """Return counts, hours, speakers, captions per image and lengths, of all and of every split."""
    all_captions = built.corpus.captions
    archives = {split_entry(entry)[0] for found in built.entries.values() for entry in found.values()}
    return {
        "files": {
            "recordings": len(all_captions),
            "converted": len(all_captions) if built.converts else 0,
            "pictures": len(built.corpus.pictures),
            "animated_pictures": sum(item.is_animated for item in built.pictures.values()),
            "archives": len(archives),
            "bytes_written": sum(item.length for item in (*built.speech.values(), *built.pictures.values())),
            "finished_by_an_earlier_run": built.n_reused,
        },
        "read": {"files": built.n_read, "bytes": built.bytes_read},
        "splits": {split: _counts(built, captions) for split, captions in by_split(all_captions).items()},
        "speakers": len({caption.speaker for caption in all_captions if caption.speaker}),
        "shared_by_splits": shared_by_splits(built),
        "captions_per_image": _captions_per_image(built.corpus),
        "seconds": _lengths(built),
    }


def shared_by_splits(built: Built) -> dict[str, int]:
    """Count the recordings and pictures, by content, that splits of different roles have in common."""
    pictures = {picture.image_id: built.pictures[picture.path].sha256 for picture in built.corpus.pictures}
    roles: dict[str, dict[str, set[str]]] = {"recordings": defaultdict(set), "pictures": defaultdict(set)}
    for caption in built.corpus.captions:
        role = split_role(caption.split)
        roles["recordings"][built.speech[caption.audio].sha256].add(role)
        if caption.image in pictures:
            roles["pictures"][pictures[caption.image]].add(role)
    return {kind: sum(len(each) > 1 for each in found.values()) for kind, found in roles.items()}


def _counts(built: Built, captions: Sequence[Caption]) -> dict[str, object]:
    n_samples = sum(built.speech[caption.audio].measures[0] for caption in captions)
    return {
        "recordings": len(captions),
        "pairs": sum(bool(caption.image) for caption in captions),
        "images": len({caption.image for caption in captions if caption.image}),
        "speakers": len({caption.speaker for caption in captions if caption.speaker}),
        "with_text": sum(bool(caption.text) for caption in captions),
        "hours": round(n_samples / SAMPLE_RATE / 3600, 3),
    }


def _captions_per_image(corpus: Corpus) -> dict[str, int]:
    uses = Counter(caption.image for caption in corpus.captions if caption.image)
    for picture in corpus.pictures:
        uses.setdefault(picture.image_id, 0)
    return {str(number): count for number, count in sorted(Counter(uses.values()).items())}


def _lengths(built: Built) -> dict[str, object]:
    seconds = [built.speech[caption.audio].measures[0] / SAMPLE_RATE for caption in built.corpus.captions]
    counts = Counter(bisect_left(LENGTH_CLASSES, length) for length in seconds)
    names = [f"{start}-{end}" for start, end in pairwise((0, *LENGTH_CLASSES))]
    return {
        "shortest": round(min(seconds), 3),
        "mean": round(sum(seconds) / len(seconds), 3),
        "longest": round(max(seconds), 3),
        "histogram": {
            name: counts[number] for number, name in enumerate([*names, f"over {LENGTH_CLASSES[-1]}"])
        },
    }


@dataclass(frozen=True)
class CaptionedAudio:
    """One row of a split: the utterance and what it is paired with."""

    audio: AudioRow
    pair: PairRow


def write_tables(
    folder: Path,
    splits: Mapping[str, Sequence[CaptionedAudio]],
    *,
    images: Sequence[ImageRow],
    root: Path | str = RELATIVE_ROOT,
    force: bool = False,
) -> None:
    """Write audio lists with a first line ``root``, pair tables, and the image table of the folder's own."""
    names = ManifestFolder(folder)
    for split, rows in splits.items():
        write_audio_list(names.audio_list(split), [row.audio for row in rows], root=root, force=force)
        write_pairs(names.pairs(split), [row.pair for row in rows], force=force)
    write_images(names.images, images, root=RELATIVE_ROOT, force=force)


def write_region_tables(
    folder: Path, regions: Sequence[RegionRow], features: F16, *, force: bool = False
) -> None:
    """Write the region table and its features, float16 [rows, dims]."""
    names = ManifestFolder(folder)
    write_regions(names.regions, regions, force=force)
    write_array(names.region_features, features.astype("float16"), force=force)


def command_line(subcommand: str, arguments: str, settings: Mapping[str, object]) -> str:
    """Return the command that makes such a folder, without paths."""
    words = ["fairseq-vgs", "prepare", subcommand, arguments]
    for name, value in settings.items():
        if value is not False:
            values = value if isinstance(value, (tuple, list)) else () if value is True else (value,)
            words += ["--" + name.replace("_", "-"), *map(str, values)]
    return " ".join(words)


def write_summary(
    folder: Path, content: Mapping[str, object], *, made_by: str = MADE_BY, force: bool = False
) -> None:
    """Write ``summary.json``; with ``MADE_BY``, the command that it names may replace the folder."""
    text = json.dumps({MADE_BY_KEY: made_by, **content}, ensure_ascii=False, indent=1)
    write_text(folder / SUMMARY_NAME, text + "\n", force=force)
