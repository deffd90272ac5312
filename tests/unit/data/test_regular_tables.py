"""The fast reader gives what the line by line reader gives, and leaves every irregular table to it."""

import numpy as np
import pytest
from support.tiny_folder import LAYERS, make_folder

from fairseq_vgs.data import tables
from fairseq_vgs.data.packed_strings import PackedStrings, StringPacker
from fairseq_vgs.data.regular_tables import read_audio_columns, read_image_columns
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.tables import IrregularTableError
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
    assert list(one.image_paths) == list(other.image_paths)
    assert list(one.texts) == list(other.texts)
    assert one.image_index == other.image_index
    assert (one.audio.root, one.image_root, one.n_skipped) == (
        other.audio.root,
        other.image_root,
        other.n_skipped,
    )
    for name in ("audio_row", "image_row", "image_group", "image_lines"):
        found, wanted = getattr(one, name), getattr(other, name)
        assert found.dtype == wanted.dtype == np.int64
        assert found.tolist() == wanted.tolist(), name
    assert one.audio.lines.tolist() == other.audio.lines.tolist()
    assert one.audio.n_samples.tolist() == other.audio.n_samples.tolist()


@pytest.mark.parametrize("make_text", [str, shuffled, other_columns])
@pytest.mark.parametrize("chunk", [1, 60, 1 << 20])
def test_regular_tables_are_read_alike(folder, monkeypatch, make_text, chunk):
    monkeypatch.setattr("fairseq_vgs.files.tables.CHUNK_BYTES", chunk)
    change(folder.pairs("valid"), make_text)
    fast = tables._load_regular(folder, "valid", with_texts=True)
    same(fast, tables._load_by_line(folder, "valid", skip_bad=False, with_texts=True))
    assert fast.image_place(2) == "images.tsv:5 (images/2.png)"
    assert fast.audio.place(0) == "valid.tsv:2 (valid/0.wav)"
    assert tables._load_regular(folder, "valid", with_texts=False).texts is None


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
