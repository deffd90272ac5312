"""Damaged tables of data folders, users and corpora: every reader reads the same, or names a line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from support.corpus_trees import (
    COCO_TRAIN,
    COCO_VALID,
    coco_entry,
    described_place,
    flickr_images,
    read_corpus,
    write_flickr8k,
    write_places,
    write_spokencoco,
)
from support.mutate import Draws, Kind, agree, attempt, mutate_bytes
from support.tiny_folder import LAYERS, make_folder
from support.tiny_speech import encode, picture, speech, write

from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.collation import PairItem, SkippedItem
from fairseq_vgs.data.paired_dataset import VgsDataset, VgsDatasetOptions
from fairseq_vgs.data.regions import load_regions
from fairseq_vgs.data.tables import SplitTable, load_audio_table, load_split
from fairseq_vgs.features.recordings import open_recordings
from fairseq_vgs.files.faults import Fault, FaultError, raise_any
from fairseq_vgs.manifest import ManifestFolder, read_audio_list, read_images, read_pairs, read_utterances
from fairseq_vgs.manifest.check import inspect_folder
from fairseq_vgs.manifest.tables import scan_audio_list, scan_images, scan_pairs, scan_regions
from fairseq_vgs.metrics.abx.items import read_items
from fairseq_vgs.modules.conv_spec import parse_conv_layers
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora.flickr8k import Flickr8k
from fairseq_vgs.prepare.corpora.librispeech import LibriSpeech
from fairseq_vgs.prepare.corpora.pairs import Pairs, standard_split
from fairseq_vgs.prepare.corpora.places import Places
from fairseq_vgs.prepare.corpora.spokencoco import SpokenCoco

CONV_LAYERS = parse_conv_layers(LAYERS)
LENGTHS = {"train": [6000, 6400, 6800, 7200], "valid": [7000, 7300]}
IMAGES = {f"image{number}": number for number in range(3)}
DATA_TABLES = (
    "train.tsv",
    "train.pairs.tsv",
    "images.tsv",
    "regions.tsv",
    "utterances.tsv",
    "summary.json",
)
# Faults of whole files, which have no line.
OF_FILES = (
    "table.empty", "file.", "folder.", "split.empty", "json.", "corpus.", "recording.missing", "table.kind",
    "split.unpaired",
)  # fmt: skip
ITEMS = """#file onset offset #phone prev-phone next-phone speaker
a 0.1 0.2 b c d s1
a 0.2 0.35 e b d s1
b 0 0.5 b c d s2
"""
ODD = (
    "", " ", "\t", "\n", "\r", "\r\n", "\0", '"', '""', "'", ",", ";", "\\", "\ufeff", "\u2028", "\x85",
    "\xa0", "\x1c", "\x0c", "\u200b", "é", "e\u0301", "🐟", "=1+1", "@cmd", "..", "../a", "/", "a:b", ":1:2",
    ".zip:0:5", "0", "-1", "1e3", "١", "1_000", " 7", "9" * 18, "9" * 30, "nan", "inf", "1.0", "NULL", "null",
    "true", "{}", "[]", "#", "#root\t", "<", "None", "NONE", "train", "test_seen", "images", "0.5", "1e-320",
)  # fmt: skip


def kind() -> Kind:
    """Return the kind with every table that a user, a corpus or we write."""
    return Kind(originals(), mutate_text, read, max_seconds=10, max_bytes=256 << 20)


def originals() -> dict[str, bytes]:
    """Return tables by room and name; tables of data folders and corpora are read from small ones."""
    names = ["audio,image,speaker,text,split"]
    rows = [
        f"s{number}.wav,p{number // 2}.png,Ann{number % 2},a word {number},{split}"
        for number, split in enumerate(["train"] * 4 + ["valid"] * 2)
    ]
    quoted = [*names, *rows[:5], 's5.wav,p2.png,"Bob, Jr.","he said ""no""\nand left",valid']
    without = [line.rpartition(",")[0] for line in names + rows]
    records = [dict(zip(names[0].split(","), row.split(","), strict=True)) for row in rows]
    tables = {
        "pairs/mine.csv": "\n".join(quoted) + "\n",
        "pairs/semicolons.csv": "\r\n".join(line.replace(",", ";") for line in names + rows) + "\r\n",
        "pairs/mine.tsv": "\n".join(line.replace(",", "\t") for line in names + rows) + "\n",
        "pairs/mine.txt": "\n".join(line.replace(",", "\t") for line in without) + "\n",
        "pairs/mine.jsonl": "".join(json.dumps(record) + "\n" for record in records),
        "items/mine.item": ITEMS,
    }
    elsewhere = [*(f"data/{table}" for table in DATA_TABLES), *CORPORA]
    return {name: text.encode() for name, text in tables.items()} | dict.fromkeys(elsewhere, b"")


def mutate_text(name: str, content: bytes, draws: Draws) -> bytes:
    """Damage bytes, or fields and lines; tables that are read from folders are damaged there."""
    content = content or _original(name)
    result = content
    for _ in range(draws.integers(1, 3)):
        kind = draws.integers(4)
        if kind == 0:
            result = mutate_bytes(result, draws)
        elif kind == 1:
            result = _lines(result, draws)
        else:
            result = _fields(result, draws)
    return result


def _lines(content: bytes, draws: Draws) -> bytes:
    """Repeat, exchange or remove lines, change their ends, case or encoding."""
    lines = content.split(b"\n")
    first, second = draws.integers(len(lines), size=2)
    changes: list[Callable[[], bytes]] = [
        lambda: b"\n".join([*lines[:first], lines[second], *lines[first:]]),
        lambda: b"\n".join(lines[:first] + lines[first + 1 :]),
        lambda: b"\n".join([*lines[:first], lines[second], *lines[first + 1 :]]),
        lambda: content.replace(b"\n", (b"\r\n", b"\r", b"\n\n")[draws.integers(3)]),
        lambda: content + (b"\n", b";;;;\n", b",,,,\n", b"\t\t\t\n", b" ", b"\0")[draws.integers(6)],
        lambda: lines[0].upper() + content[len(lines[0]) :],
        lambda: b"\xef\xbb\xbf" + content,
        lambda: content.decode("utf-8", "replace").encode(("utf-16", "cp1252")[draws.integers(2)], "replace"),
        content.rstrip,
        lambda: content.replace(*((b"\t", b","), (b",", b";"), (b",", b"\t"))[draws.integers(3)]),
    ]
    return changes[draws.integers(len(changes))]()


def _fields(content: bytes, draws: Draws) -> bytes:
    """Replace a field, or a part of it, by odd text or by another field."""
    parts = re.split(rb"([\t\n, \":;{}\[\]]+)", content)
    at, other = draws.integers(len(parts), size=2)
    odd = ODD[draws.integers(len(ODD))].encode()
    end = int(draws.integers(len(parts[at]) + 1))
    parts[at] = (odd, parts[other], parts[at][:end] + odd + parts[at][end:])[draws.integers(3)]
    return b"".join(parts)


def read(name: str, content: bytes, folder: Path) -> str:
    """Pass a table through every door of its room; return the room."""
    room, _, table = name.partition("/")
    readers = {"data": read_data, "pairs": read_pairs_table, "items": read_item_file}
    readers.get(room, partial(read_corpus_table, room))(table, content, folder)
    return room


def has_lines(error: FaultError | Sequence[Fault]) -> None:
    """Every fault of a line must say which."""
    for fault in error.faults if isinstance(error, FaultError) else error:
        named = re.search(r":\d+( \(.*)?$|\[\d+\]|: character \d+", fault.place) is not None
        whole = fault.code.startswith(OF_FILES)
        agree("no line is named", holds=named or whole, place=fault.place, code=fault.code)


# Data folders ---------------------------------------------------------------------------------------------

_kept: dict[Path, Path] = {}


def data_folder(folder: Path) -> ManifestFolder:
    """Return a whole data folder, made once and restored by ``read_data``."""
    if folder not in _kept:
        made = make_folder(folder / "data", lengths=LENGTHS, n_images=3)
        summary = {"splits": {"train": 4}, "regions": {"n": 6}}
        (made.path / "summary.json").write_text(json.dumps(summary))
        rows = [
            f"{split}/{i}.wav\t{split}-{i}" for split, lengths in LENGTHS.items() for i in range(len(lengths))
        ]
        (made.path / "utterances.tsv").write_text("audio_id\tfile\n" + "\n".join(rows) + "\n")
        shutil.copytree(made.path, folder / "whole")
        _kept[folder] = made.path
    return ManifestFolder(_kept[folder])


def read_data(table: str, content: bytes, folder: Path) -> None:
    """Check, training with and without ``skip_bad``, and readers of whole tables must agree."""
    data = data_folder(folder)
    path = data.path / table
    path.write_bytes(content)
    try:
        report = inspect_folder(data.path, read_media=False)
        here = [fault for fault in report.faults if fault.place.partition(":")[0] == table]
        has_lines(here)
        if table == "utterances.tsv":
            _, error = attempt(open_recordings, data.path, "train")
        elif table == "regions.tsv":
            error = _see_regions(data, here)
        elif table == "summary.json":
            _, error = attempt(
                load_regions, data, image_index={f"image{i}": i for i in range(3)}, max_regions=3
            )
        else:
            error = _see_split(data, table, here)
        if error is not None:
            has_lines(error)
            raise error
        raise_any(here)
    finally:
        shutil.copyfile(folder / "whole" / table, path)


def _see_split(data: ManifestFolder, table: str, found: list[Fault]) -> FaultError | None:
    load = partial(load_split, data, "train", layers=CONV_LAYERS, with_texts=True)
    strict, error = attempt(load)
    lenient, lenient_error = attempt(load, skip_bad=True)
    in_table = [fault.code for fault in found if fault.code.startswith(("table", "file.encoding", "entry"))]
    agree("training reads what check refuses", holds=error is not None or not in_table, codes=in_table)
    if strict is None:
        codes = [fault.code for fault in error.faults]
        known = bool(found) or "sound.too_short" in codes or {"sound.unknown", "picture.unknown"} & set(codes)
        agree("training refuses what check accepts", holds=known, codes=codes)
    else:
        agree("skip_bad reads less", holds=lenient is not None and len(lenient) == len(strict))
        _see_same_rows(data, strict)
    if lenient is not None:
        _see_items(lenient)
    elif lenient_error is not None:
        has_lines(lenient_error)
    if table == "train.tsv":
        _, audio_error = attempt(load_audio_table, data.audio_list("train"), layers=CONV_LAYERS)
        agree("unpaired speech", holds=audio_error is None or error is not None)
    return error


def _see_same_rows(data: ManifestFolder, table: SplitTable) -> None:
    """Reading by columns must equal reading by line."""
    audio, pairs = scan_audio_list(data.audio_list("train")), scan_pairs(data.pairs("train"))
    images = scan_images(data.images)
    agree("rows", holds=not audio.faults and not pairs.faults and not images.faults)
    rows = {row.audio_id: (line, row) for line, row in zip(audio.lines, audio.rows, strict=True)}
    shown = {row.image_id: row for row in images.rows}
    for index, pair in enumerate(pairs.rows):
        line, row = rows[pair.audio_id]
        place = int(table.audio_row[index])
        agree("audio", holds=table.audio.paths[place] == row.audio_id, line=line)
        agree("length", holds=int(table.n_samples[index]) == row.n_samples, line=line)
        agree("line", holds=table.audio.lines[place] == line, line=line)
        agree("text", holds=table.texts[index] == pair.text, line=line)
        agree("picture", holds=table.images.paths[int(table.image_row[index])] == shown[pair.image_id].path)
    agree("roots", holds=(table.audio.root, table.images.root) == (audio.root, images.root))
    agree("audio lists", holds=[row.audio_id for row in read_audio_list(data.audio_list("train")).rows]
          == [table.audio.paths[row] for row in range(len(table.audio.n_samples))])  # fmt: skip
    read_pairs(data.pairs("train"))
    read_images(data.images)


def _see_items(table: SplitTable) -> None:
    """With ``skip_bad``, training skips every bad item and nothing else stops it."""
    options = VgsDatasetOptions(CONV_LAYERS, max_samples=8000, image_size=8, skip_bad=True)
    dataset = VgsDataset(table, options)
    for index in range(len(dataset)):
        agree("item", holds=isinstance(dataset[index], PairItem | SkippedItem))
    strict = VgsDataset(table, VgsDatasetOptions(CONV_LAYERS, max_samples=8000, image_size=8))
    for index in range(len(strict)):
        try:
            item = strict[index]
        except BadItemError as error:
            has_lines(error)
        else:
            length = min(int(table.n_samples[index]), 8000)
            agree("length of speech", holds=len(item.waveform) == length, read=len(item.waveform))


def _see_regions(data: ManifestFolder, found: list[Fault]) -> FaultError | None:
    load = partial(load_regions, data, image_index=IMAGES, max_regions=100)
    store, error = attempt(load)
    lenient, lenient_error = attempt(load, skip_bad=True)
    known = [fault.code for fault in found if fault.code != "regions.missing"]
    agree("regions of training and check", holds=(error is None) == (not known), codes=known)
    if lenient is None:
        has_lines(lenient_error)
    if store is not None:
        rows = scan_regions(data.regions).rows
        for image_id, number in IMAGES.items():
            mine = [(row.x0, row.y0, row.x1, row.y1) for row in rows if row.image_id == image_id]
            boxes = np.array(mine, np.float32).reshape(-1, 4)
            agree("boxes", holds=np.array_equal(store.boxes(number), boxes), image=image_id)
            agree("features", holds=len(store.features(number)) == len(mine))
            if lenient is not None:
                agree("skip_bad", holds=np.array_equal(lenient.boxes(number), boxes))
    return error


# Users' tables --------------------------------------------------------------------------------------------


def read_pairs_table(table: str, content: bytes, folder: Path) -> None:
    """What ``prepare pairs`` makes of a table must pass ``check`` and be what training reads."""
    source = folder / "pairs"
    if not source.is_dir():
        for number in range(6):
            write(source / f"s{number}.wav", encode(speech(number, seconds=0.4)))
        for number in range(3):
            write(source / f"p{number}.png", picture(number))
    (source / table).write_bytes(content)
    reader, output = Pairs(), folder / "prepared"
    shutil.rmtree(output, ignore_errors=True)
    faults: list[Fault] = []
    corpus, _ = attempt(reader.collect, source / table, faults)
    try:
        reader.prepare(source / table, output, options=BuildOptions())
    except FaultError as error:
        has_lines(error)
        raise
    data = ManifestFolder(output)
    found = [fault for fault in inspect_folder(output).faults if not fault.code.startswith(("leak", "split"))]
    agree("check refuses what prepare made", holds=not found, faults=[str(fault) for fault in found])
    agree("collected", holds=corpus is not None and not faults)
    said = {caption.audio: caption for caption in corpus.captions}
    listed = 0
    for split in data.splits():
        rows = read_pairs(data.pairs(split)) if data.pairs(split).exists() else ()
        alone = read_utterances(data.utterances(split)) if data.utterances(split).exists() else ()
        listed += len(read_audio_list(data.audio_list(split)).rows)
        for row in (*rows, *alone):
            caption = said[row.audio_id]
            agree("text", holds=row.text.split() == caption.text.replace("\0", " ").split(), row=row)
            agree("speaker", holds=row.speaker.split() == caption.speaker.replace("\0", " ").split(), row=row)
            agree("split", holds=not caption.split or standard_split(caption.split) == split, row=row)
        if rows:
            loaded = load_split(data, split, layers=CONV_LAYERS)
            agree("training's pairs", holds=len(loaded) == len(rows))
    agree("recordings", holds=listed == len(said), listed=listed, collected=len(said))


def read_item_file(table: str, content: bytes, folder: Path) -> None:
    """ABX reads an item file, or names lines; ``prepare librispeech --abx-items`` copies no other."""
    write(folder / table, content)
    items, error = attempt(read_items, folder / table)
    corpus = folder / "LibriSpeech/dev-clean/1/2"
    for name in "ab":
        write(corpus / f"{name}.flac", b"")
    faults: list[Fault] = []
    LibriSpeech(abx_items=folder / table).collect(folder / "LibriSpeech", faults)
    has_lines(faults)
    if error is not None:
        has_lines(error)
        raise error
    known = all(item.file in "ab" for item in items)
    agree("prepare refuses items that ABX reads", holds=not faults or not known, faults=faults)


# Corpora --------------------------------------------------------------------------------------------------

CORPORA: dict[str, tuple[Callable[[Path], Any], str, Callable[[Path], Any]]] = {
    "spokencoco/SpokenCOCO_train.json": (
        lambda folder: write_spokencoco(
            folder, [coco_entry(COCO_TRAIN, captions=2)], [coco_entry(COCO_VALID)]
        ),
        "SpokenCOCO_train.json", lambda folder: SpokenCoco(without_pictures=True),
    ),
    "places/train_2020.json": (
        lambda folder: write_places(folder, train=[described_place(number) for number in range(3)]),
        "metadata/train_2020.json", lambda folder: Places(without_pictures=True),
    ),
    "flickr8k/wav2capt.txt": (
        lambda folder: write_flickr8k(folder, flickr_images("train", 3)),
        "flickr_audio/wav2capt.txt", lambda folder: Flickr8k(without_pictures=True),
    ),
    "flickr8k/wav2spk.txt": (
        lambda folder: write_flickr8k(folder, flickr_images("train", 3)),
        "flickr_audio/wav2spk.txt", lambda folder: Flickr8k(without_pictures=True),
    ),
    "flickr8k/Flickr8k.token.txt": (
        lambda folder: write_flickr8k(folder, flickr_images("train", 3)),
        "Flickr8k_text/Flickr8k.token.txt", lambda folder: Flickr8k(without_pictures=True),
    ),
    "librispeech/1-2.trans.txt": (
        lambda folder: _write_librispeech(folder),
        "dev-clean/1/2/1-2.trans.txt", lambda folder: LibriSpeech(),
    ),
}  # fmt: skip


def _write_librispeech(folder: Path) -> None:
    write(folder / "dev-clean/1/2/1-2.trans.txt", b"1-2-0000 A WORD\n1-2-0001 ANOTHER ONE\n")
    for number in range(2):
        write(folder / f"dev-clean/1/2/1-2-000{number}.flac", b"")


_originals: dict[str, bytes] = {}


def _original(name: str) -> bytes:
    """Return a table of a data folder or a corpus, made once."""
    import tempfile

    if name not in _originals:
        with tempfile.TemporaryDirectory() as made:
            if name in CORPORA:
                make, inside, _ = CORPORA[name]
                make(Path(made) / "corpus")
                _originals[name] = (Path(made) / "corpus" / inside).read_bytes()
            else:
                data = data_folder(Path(made))
                # Roots are absolute: of the folder in which it will be read.
                for table in DATA_TABLES:
                    text = (data.path / table).read_text().replace(str(data.path), ".")
                    _originals[f"data/{table}"] = text.encode()
                del _kept[Path(made)]
    return _originals[name]


def read_corpus_table(room: str, table: str, content: bytes, folder: Path) -> None:
    """A corpus' list is read, or refused by line or entry."""
    make, inside, reader = CORPORA[f"{room}/{table}"]
    corpus = folder / f"{room}-{table}"
    if not corpus.exists():
        make(corpus)
    (corpus / inside).write_bytes(content)
    try:
        found = read_corpus(reader(corpus), corpus)
    except FaultError as error:
        has_lines(error)
        raise
    again = read_corpus(reader(corpus), corpus)
    agree("read twice", holds=list(found.captions) == list(again.captions))
