from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from support.faults import raises_fault

from fairseq_vgs.alignments.items import (
    Speakers,
    make_items,
    prepare_items,
    read_speakers,
    seconds,
    write_items,
)
from fairseq_vgs.alignments.read import Alignment, Phone
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.metrics.abx import read_items

ABX = Path(__file__).parents[3] / "manifests" / "embedded" / "abx"


def align(*phones: str) -> list[Alignment]:
    """One recording ``u`` of phones written ``onset-offset:label``."""
    rows = []
    for line, text in enumerate(phones, start=1):
        times, _, label = text.partition(":")
        onset, _, offset = times.partition("-")
        rows.append(Phone(Decimal(onset), Decimal(offset), label, line))
    return [Alignment("u", "u.lab", tuple(rows))]


ANNA = Speakers(everyone="anna")


def test_the_embedded_items_come_from_the_embedded_alignments(tmp_path: Path) -> None:
    speakers = read_speakers(ABX / "utterances.tsv")
    summary = prepare_items([ABX / "alignments.tsv"], tmp_path / "a.item", speakers=speakers)
    assert (tmp_path / "a.item").read_bytes() == (ABX / "triphone.item").read_bytes()
    assert (summary["recordings"], summary["items"], summary["faulty"]) == (60, 4003, {})
    prepare_items([ABX / "alignments.tsv"], tmp_path / "p.item", speakers=speakers, unit="phoneme")
    middles = {item.offset - item.onset for item in read_items(tmp_path / "p.item")}
    assert len(read_items(tmp_path / "p.item")) == summary["phones"]
    assert min(middles) > 0


def test_triphones_do_not_cross_pauses() -> None:
    phones = align("0-1:k", "1-2:a", "2-3:t", "3-4:SIL", "4-5:o", "5-6:n")
    assert make_items(phones, ANNA).lines == ["u 0 3 a k t anna"]
    crossing = make_items(phones, ANNA, pauses={"a"}).lines
    assert crossing == ["u 2 5 SIL t o anna", "u 3 6 o SIL n anna"]


@pytest.mark.parametrize("noise", [1e-16, 1e-12, 4e-7])
def test_rounding_of_times_is_no_gap_and_no_overlap(noise: float) -> None:
    """Aligners add binary floats: one phone ends at 0.30000000000000004, the next starts at 0.3."""
    phones = [f"{0.1 * i - noise * (i % 2)!r}-{0.1 * (i + 1) + noise!r}:p{i}" for i in range(12)]
    items = make_items(align(*(text.removeprefix("-") for text in phones)), ANNA)
    assert len(items.lines) == 10
    assert not items.left_out


def test_a_gap_of_a_tenth_of_a_millisecond_is_one() -> None:
    items = make_items(align("0-1:k", "1.0001-2:a", "2-3:t", "3-4:o"), ANNA)
    assert (items.lines, sum(items.left_out.values())) == (["u 1.0001 4 t a o anna"], 1)


def test_phonemes_have_silence_beside_pauses() -> None:
    phones = align("0-1:k", "1-2.50:a", "2.5-3:pau", "3-4:o")
    assert make_items(phones, ANNA, unit="phoneme").lines == [
        "u 0 1 k SIL a anna",
        "u 1 2.5 a k SIL anna",
        "u 3 4 o SIL SIL anna",
    ]


def test_stress_is_stripped_from_all_three() -> None:
    phones = align("0-1:AH0", "1-2:T", "2-3:AH1", "3-4:7")
    assert make_items(phones, ANNA, strip_stress=True).lines == ["u 0 3 T AH AH anna", "u 1 4 AH T 7 anna"]


@pytest.mark.parametrize(
    ("phones", "reason", "place", "triphones", "phonemes"),
    [
        (("0-1:a", "1-2:b", "2-2:c", "2-3:d", "3-4:e", "4-5:f"), "phone of no duration", "u.lab:3", 3, 1),
        (("0-1:a", "1-2:b", "1.9-3:c", "3-4:d", "4-5:e"), "overlap of two phones", "u.lab:3", 2, 2),
        (("0-1:a", "1-2:b", "2.1-3:c", "3-4:d", "4-5:e"), "gap between two phones", "u.lab:3", 2, 0),
    ],
)
def test_what_is_wrong_is_counted_and_left_out(phones, reason, place, triphones, phonemes) -> None:
    for unit, left_out, all_of_them in (
        ("triphone", triphones, len(phones) - 2),
        ("phoneme", phonemes, len(phones)),
    ):
        items = make_items(align(*phones), ANNA, unit=unit)
        assert dict(items.faulty) == {reason: 1}
        assert items.places == {reason: [place]}
        assert items.left_out[reason] == left_out
        assert len(items.lines) == all_of_them - left_out


