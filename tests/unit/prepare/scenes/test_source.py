from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.faults import raises_fault
from support.tiny_stamps import make_stamps, tone, write_stamp

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import AudioRow, PairRow, RegionRow, read_images, write_audio_list, write_pairs
from fairseq_vgs.prepare.build.tables import write_region_tables
from fairseq_vgs.prepare.corpora.tuxpaint import TuxPaint
from fairseq_vgs.prepare.scenes.source import TARGET_RMS, fade_ends, load_source, trim_silence

CONFIG = TuxPaint("ru", valid_share=0.2, test_share=0.2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = make_stamps(tmp_path / "stamps", 10)
    write_stamp(folder, "twin", number=50, english="Thing number 3.", text="Предмет 3.")
    write_stamp(folder, "slow", number=60, samples=tone(300, seconds=2))
    CONFIG.prepare(folder, tmp_path / "source")
    return tmp_path / "source"


def add_features(source: Path) -> list[str]:
    ids = [row.image_id for row in read_images(source / "images.tsv").rows]
    small = [RegionRow(name, 0, 0.4, 0.4, 0.5, 0.5) for name in ids]
    whole = [RegionRow(name, row, 0.0, 0.0, 1.0, 1.0) for row, name in enumerate(ids)]
    features = np.arange(len(ids), dtype=np.float16)[:, None] * np.ones((1, 4), np.float16)
    write_region_tables(source, [*small[:5], *whole, *small[5:]], features)
    return ids


def test_objects_of_all_splits_are_pooled_and_groups_count_once(source: Path) -> None:
    loaded = load_source(source, n_objects=10, max_seconds=1.5, seed=1)
    assert loaded.splits == ("train", "valid", "test")
    assert (loaded.n_objects, loaded.n_available) == (11, 10)
    assert loaded.features is None
    ids = [item.object_id for item in loaded.objects]
    assert ids == sorted({f"{('animals', 'food/fruit')[n % 2]}/thing_{n:02d}" for n in range(10)})
    for item in loaded.objects:
        assert item.text == f"Предмет {int(item.object_id[-2:])}"
        assert (item.speaker, item.feature_row) == ("ru", -1)
        assert (item.picture.mode, item.picture.size) == ("RGB", (30, 20))
        # 0.5 s of which the outer eighths are silent, but for the margin
        assert 0.37 < len(item.speech) / 16_000 < 0.46
        assert np.sqrt(np.mean(item.speech**2)) == pytest.approx(TARGET_RMS, rel=0.05)


def test_zero_seconds_allow_all(source: Path) -> None:
    assert load_source(source, n_objects=11, max_seconds=0, seed=1).n_available == 11


def test_seed_chooses_and_more_objects_keep_the_first(source: Path) -> None:
    def chosen(n_objects: int, seed: int) -> set[str]:
        loaded = load_source(source, n_objects=n_objects, max_seconds=0, seed=seed)
        return {item.object_id for item in loaded.objects}

    assert chosen(4, 1) < chosen(7, 1)
    assert chosen(4, 1) != chosen(4, 2)


def test_feature_row_is_the_largest_regions(source: Path) -> None:
    ids = add_features(source)
    loaded = load_source(source, n_objects=10, max_seconds=1.5, seed=1)
    for item in loaded.objects:
        assert ids[item.feature_row] == item.object_id
    assert loaded.features is not None


def test_image_without_a_region_is_an_error(source: Path) -> None:
    add_features(source)
    lines = (source / "regions.tsv").read_text("utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("animals/thing_00")]
    (source / "regions.tsv").write_text("\n".join(kept) + "\n", "utf-8")
    with raises_fault("region.missing", "regions.tsv"):
        load_source(source, n_objects=11, max_seconds=0, seed=1)


def test_too_many_objects_are_refused(source: Path) -> None:
    with raises_fault("setting.value", "--objects"):
        load_source(source, n_objects=11, max_seconds=1.5, seed=1)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with raises_fault("folder.kind"):
        load_source(tmp_path, n_objects=1, max_seconds=0, seed=1)


def test_unknown_ids_name_the_line(source: Path) -> None:
    path = source / "valid.pairs.tsv"
    pairs = path.read_text("utf-8").splitlines()
    fields = pairs[2].split("\t")
    write_pairs(path, [PairRow(fields[0], "nobody")], force=True)
    with raises_fault("table.reference", "valid.pairs.tsv:2"):
        load_source(source, n_objects=2, max_seconds=0, seed=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("broken", "audio must be readable, got"),
        ("rate", "sample rate must be 16000 Hz, got 8000"),
        ("silent", "audio must not be silent"),
        ("missing", "file is missing"),
    ],
)
def test_faulty_speech_names_the_file(source: Path, content: str, message: str) -> None:
    path = source / "speech/animals/thing_00.flac"
    buffer = io.BytesIO()
    if content in ("rate", "silent"):
        rate = 8_000 if content == "rate" else 16_000
        soundfile.write(buffer, np.zeros(8_000), rate, format="FLAC")
    path.write_bytes(buffer.getvalue() or b"fLaC")
    if content == "missing":
        path.unlink()
    with pytest.raises(FaultError, match=message) as caught:
        load_source(source, n_objects=11, max_seconds=0, seed=1)
    assert "speech/animals/thing_00.flac" in str(caught.value)


def test_faulty_picture_names_the_file(source: Path) -> None:
    (source / "pictures/animals/thing_00.webp").write_bytes(b"RIFF")
    with raises_fault("picture.unreadable", "pictures/animals/thing_00.webp"):
        load_source(source, n_objects=11, max_seconds=0, seed=1)


def test_picture_of_a_format_that_other_programs_would_decode(source: Path) -> None:
    Image.new("RGB", (30, 20)).save(source / "pictures/animals/thing_00.webp", format="EPS")
    with raises_fault("picture.unreadable", "thing_00.webp"):
        load_source(source, n_objects=11, max_seconds=0, seed=1)


def test_first_recording_of_a_picture_is_taken(tmp_path: Path, source: Path) -> None:
    soundfile.write(source / "second.flac", tone(900, seconds=1.0, rate=16_000), 16_000)
    list_path, pairs_path = source / "train.tsv", source / "train.pairs.tsv"
    audio = [line.split("\t") for line in list_path.read_text("utf-8").splitlines()[1:]]
    pairs = [line.split("\t") for line in pairs_path.read_text("utf-8").splitlines()[1:]]
    rows = [*(AudioRow(name, int(length)) for name, length in audio), AudioRow("second.flac", 16_000)]
    write_audio_list(list_path, rows, root=".", force=True)
    extra = PairRow("second.flac", pairs[0][1], "ru", "другое")
    write_pairs(pairs_path, [*(PairRow(*fields) for fields in pairs), extra], force=True)
    loaded = load_source(source, n_objects=11, max_seconds=0, seed=1)
    assert "другое" not in {item.text for item in loaded.objects}


def test_trimming_keeps_a_margin_and_leaves_silence_alone() -> None:
    samples = np.concatenate([np.zeros(8000), np.full(1600, 0.5), np.zeros(4000)])
    trimmed = trim_silence(samples)
    assert len(trimmed) == 1600 + 2 * 480
    np.testing.assert_array_equal(np.flatnonzero(trimmed), np.arange(480, 2080))
    for unchanged in (np.zeros(1600), np.zeros(0), np.ones(10)):
        assert trim_silence(unchanged) is unchanged


def test_fading_touches_the_ends_only() -> None:
    faded = fade_ends(np.ones(1000))
    assert faded[0] == faded[-1] == 0
    assert (faded[80:-80] == 1).all()
    assert (np.diff(faded[:80]) > 0).all()
    assert len(fade_ends(np.ones(1))) == 1


def test_pictures_are_read_whole(source: Path) -> None:
    loaded = load_source(source, n_objects=1, max_seconds=0, seed=1)
    assert isinstance(loaded.objects[0].picture, Image.Image)
    loaded.objects[0].picture.load()
