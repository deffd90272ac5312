"""The fast reader gives what the line by line reader gives, and leaves every irregular table to it."""

import tempfile
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_folder import LAYERS, make_folder

from fairseq_vgs.data import tables
from fairseq_vgs.data.regular_tables import (
    PackedStrings,
    StringPacker,
    read_audio_columns,
    read_image_columns,
)
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.tables import IrregularTableError
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.modules.conv_spec import parse_conv_layers

CONV = parse_conv_layers(LAYERS)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data", groups={1: "same", 3: "same"})


def change(path, make_text):
    path.write_bytes(make_text(path.read_bytes().decode()).encode())


def shuffled(text):
    head, *lines = text.splitlines()
    return "\n".join([head, *lines[::-1]]) + "\n"


def other_columns(text):
    """Another order of the columns of a pair table, and no line end at its end."""
    rows = [line.split("\t") for line in text.splitlines()]
    return "\n".join("\t".join([row[3], row[1], row[0], row[2]]) for row in rows)


def same(one, other):
    assert list(one.audio.paths) == list(other.audio.paths)
    assert list(one.images.paths) == list(other.images.paths)
    assert list(one.texts) == list(other.texts)
    assert one.images.index == other.images.index
    assert (one.audio.root, one.images.root, one.n_skipped) == (
        other.audio.root,
        other.images.root,
        other.n_skipped,
    )
    for name in ("audio_row", "image_row", "images.groups"):
        found, wanted = attrgetter(name)(one), attrgetter(name)(other)
        assert found.dtype == wanted.dtype == np.int64
        assert found.tolist() == wanted.tolist(), name
    assert list(one.images.lines) == list(other.images.lines)
    assert list(one.audio.lines) == list(other.audio.lines)
    assert one.audio.n_samples.tolist() == other.audio.n_samples.tolist()


@pytest.mark.parametrize("make_text", [str, shuffled, other_columns])
@pytest.mark.parametrize("chunk", [1, 60, 1 << 20])
def test_regular_tables_are_read_alike(folder, monkeypatch, make_text, chunk):
    monkeypatch.setattr("fairseq_vgs.files.tables.CHUNK_BYTES", chunk)
    change(folder.pairs("valid"), make_text)
    fast = tables._load_regular(folder, "valid", with_texts=True)
    same(fast, tables._load_by_line(folder, "valid", skip_bad=False, with_texts=True))
    assert fast.images.place(2) == "images.tsv:5 (images/2.png)"
    assert fast.audio.place(0) == "valid.tsv:2 (valid/0.wav)"
    assert tables._load_regular(folder, "valid", with_texts=False).texts is None


IDS = st.sampled_from(["a.wav", "b.wav", "я c.wav", "z.zip:3:4"])
PICTURES = st.sampled_from(["p", "q", "я"])
SIZES = st.sampled_from(["1", "20", "007"])
ANYTHING = st.sampled_from(["", " ", "a", "/", "../", "-1", ".5", "\t", "\0", "\ufeff", "\u2028", "\n"])
FIRST = {
    "valid.tsv": "sounds\n",
    "images.tsv": "#root\t.\nimage_id\tpath\twidth\theight\tgroup\n",
    "valid.pairs.tsv": "audio_id\timage_id\tspeaker\ttext\n",
}
ROWS = {
    "valid.tsv": st.tuples(IDS, SIZES),
    "images.tsv": st.tuples(
        PICTURES, st.sampled_from(["", "p.png"]), SIZES, SIZES, st.sampled_from(["", "g"])
    ),
}


@st.composite
def table_texts(draw):
    """Three tables of a split; in half of the cases, one or two places hold anything."""
    rows = {
        name: draw(st.lists(row, min_size=1, max_size=3, unique_by=lambda row: row[0]))
        for name, row in ROWS.items()
    }
    ids, pictures = (st.sampled_from([row[0] for row in rows[name]]) for name in ROWS)
    pair = st.tuples(ids, pictures, st.sampled_from(["", "s"]), st.sampled_from(["", "a я", " "]))
    rows["valid.pairs.tsv"] = draw(st.lists(pair, min_size=1, max_size=3, unique_by=lambda row: row[0]))
    texts = {}
    for name, found in rows.items():
        texts[name] = FIRST[name] + "\n".join("\t".join(row) for row in found)
        texts[name] += draw(st.sampled_from(["\n", ""]))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        name = draw(st.sampled_from([*texts]))
        at = draw(st.integers(0, len(texts[name])))
        end = draw(st.sampled_from([at, at + 1, at + 3]))
        texts[name] = texts[name][:at] + draw(ANYTHING) + texts[name][end:]
    return texts