def test_a_gap_is_silence_to_phonemes() -> None:
    items = make_items(align("0-1:a", "1.5-2:b"), ANNA, unit="phoneme")
    assert items.lines == ["u 0 1 a SIL SIL anna", "u 1.5 2 b SIL SIL anna"]


def test_pauses_of_no_duration_do_no_harm() -> None:
    items = make_items(align("0-0:", "0-1:a", "1-2:b", "2-3:c", "3-3:pau"), ANNA)
    assert items.lines == ["u 0 3 b a c anna"]
    assert not items.faulty


def test_speakers(tmp_path: Path) -> None:
    named = Alignment("84-121123-0000", "84-121123-0000.TextGrid", (), "anna")
    assert Speakers(separator="-").find(named) == ("84-121123-0000", "84")
    assert Speakers(separator="-").find(Alignment("84", "84.lab", ())) is None
    assert Speakers(folders=True).find(named) == ("84-121123-0000", "anna")
    table = tmp_path / "t.tsv"
    table.write_text("file\tspeaker\tage\nu\tbob\t7\n")
    assert read_speakers(table).find(Alignment("u", "u.lab", ())) == ("u", "bob")
    table.write_text("file\tspeaker\nu\tbob\nu\tanna\nv\n")
    with pytest.raises(FaultError) as caught:
        read_speakers(table)
    assert [item.place for item in caught.value.faults] == ["t.tsv:3", "t.tsv:4"]
    table.write_text("file\tname\nu\tbob\n")
    with raises_fault("table.column", "t.tsv:1"):
        read_speakers(table)


def test_speakers_of_equal_names_in_two_folders(tmp_path: Path) -> None:
    anna, bob = (Alignment(f"{who}/é-1", f"{who}/é-1.lab", (), who) for who in ("anna", "bob"))
    assert Speakers(separator="-").find(anna) == ("anna/é-1", "é")
    assert Speakers(folders=True).find(bob) == ("bob/é-1", "bob")
    table = tmp_path / "t.csv"
    # As the audio list has them, in the other Unicode form.
    rows = (
        "audio_id,file,speaker",
        "r/anna/e\u0301-1.wav,a1,anna",
        "r/bob/e\u0301-1.wav,b1,bob",
        "bob/2.wav,b2,bob",
    )
    table.write_text("\n".join(rows), "utf-8")
    speakers = read_speakers(table)
    assert (speakers.find(anna), speakers.find(bob)) == (("a1", "anna"), ("b1", "bob"))
    assert speakers.find(Alignment("2", "2.lab", ())) == ("b2", "bob")
    # fits two, and is neither
    assert speakers.find(Alignment("é-1", "é-1.lab", ())) is None


def test_blanks_are_explained() -> None:
    phones = align("0-1:a", "1-2:b", "2-3:c")
    (spaced,) = (replace(item, recording="u 1", folder="Anna M") for item in phones)
    with raises_fault("alignment.speaker", "u.lab") as caught:
        make_items([spaced], Speakers(folders=True))
    assert "got 'u 1, Anna M'; give others in a table for --speakers" in str(caught.value)
    assert make_items([spaced], Speakers(table={"in/u 1.wav": ("u1", "anna")})).lines == ["u1 0 3 b a c anna"]


@pytest.mark.parametrize(
    "speakers",
    [Speakers(table={}), Speakers(everyone="a b"), Speakers(separator="-"), Speakers(folders=True)],
)
def test_unknown_speakers_are_named(speakers: Speakers) -> None:
    with raises_fault("alignment.speaker", "u.lab"):
        make_items(align("0-1:a", "1-2:b", "2-3:c"), speakers)


@pytest.mark.parametrize(
    ("time", "text"), [("-0", "0"), ("0.0", "0"), ("1e-05", "0.00001"), ("12.50", "12.5"), ("10", "10")]
)
def test_times_are_plain_digits(time: str, text: str) -> None:
    assert seconds(Decimal(time)) == text


def test_no_items_is_an_error() -> None:
    with raises_fault("item.missing", "alignments"):
        make_items(align("0-1:a", "1-2:b"), ANNA)


def test_an_existing_file_stays(tmp_path: Path) -> None:
    items = make_items(align("0-1:a", "1-2:b", "2-3:c"), ANNA)
    assert write_items(tmp_path / "a.item", items) == 1
    with pytest.raises(FileExistsError):
        write_items(tmp_path / "a.item", items)
