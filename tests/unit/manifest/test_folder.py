from __future__ import annotations

from pathlib import Path

from fairseq_vgs.manifest.folder import ManifestFolder


def test_paths() -> None:
    folder = ManifestFolder(Path("data"))
    assert folder.audio_list("train") == Path("data/train.tsv")
    assert folder.pairs("train") == Path("data/train.pairs.tsv")
    assert folder.images == Path("data/images.tsv")
    assert folder.regions == Path("data/regions.tsv")
    assert folder.region_features == Path("data/regions.npy")
    assert folder.summary == Path("data/summary.json")


def test_accepts_plain_text() -> None:
    assert ManifestFolder("data").images == Path("data/images.tsv")


def test_splits_in_standard_order_without_tables_of_other_kinds(tmp_path: Path) -> None:
    for name in ("test", "valid", "train", "train_unpaired"):
        (tmp_path / f"{name}.tsv").write_text(".\na.wav\t1\n")
    for name in ("train.pairs.tsv", "images.tsv", "regions.tsv", "dev.pairs.tsv"):
        (tmp_path / name).write_text("x\n")
    (tmp_path / "phones.tsv").write_text("utterance\tphone\n")
    (tmp_path / "folder.tsv").mkdir()
    assert ManifestFolder(tmp_path).splits() == ["train", "valid", "test", "dev", "train_unpaired"]


def test_a_standard_list_with_a_broken_root_line_is_still_a_split(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a.wav\t1\n")
    assert ManifestFolder(tmp_path).splits() == ["train"]


def test_a_missing_folder_has_no_splits(tmp_path: Path) -> None:
    assert ManifestFolder(tmp_path / "none").splits() == []