@given(table_texts(), st.sampled_from([1, 20, 1 << 20]))
@settings(max_examples=300, deadline=None)
def test_both_readers_take_the_same_tables(texts, chunk):
    with tempfile.TemporaryDirectory() as path, pytest.MonkeyPatch.context() as patch:
        patch.setattr("fairseq_vgs.files.tables.CHUNK_BYTES", chunk)
        for name, text in texts.items():
            Path(path, name).write_bytes(text.encode())
        folder = ManifestFolder(Path(path))
        by_columns = tables._load_regular(folder, "valid", with_texts=True)
        try:
            by_line = tables._load_by_line(folder, "valid", skip_bad=False, with_texts=True)
        except FaultError:
            by_line = None
    assert (by_columns is None) == (by_line is None)
    if by_columns is not None:
        same(by_columns, by_line)


@pytest.mark.parametrize(
    ("table", "old", "new"),
    [
        ("valid.tsv", "\t7300", "\t-3"),
        ("valid.tsv", "valid/1.wav", "valid/0.wav"),
        ("valid.tsv", "valid/1.wav", "/valid/1.wav"),
        ("valid.tsv", "valid/1.wav", "valid/1.wav\r"),
        ("valid.tsv", "valid/1.wav\t7300\n", "\n"),
        ("valid.pairs.tsv", "valid/1.wav", "valid/0.wav"),
        ("valid.pairs.tsv", "valid/1.wav", "valid/unknown.wav"),
        ("valid.pairs.tsv", "image1", "unknown"),
        ("valid.pairs.tsv", "image1", ""),
        ("valid.pairs.tsv", "caption 1", "caption\t1"),
        ("valid.pairs.tsv", "caption 1", "caption\x001"),
        ("valid.pairs.tsv", "audio_id", "audio"),
        ("images.tsv", "#root\t", ""),
        ("images.tsv", "#root", "\ufeff#root"),
        ("images.tsv", "image1\t", "image2\t"),
        ("images.tsv", "\t20\t", "\ttwenty\t"),
    ],
)
def test_faults_are_left_to_the_reader_that_names_them(folder, table, old, new):
    change(folder.path / table, lambda text: text.replace(old, new, 1))
    assert tables._load_regular(folder, "valid", with_texts=False) is None
    with pytest.raises(FaultError, match=table.replace(".", r"\.")):
        tables.load_split(folder, "valid", layers=CONV)


def test_crlf_is_read_by_the_other_reader(folder):
    change(folder.pairs("valid"), lambda text: text.replace("\n", "\r\n"))
    assert tables._load_regular(folder, "valid", with_texts=False) is None
    assert len(tables.load_split(folder, "valid", layers=CONV)) == 8


def test_broken_text_and_empty_tables(folder):
    list_path = folder.audio_list("valid")
    list_path.write_bytes(list_path.read_bytes().replace(b"valid/1", b"valid/\xff"))
    with pytest.raises(IrregularTableError):
        read_audio_columns(list_path)
    for text in (b"", b".\n"):
        list_path.write_bytes(text)
        with pytest.raises(IrregularTableError):
            read_audio_columns(list_path)
    folder.images.write_text("#root\t.\nimage_id\tpath\twidth\theight\tgroup\n")
    with pytest.raises(IrregularTableError):
        read_image_columns(folder.images)


def test_packed_strings_compare_without_unpacking():
    strings = ["a", "", "бв", "a"]
    packed = PackedStrings(strings)
    assert list(packed) == strings
    rows = np.array([2, 0, 1])
    assert packed.same_at(rows, PackedStrings(["бв", "a", ""]))
    assert not packed.same_at(rows, PackedStrings(["вб", "a", ""]))
    assert not packed.same_at(rows, PackedStrings(["бв", "aa", ""]))
    assert packed.same_at(np.arange(4), PackedStrings(strings))
    assert not packed.same_at(np.arange(4), PackedStrings(["b", *strings[1:]]))
    packer = StringPacker()
    packer.extend(strings[:1])
    packer.extend(strings[1:])
    assert list(packer.strings()) == strings
