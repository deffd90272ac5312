from __future__ import annotations

from pathlib import Path

import pytest
from support.faults import raises_fault
from support.tiny_stamps import make_stamps, write_stamp

from fairseq_vgs.prepare.build.split import caption_key
from fairseq_vgs.prepare.corpora.tuxpaint import find_stamps_folder, read_captions, scan_stamps


def scan(folder: Path, language: str = "ru", *, include_symbols: bool = False, svg: bool = True):
    return scan_stamps(folder, language, include_symbols=include_symbols, svg=svg)


def test_finds_pictures_speech_and_captions(tmp_path: Path) -> None:
    write_stamp(tmp_path, "food/fruit/apple", number=1, english="An apple.", text="Яблоко.")
    (stamp,), exclusions = scan(tmp_path)
    assert stamp.stamp_id == "food/fruit/apple"
    assert stamp.picture == tmp_path / "food/fruit/apple.png"
    assert stamp.speech == tmp_path / "food/fruit/apple_desc_ru.ogg"
    assert (stamp.english, stamp.text) == ("An apple.", "Яблоко.")
    assert exclusions.by_reason == {}


def test_english_speech_has_no_language_in_its_name(tmp_path: Path) -> None:
    write_stamp(tmp_path, "apple", number=1, english="An apple.", language="en")
    (stamp,), _ = scan(tmp_path, "en")
    assert stamp.speech.name == "apple_desc.ogg"
    assert stamp.text == "An apple."


def test_package_root_and_stamps_folder_are_the_same(tmp_path: Path) -> None:
    inner = make_stamps(tmp_path / "usr/share/tuxpaint/stamps", 1)
    assert find_stamps_folder(tmp_path) == inner
    assert find_stamps_folder(inner) == inner


@pytest.mark.parametrize("name", ["none", "."])
def test_a_folder_without_pictures_is_refused(tmp_path: Path, name: str) -> None:
    with raises_fault("corpus.folder"):
        find_stamps_folder(tmp_path / name)


@pytest.mark.parametrize("language", ["../ru", "RU", "", "ru;x", "russian"])
def test_malformed_languages_are_refused(tmp_path: Path, language: str) -> None:
    make_stamps(tmp_path, 1)
    with raises_fault("setting.value", "--language"):
        scan(tmp_path, language)


def test_a_language_without_speech_is_refused(tmp_path: Path) -> None:
    make_stamps(tmp_path, 1)
    write_stamp(tmp_path, "english", number=1, language="en")
    with raises_fault("recording.missing") as caught:
        scan(tmp_path, "fr")
    assert "NAME_desc_fr.ogg" in str(caught.value)
    assert "(there: en, ru)" in str(caught.value)


def test_everything_left_out_has_a_reason(tmp_path: Path) -> None:
    make_stamps(tmp_path, 1)
    write_stamp(tmp_path, "symbols/letter", number=2)
    write_stamp(tmp_path, "mute", number=3)
    (tmp_path / "mute_desc_ru.ogg").unlink()
    write_stamp(tmp_path, "nameless", number=4)
    (tmp_path / "nameless.txt").unlink()
    write_stamp(tmp_path, "latin", number=5)
    (tmp_path / "latin.txt").write_bytes("Caf\xe9.\n".encode("latin-1"))
    write_stamp(tmp_path, "blank", number=6, english=" . ")
    write_stamp(tmp_path, "unseen", number=7)
    (tmp_path / "unseen.png").unlink()
    write_stamp(tmp_path, "drawing", number=8)
    (tmp_path / "drawing.png").rename(tmp_path / "drawing.svg")
    stamps, exclusions = scan(tmp_path, svg=False)
    assert [stamp.stamp_id for stamp in stamps] == ["animals/thing_00"]
    found = {reason.split(" (")[0]: items for reason, items in exclusions.by_reason.items()}
    assert found == {
        "symbol": ["symbols/letter"],
        "no speech in this language": ["mute"],
        "no caption file": ["nameless"],
        "caption file is not UTF-8": ["latin"],
        "no English caption": ["blank"],
        "speech without a picture": ["unseen_desc_ru.ogg"],
        "SVG drawing, and rsvg-convert is not installed": ["drawing"],
    }
    summary = exclusions.summary()
    assert summary["no caption file"] == {"count": 1, "items": ["nameless"]}


def test_png_is_preferred_to_svg_and_symbols_on_request(tmp_path: Path) -> None:
    write_stamp(tmp_path, "symbols/letter", number=2)
    (tmp_path / "symbols/letter.svg").write_text("<svg/>")
    (stamp,), _ = scan(tmp_path, include_symbols=True, svg=False)
    assert stamp.picture.suffix == ".png"


def test_missing_caption_line_leaves_the_text_empty(tmp_path: Path) -> None:
    write_stamp(tmp_path, "apple", number=1)
    (tmp_path / "apple.txt").write_text("An apple.\nde.utf8=Ein Apfel.\n", encoding="utf-8")
    (stamp,), _ = scan(tmp_path)
    assert stamp.text == ""


def test_captions_of_odd_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(
        b"\xef\xbb\xbfAn apple.\r\n\r\nru.utf8= \xd0\xaf=\xd0\xb1 \r\nnonsense\r\npt_BR.utf8=Ma\xc3\xa7a\r\n"
    )
    assert read_captions(path) == {"en": "An apple.", "ru": "Я=б", "pt_BR": "Maça"}
    path.write_text("")
    assert read_captions(path) == {"en": ""}


def test_names_with_dots_and_unicode(tmp_path: Path) -> None:
    write_stamp(tmp_path, "еда/v1.5 яблоко", number=1)
    (stamp,), _ = scan(tmp_path)
    assert stamp.stamp_id == "еда/v1.5 яблоко"


def test_caption_key_ignores_case_punctuation_and_spaces() -> None:
    assert caption_key("  A  Big-Dog! ") == caption_key("a big dog.")
    assert caption_key("Ёж") != caption_key("Еж")
    assert caption_key("...") == ""
