from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.faults import raises_fault

from fairseq_vgs.prepare.corpora.flickr8k import LISTS
from fairseq_vgs.prepare.corpora.spokencoco import KARPATHY_LISTS
from fairseq_vgs.prepare.lists import SPLIT_LISTS, list_hash, read_corpus_lines, read_published

PUBLISHED = [("flickr8k", *item) for item in LISTS.values()] + [
    ("spokencoco", *item) for item in KARPATHY_LISTS.values()
]


@pytest.mark.parametrize(("corpus", "name", "sha256"), PUBLISHED)
def test_lists_of_the_package_are_the_published_ones(corpus: str, name: str, sha256: str) -> None:
    path = SPLIT_LISTS / corpus / name
    names = read_published(path, sha256)
    assert len(set(names)) == len(names) == (6000 if "train" in name else 5000 if "karp" in name else 1000)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    assert f"{sha256}  {name}" in (SPLIT_LISTS / corpus / "SHA256SUMS").read_text().splitlines()


@pytest.mark.parametrize("corpus", ["flickr8k", "spokencoco"])
def test_no_picture_is_in_two_splits(corpus: str) -> None:
    names = [line for path in (SPLIT_LISTS / corpus).glob("*.txt") for line in path.read_text().splitlines()]
    assert len(names) == len(set(names))


def test_line_ends_and_blanks_are_of_no_account_but_names_and_order_are(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    sha256 = list_hash(["a.jpg", "b.jpg"])
    path.write_bytes(b"a.jpg \r\n\r\nb.jpg")
    assert read_published(path, sha256) == ["a.jpg", "b.jpg"]
    for other in ("b.jpg\na.jpg\n", "a.jpg\n", "a.jpg\nb.jpg\nc.jpg\n"):
        path.write_text(other)
        with raises_fault("corpus.checksum"):
            read_published(path, sha256)


def test_files_that_are_missing_empty_or_no_text_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "wav2spk.txt"
    assert "must be a file of the corpus, got none; unpack" in str(read_corpus_lines(path)[1][0])
    path.write_bytes(b"")
    assert "got an empty file" in str(read_corpus_lines(path)[1][0])
    path.write_bytes(b"a 1\n\n\xff 2\n b 3 \n")
    lines, faults = read_corpus_lines(path)
    assert lines == [("a 1", "wav2spk.txt:1"), (" b 3 ", "wav2spk.txt:4")]
    assert [item.place for item in faults] == ["wav2spk.txt:3"]
