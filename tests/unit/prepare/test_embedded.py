"""The committed data set itself, and the parts of its rebuild script that need no packages."""

from __future__ import annotations

import hashlib
import importlib
import io
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from fairseq.data import FileAudioDataset
from support.faults import check_folder

from fairseq_vgs.files.location import read_bytes, resolve
from fairseq_vgs.manifest import ManifestFolder, read_audio_list, read_images, read_pairs, read_regions
from fairseq_vgs.media.containers import read_pages
from fairseq_vgs.prepare.build.split import caption_key

MANIFESTS = Path(__file__).parents[3] / "manifests"
EMBEDDED = MANIFESTS / "embedded"
ABX = EMBEDDED / "abx"
SPLITS = {"train": 334, "valid": 42, "test": 42}
MEGABYTE = 2**20


@pytest.fixture
def rebuild_part(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(MANIFESTS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def read_abx_rows(name: str, separator: str) -> list[list[str]]:
    lines = (ABX / name).read_text("utf-8").splitlines()
    return [line.split(separator) for line in lines[1:]]


def test_no_fault_is_found() -> None:
    assert check_folder(EMBEDDED) == []
    assert check_folder(ABX) == []


def test_it_stays_small() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file()) < 20 * MEGABYTE


def test_checksums_cover_all_that_is_built() -> None:
    listed = dict(reversed(line.split("  ")) for line in (EMBEDDED / "SHA256SUMS").read_text().splitlines())
    found = {
        path.relative_to(EMBEDDED).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in EMBEDDED.rglob("*")
        if path.is_file()
    }
    for written_by_hand in ("README.md", "LICENSE.GPL-2.txt", "SHA256SUMS"):
        del found[written_by_hand]
    assert found == listed


def test_terms_and_authors_stand_beside_the_media() -> None:
    assert "GNU GENERAL PUBLIC LICENSE" in (EMBEDDED / "LICENSE.GPL-2.txt").read_text("utf-8")
    assert "Bill Kendrick" in (EMBEDDED / "COPYRIGHT.tuxpaint-stamps.txt").read_text("utf-8")
    assert "Nickolay V. Shmyrev" in (ABX / "COPYRIGHT.festvox-ru.txt").read_text("utf-8")
    names = (EMBEDDED / "CONTRIBUTORS.tuxpaint-stamps.txt").read_text("utf-8").splitlines()
    assert len(names) > 100
    assert {"Edwin Veber", "Caroline Ford", "Pere Pujal i Carabantes"} <= set(names)
    readme = (EMBEDDED / "README.md").read_text("utf-8")
    summary = (EMBEDDED / "summary.json").read_text("utf-8")
    for sha256 in ("6db6c1bfc870a47f", "21ef3f0f2978ecf2"):
        assert sha256 in readme
        assert sha256 in summary


def test_each_object_has_one_picture_one_name_and_one_feature() -> None:
    files = ManifestFolder(EMBEDDED)
    pairs = [pair for split in SPLITS for pair in read_pairs(files.pairs(split))]
    images = [row.image_id for row in read_images(files.images).rows]
    assert {split: len(read_pairs(files.pairs(split))) for split in SPLITS} == SPLITS
    assert sorted(pair.image_id for pair in pairs) == sorted(images)
    captions = [caption_key(pair.text) for pair in pairs]
    assert all(captions)
    assert len(set(captions)) == len(captions)
    assert [(row.image_id, row.feature_row) for row in read_regions(files.regions)] == [
        (name, number) for number, name in enumerate(images)
    ]
    features = np.load(files.region_features, mmap_mode="r", allow_pickle=False)
    assert features.shape == (418, 1280)
    assert len(np.unique(features, axis=0)) == 418


def test_streams_have_serial_numbers_of_their_own() -> None:
    serials = []
    for folder, splits in ((EMBEDDED, SPLITS), (ABX, ["test"])):
        for split in splits:
            audio = read_audio_list(folder / f"{split}.tsv")
            for row in audio.rows:
                content = read_bytes(resolve(audio.root, row.audio_id))
                start = next(read_pages(content)).start
                serials.append(int.from_bytes(content[start + 14 : start + 18], "little"))
    assert sorted(serials) == [*range(418), *range(100_000, 100_060)]


def test_fairseq_reads_the_list_in_place(tmp_path: Path) -> None:
    audio = read_audio_list(EMBEDDED / "valid.tsv")
    lines = (EMBEDDED / "valid.tsv").read_text("utf-8").splitlines()
    (tmp_path / "valid.tsv").write_text("\n".join([str(EMBEDDED), *lines[1:]]) + "\n", "utf-8")
    dataset = FileAudioDataset(tmp_path / "valid.tsv", sample_rate=16_000, min_sample_size=0)
    assert len(dataset) == 42
    for index in (0, 41):
        content = read_bytes(resolve(audio.root, audio.rows[index].audio_id))
        expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
        np.testing.assert_array_equal(dataset[index]["source"].numpy(), expected)
        assert dataset.sizes[index] == len(expected) == audio.rows[index].n_samples


def test_alignments_cover_each_utterance() -> None:
    lengths = {row.audio_id: row.n_samples for row in read_audio_list(ABX / "test.tsv").rows}
    ends: dict[str, Decimal] = {}
    rows = read_abx_rows("alignments.tsv", "\t")
    assert len(rows) == 4863
    for audio_id, onset, offset, phone in rows:
        assert Decimal(onset) == ends.get(audio_id, Decimal(0))
        assert Decimal(onset) < Decimal(offset) <= Decimal(lengths[audio_id]) / 16_000
        assert phone.isascii()
        ends[audio_id] = Decimal(offset)
    assert ends.keys() == lengths.keys()


def test_items_are_the_triphones_of_the_alignments() -> None:
    utterances = read_abx_rows("utterances.tsv", "\t")
    names = {audio_id: name for audio_id, name, _, _ in utterances}
    assert len(names) == 60
    assert all(speaker == "nsh" and text for _, _, speaker, text in utterances)
    phones = read_abx_rows("alignments.tsv", "\t")
    expected = [
        [names[first[0]], first[1], third[2], middle[3], first[3], third[3], "nsh"]
        for first, middle, third in zip(phones, phones[1:], phones[2:], strict=False)
        if first[0] == third[0] and "pau" not in (first[3], middle[3], third[3])
    ]
    assert read_abx_rows("triphone.item", " ") == expected
    assert len(expected) == 4003
    header = (ABX / "triphone.item").read_text("utf-8").splitlines()[0]
    assert header == "#file onset offset #phone prev-phone next-phone speaker"


def test_rebuilding_reads_labels_and_texts(tmp_path: Path, rebuild_part) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "lab").mkdir()
    (tmp_path / "etc/txt.done.data").write_text('( ru_1 "Да." )\n', "utf-8")
    (tmp_path / "lab/ru_1.lab").write_text("separator ;\n#\n0.34200 125 pau\n0.39000 125 d\n")
    (utterance,) = rebuild_part("embedded_abx").read_utterances(tmp_path)
    assert (utterance.name, utterance.text) == ("ru_1", "Да.")
    phones = [(phone.onset, phone.offset, phone.label) for phone in utterance.alignment.phones]
    assert phones == [(Decimal(0), Decimal("0.342"), "pau"), (Decimal("0.342"), Decimal("0.39"), "d")]


def test_contributors_are_found_in_all_forms(rebuild_part) -> None:
    text = """
  * Description translations:
    + Czech
      Jozef Říha <jose@example.org>
      - by Pere Pujal i Carabantes <pere@example.org>
      Photographed by Erinn Lynch <elynch example com>
      (GPL'd, copyright 2002-2005 Stas Zytkiewicz, <s@example.org>.
      Sounds from Fonogeno <http://www.example.org/> collection
    + Rusian:      Edwin Veber
      Jozef Říha <jose@example.org>
"""
    assert rebuild_part("embedded_credits").contributor_names(text) == [
        "Edwin Veber",
        "Erinn Lynch",
        "Jozef Říha",
        "Pere Pujal i Carabantes",
        "Stas Zytkiewicz",
    ]
