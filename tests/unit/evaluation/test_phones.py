"""Alignments and item files of folders of recordings: what belongs together, and what is said of the rest."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import soundfile
from support.faults import raises_fault
from support.tiny_folder import noise

from fairseq_vgs.evaluation.phones import Aligned, Phones, item_file, open_phones
from fairseq_vgs.files.faults import FaultError

LABELS = ("sil", "AH0", "b", "AH1", "sil")


def write_grid(path: Path, *, tier: str = "phones", seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [seconds * number / len(LABELS) for number in range(len(LABELS) + 1)]
    rows = [
        f'{start:.3f} {end:.3f} "{label}"'
        for start, end, label in zip(times[:-1], times[1:], LABELS, strict=True)
    ]
    head = (
        f'"ooTextFile"\n"TextGrid"\n0 {seconds} <exists> 1 "IntervalTier" "{tier}" 0 {seconds} {len(rows)}\n'
    )
    path.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


def write_sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(22_050, seed=0), 44_100)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    for name in ("anna b/1.flac", "bob/1.wav", "bob/2.wav", "bob/100% 3.wav"):
        write_sound(tmp_path / "audio" / name)
    return tmp_path / "audio"


@pytest.fixture
def grids(tmp_path: Path) -> Path:
    for name in ("anna b/1", "bob/1", "bob/100% 3", "bob/9", "eve/2"):
        write_grid(tmp_path / "grids" / f"{name}.TextGrid")
    return tmp_path / "grids"


def opened(audio: Path, grids: Path, **settings: str | bool) -> Phones:
    return open_phones(audio, "test", Aligned(grids, **settings))  # type: ignore[arg-type]


def test_alignments_are_matched_by_path(audio: Path, grids: Path) -> None:
    found = opened(audio, grids)
    assert list(found.recordings) == ["anna b/1", "bob/1", "bob/100% 3"]
    spoken = {(item.file, item.speaker, item.phone, item.onset, item.offset) for item in found.items}
    times = Decimal("0.1"), Decimal("0.4")
    assert spoken == {
        ("anna b/1", "anna b", "b", *times),
        ("bob/1", "bob", "b", *times),
        ("bob/100% 3", "bob", "b", *times),
    }
    # neither is eve/2 that of bob/2
    assert found.notes == (
        "1 of 4 recordings have no alignment and are left out: bob/2",
        "2 of 5 alignments have no recording and are left out: bob/9, eve/2",
    )
    assert found.text.count("\n") == 4 and "anna%20b/1 0.1 0.4 b AH0 AH1 anna%20b" in found.text


def test_one_path_may_be_the_end_of_the_other(tmp_path: Path) -> None:
    write_sound(tmp_path / "flat/x.wav")
    write_grid(tmp_path / "deep/speaker/x.TextGrid")
    assert list(opened(tmp_path / "flat", tmp_path / "deep").recordings) == ["x"]
    write_sound(tmp_path / "nested/anna/y.wav")
    write_grid(tmp_path / "short/y.TextGrid")
    (only,) = opened(tmp_path / "nested", tmp_path / "short").items
    assert (only.file, only.speaker) == ("anna/y", "anna")
    (only,) = opened(tmp_path / "flat", tmp_path / "deep").items
    assert only.speaker == "flat"


def test_settings(audio: Path, tmp_path: Path) -> None:
    write_sound(audio / "top-1.wav")
    write_grid(tmp_path / "words/top-1.TextGrid", tier="mine")
    with raises_fault("alignment.tier"):
        opened(audio, tmp_path / "words")
    settings = {"tier": "mine", "unit": "phoneme", "strip_stress": True, "speaker_before": "-"}
    found = opened(audio, tmp_path / "words", **settings)
    phones = [(item.phone, item.speaker, item.previous_phone) for item in found.items]
    assert phones == [("AH", "top", "SIL"), ("b", "top", "AH"), ("AH", "top", "b")]
    with raises_fault("alignment.speaker"):
        opened(audio, tmp_path / "words", **{**settings, "speaker_before": "#"})


def test_what_does_not_fit_is_refused(audio: Path, grids: Path, tmp_path: Path) -> None:
    write_grid(tmp_path / "other/zoe.TextGrid")
    with raises_fault("recording.name", "other"):
        opened(audio, tmp_path / "other")
    write_grid(tmp_path / "short/1.TextGrid")
    with raises_fault("recording.ambiguous", "1.TextGrid"):
        opened(audio, tmp_path / "short")
    write_grid(grids / "bob/1.TextGrid", seconds=5)
    with raises_fault("item.length", "bob/1.TextGrid"):
        opened(audio, grids)
    write_sound(tmp_path / "flat/1.wav")
    with raises_fault("recording.duplicate", "bob/1.TextGrid"):
        opened(tmp_path / "flat", grids)
    with raises_fault("file.missing", "nowhere"):
        opened(audio, tmp_path / "nowhere")
    for place in (tmp_path / "nowhere", tmp_path / "flat/1.wav"):
        with raises_fault("file.missing", place.name):
            opened(place, grids)
    with raises_fault("folder.empty"):
        opened(audio, audio / "bob")


def test_item_files_in_the_folder_or_anywhere(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.item").write_text("here")
    assert item_file(audio, "mine.item") == Path("mine.item")
    (audio / "mine.item").write_text("inside")
    assert item_file(audio, "mine.item") == audio / "mine.item" == item_file(audio, None)
    (audio / "mine.item").unlink()
    for place, code in ((audio, "file.ambiguous"), (Path("nowhere"), "file.missing")):
        with pytest.raises(FaultError) as caught:
            item_file(place, None)
        assert caught.value.codes == (code,)
