from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.faults import check_folder, raises_fault
from support.tiny_stamps import RATE, folder_content, make_stamps, tone, write_picture, write_stamp

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ManifestFolder, read_audio_list, read_images, read_pairs
from fairseq_vgs.media import cut_out
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora.tuxpaint import TuxPaint

CONFIG = TuxPaint(language="ru", valid_share=0.2, test_share=0.2)


def groups_by_split(folder: Path) -> dict[str, set[str]]:
    files = ManifestFolder(folder)
    images = {row.image_id: row for row in read_images(files.images).rows}
    return {
        split: {images[pair.image_id].group_id for pair in read_pairs(files.pairs(split))}
        for split in files.splits()
    }


def test_a_tree_becomes_a_sound_folder(tmp_path: Path) -> None:
    make_stamps(tmp_path / "in")
    summary = CONFIG.prepare(tmp_path / "in", tmp_path / "out", options=BuildOptions(jobs=2))
    assert check_folder(tmp_path / "out") == []
    files = ManifestFolder(tmp_path / "out")
    assert {split: len(read_pairs(files.pairs(split))) for split in files.splits()} == {
        "train": 8,
        "valid": 2,
        "test": 2,
    }
    assert {name: counts["pairs"] for name, counts in summary["splits"].items()} == {
        "train": 8,
        "valid": 2,
        "test": 2,
    }
    assert json.loads(files.summary.read_text("utf-8")) == json.loads(
        json.dumps({"made_by": "fairseq-vgs prepare", **summary})
    )


def test_media_are_16_khz_mono_flac_and_pictures_on_white(tmp_path: Path) -> None:
    make_stamps(tmp_path / "in", 3)
    CONFIG.prepare(tmp_path / "in", tmp_path / "out")
    files = ManifestFolder(tmp_path / "out")
    audio = read_audio_list(files.audio_list("train"))
    assert files.audio_list("train").read_text("utf-8").splitlines()[0] == str(tmp_path / "out")
    for row in audio.rows:
        info = soundfile.info(audio.root / row.audio_id)
        assert (info.format, info.samplerate, info.channels) == ("FLAC", 16_000, 1)
        assert info.frames == row.n_samples == 8000
    for row in read_images(files.images).rows:
        with Image.open(tmp_path / "out" / row.path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("WEBP", "RGB", (30, 20))


def test_pairs_hold_language_and_caption(tmp_path: Path) -> None:
    write_stamp(tmp_path / "in", "apple", number=1, text="Ёлка «А»")
    TuxPaint("ru", valid_share=0, test_share=0).prepare(tmp_path / "in", tmp_path / "out")
    (pair,) = read_pairs(tmp_path / "out/train.pairs.tsv")
    assert (pair.audio_id, pair.image_id, pair.speaker, pair.text) == (
        "speech/apple.flac",
        "apple",
        "ru",
        "Ёлка «А»",
    )
    assert ManifestFolder(tmp_path / "out").splits() == ["train"]


def test_result_does_not_depend_on_jobs_or_place(tmp_path: Path) -> None:
    make_stamps(tmp_path / "in")
    for name, jobs in (("one", 1), ("other", 3)):
        CONFIG.prepare(tmp_path / "in", tmp_path / name, options=BuildOptions(jobs=jobs, relative_root=True))
    assert folder_content(tmp_path / "one") == folder_content(tmp_path / "other")
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert check_folder(tmp_path / "moved") == []


@pytest.mark.parametrize("shared", ["recording", "english", "text", "picture"])
def test_what_is_shared_makes_a_group_of_one_split(tmp_path: Path, shared: str) -> None:
    folder = make_stamps(tmp_path / "in", 20)
    for number in range(10):
        first, second = (
            folder / f"{('animals', 'food/fruit')[n % 2]}/thing_{n:02d}" for n in (number, number + 10)
        )
        if shared == "recording":
            shutil.copy(f"{first}_desc_ru.ogg", f"{second}_desc_ru.ogg")
        elif shared == "picture":
            shutil.copy(f"{first}.png", f"{second}.png")
        else:
            english = f"thing NUMBER {number}" if shared == "english" else f"Other {number + 10}"
            text = f"предмет {number}!" if shared == "text" else f"Иное {number + 10}"
            write_stamp(
                folder, str(second.relative_to(folder)), number=number + 10, english=english, text=text
            )
    summary = CONFIG.prepare(folder, tmp_path / "out")
    assert (summary["pictures"], summary["groups"]) == (20, 10)
    assert check_folder(tmp_path / "out") == []
    groups = groups_by_split(tmp_path / "out")
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 10
    images = read_images(tmp_path / "out/images.tsv").rows
    assert all(row.group.endswith(f"thing_{int(row.image_id[-2:]) % 10:02d}") for row in images)


def test_everything_left_out_is_in_the_summary(tmp_path: Path) -> None:
    folder = make_stamps(tmp_path / "in", 4)
    write_stamp(folder, "long", number=10, samples=tone(300, seconds=3))
    write_stamp(folder, "short", number=11, samples=tone(300, seconds=0.05))
    write_stamp(folder, "silent", number=12, samples=np.zeros(RATE))
    write_stamp(folder, "broken", number=13)
    (folder / "broken_desc_ru.ogg").write_bytes(b"OggS nonsense")
    write_stamp(folder, "torn", number=14)
    (folder / "torn.png").write_bytes(b"\x89PNG")
    write_stamp(folder, "white", number=15)
    Image.new("RGB", (9, 9), (255, 255, 255)).save(folder / "white.png")
    write_picture(folder / "mute.png", seed=16)
    summary = CONFIG.prepare(folder, tmp_path / "out")
    assert {reason: value["items"] for reason, value in summary["excluded"].items()} == {
        "speech longer than 2.5 s": ["long"],
        "speech shorter than 0.1 s": ["short"],
        "silent speech": ["silent"],
        "unreadable speech": ["broken"],
        "unreadable picture": ["torn"],
        "picture invisible on white": ["white"],
        "no speech in this language": ["mute"],
    }
    left_out = {"long", "short", "silent", "broken", "torn", "white", "mute"}
    assert not left_out & {path.stem for path in (tmp_path / "out").rglob("*.*")}
    assert check_folder(tmp_path / "out") == []


def test_zero_takes_any_length(tmp_path: Path) -> None:
    write_stamp(tmp_path / "in", "long", number=10, samples=tone(300, seconds=3))
    config = TuxPaint("ru", max_seconds=0, valid_share=0, test_share=0)
    assert config.prepare(tmp_path / "in", tmp_path / "out")["pictures"] == 1


def test_missing_caption_line_is_kept_without_text_and_counted(tmp_path: Path) -> None:
    folder = make_stamps(tmp_path / "in", 4)
    for name in ("animals/thing_00", "food/fruit/thing_01"):
        (folder / f"{name}.txt").write_text(f"The {name}\n")
    summary = CONFIG.prepare(folder, tmp_path / "out")
    assert summary["without_text"] == ["animals/thing_00", "food/fruit/thing_01"]
    # an empty text is no text in common
    assert summary["groups"] == 4
    assert check_folder(tmp_path / "out") == []


def test_clipped_recordings_are_counted_and_kept(tmp_path: Path) -> None:
    folder = make_stamps(tmp_path / "in", 3)
    write_stamp(folder, "loud", number=9, samples=np.sign(tone(300)))
    summary = CONFIG.prepare(folder, tmp_path / "out")
    assert (summary["pictures"], summary["clipped_recordings"]) == (4, 1)


def test_without_the_svg_renderer_drawings_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_stamps(tmp_path / "in", 3)
    (folder / "animals/thing_00.png").rename(folder / "animals/thing_00.svg")
    monkeypatch.setattr(cut_out, "can_render_svg", lambda: False)
    summary = CONFIG.prepare(folder, tmp_path / "out")
    assert summary["excluded"]["SVG drawing, and rsvg-convert is not installed"]["count"] == 1


def test_nothing_usable_is_an_error_that_says_why(tmp_path: Path) -> None:
    write_stamp(tmp_path / "in", "silent", number=1, samples=np.zeros(RATE))
    with raises_fault("picture.missing") as caught:
        CONFIG.prepare(tmp_path / "in", tmp_path / "out")
    assert "1: silent speech" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    make_stamps(tmp_path / "in", 6)

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CONFIG.prepare(tmp_path / "in", tmp_path / "out", progress=interrupt, options=BuildOptions(jobs=2))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"valid_share": -0.1}, "--valid-share"),
        ({"valid_share": 0.5, "test_share": 0.5}, "--valid-share"),
        ({"max_seconds": -1}, "--max-seconds"),
        ({"picture_size": 0}, "--picture-size"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], option: str) -> None:
    with pytest.raises(FaultError, match=option):
        TuxPaint("ru", **settings)


@pytest.mark.parametrize("is_linked", [False, True])
def test_force_deletes_no_stamps_inside_the_output(tmp_path: Path, is_linked: bool) -> None:
    make_stamps(tmp_path / "in", 4)
    output = tmp_path / "out"
    TuxPaint("ru").prepare(tmp_path / "in", output)
    (tmp_path / "in").rename(output / "in")
    stamps = output / "in"
    if is_linked:
        stamps = tmp_path / "in"
        for path in [path for path in (output / "in").rglob("*") if path.is_file()]:
            link = stamps / path.relative_to(output / "in")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    before = folder_content(output)
    with raises_fault("output.is_input", "out"):
        TuxPaint("ru").prepare(stamps, output, options=BuildOptions(force=True))
    assert folder_content(output) == before
