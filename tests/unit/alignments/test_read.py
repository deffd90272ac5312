from __future__ import annotations

from pathlib import Path

import pytest
from support.faults import raises_fault

from fairseq_vgs.alignments.read import Alignment, find_alignments, read_alignments
from fairseq_vgs.files.faults import FaultError

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.9
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.9
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.9
            text = "say ""ah"" 5"
    item [2]:
        class = "TextTier"
        name = "bells"
        xmin = 0
        xmax = 0.9
        points: size = 1
        points [1]:
            number = 0.5
            mark = "ding"
    item [3]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.9
        intervals: size = 2 ! a comment with 7 in it
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.9
            text = "AA1"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.9
<exists>
2
"TextTier"
"bells"
0
0.9
1
0.5
"ding"
"IntervalTier"
"anna - phones"
0
0.9
2
0
0.25
""
0.25
0.9
"AA1"
"""
TABLE = "audio_id\tonset\toffset\tphone\n"


def read(path: Path, content: str | bytes, tier: str | None = None) -> list[Alignment]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_alignments([path], tier=tier)


def rows(alignment: Alignment) -> list[tuple[str, str, str, int]]:
    return [(str(phone.onset), str(phone.offset), phone.label, phone.line) for phone in alignment.phones]


def faults(path: Path, content: str | bytes, tier: str | None = None) -> list[tuple[str, str, str]]:
    """Return place, code and the value found of every fault."""
    with pytest.raises(FaultError) as caught:
        read(path, content, tier)
    return [
        (item.place, item.code, item.message.partition(", got ")[2].partition("; ")[0])
        for item in caught.value.faults
    ]


def test_festvox_labels(tmp_path: Path) -> None:
    text = "separator ;\n#\n0.34200 125 pau\n\n\t1.00000 125 ay ; end 1.0 ;\n"
    (found,) = read(tmp_path / "ru_1.lab", text)
    assert (found.recording, found.source) == ("ru_1", "ru_1.lab")
    assert rows(found) == [("0", "0.34200", "pau", 3), ("0.34200", "1.00000", "ay", 5)]


@pytest.mark.parametrize(
    ("text", "lines"), [(LONG, (35, 39)), (SHORT, (20, 23)), (LONG.replace("\n", "\r\n"), (35, 39))]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_textgrids_of_both_kinds(tmp_path: Path, text: str, lines: tuple[int, int], encoding: str) -> None:
    (found,) = read(tmp_path / "84-1-0000.TextGrid", text.encode(encoding))
    assert found.recording == "84-1-0000"
    assert rows(found) == [("0", "0.25", "", lines[0]), ("0.25", "0.9", "AA1", lines[1])]


def test_a_tier_is_chosen_by_name(tmp_path: Path) -> None:
    text = LONG.replace('say ""ah"" 5', "ah")
    (found,) = read(tmp_path / "a.TextGrid", text, "words")
    assert rows(found) == [("0", "0.9", "ah", 16)]
    missing = ("a.TextGrid", "alignment.tier", "['words', 'phones']")
    assert faults(tmp_path / "a.TextGrid", text, "bells") == [missing]
    twice = text.replace('"words"', '"bob - phones"')
    ambiguous = ("a.TextGrid", "alignment.tier", "['bob - phones', 'phones']")
    assert faults(tmp_path / "a.TextGrid", twice) == [ambiguous]
    quoted = ("a.TextGrid:16", "alignment.label", "'say \"ah\" 5'")
    assert faults(tmp_path / "a.TextGrid", LONG, "words") == [quoted]


@pytest.mark.parametrize(
    ("old", "new", "place", "got"),
    # Words that are no values are skipped: the fault is at what stands where a value should be.
    [
        ('"ooTextFile"', '"ooBinary"', ":1", "'ooBinary'"),
        ("<exists>", "<absent>", ":6", "'<absent>'"),
        ("size = 3", "size = 2.5", ":7", "'2.5'"),
        ("size = 2 !", "size = 3 !", "", '"the file\'s end"'),
        ("size = 2 !", "size = 1 !", ":39", "'0.25'"),
        ("xmax = 0.25", "xmax = x", ":37", "''"),
        ('"TextTier"', '"Pitch"', ":20", "'Pitch'"),
        ('text = "AA1"', "text = AA1", "", '"the file\'s end"'),
        ("xmin = 0.25", "xmin = -0.25", ":39", "'-0.25'"),
        ("xmax = 0.25", "xmax = 1e40", ":36", "'1E+40'"),
        ("size = 2 !", "size = 1e9999 !", ":33", "'1E+9999'"),
        ("size = 2 !", "size = 1e99999999999999999999 !", ":33", "'Infinity'"),
    ],
)
def test_broken_textgrids(tmp_path: Path, old: str, new: str, place: str, got: str) -> None:
    code = "alignment.time" if got == "'-0.25'" else "alignment.syntax"
    found = faults(tmp_path / "a.TextGrid", LONG.replace(old, new))
    assert found == [(f"a.TextGrid{place}", code, got)]


@pytest.mark.parametrize("text", [LONG, SHORT])
def test_textgrids_as_praat_writes_them(tmp_path: Path, text: str) -> None:
    # UTF-16 of either order, line ends of either kind, times of the computer's own precision, labels with
    # quotation marks, phonetic letters and numbers, words over two lines
    for encoding, mark in (("utf-16-be", b"\xfe\xff"), ("utf-16-le", b"\xff\xfe"), ("utf-8", b"")):
        written = text.replace("0.25", "1e-05").replace("AA1", '""ɐ̃ː""').replace("ding", "<1>\n2 ! 3")
        content = mark + written.replace("\n", "\r\n").encode(encoding)
        (found,) = read(tmp_path / f"{encoding}.TextGrid", content)
        assert [row[:3] for row in rows(found)] == [("0", "0.00001", ""), ("0.00001", "0.9", '"ɐ̃ː"')]


def test_times_are_as_fine_as_item_files_hold_them(tmp_path: Path) -> None:
    noisy = LONG.replace("xmin = 0\n", "xmin = -5.684341886080802e-14\n").replace("0.25", "0.2" + "1" * 30)
    (found,) = read(tmp_path / "a.TextGrid", noisy)
    ends = "0.2" + "1" * 17
    assert [row[:3] for row in rows(found)] == [("0", ends, ""), (ends, "0.9", "AA1")]


def test_textgrids_of_unread_kinds_say_how_to_save_them(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    binary = ("a.TextGrid:1", "alignment.syntax", "'ooBinaryFile'")
    assert faults(path, b"ooBinaryFile\x08TextGrid\x00\xf3") == [binary]
    chronological = '"Praat chronological TextGrid text file"\n0 0.9   ! Time domain.\n'
    ((place, code, _),) = faults(path, chronological)
    assert (place, code) == ("a.TextGrid:1", "alignment.syntax")
    ((place, code, _),) = faults(path, LONG.replace("AA1", "ü").encode("latin-1"))
    assert (place, code) == ("a.TextGrid:41", "file.encoding")


def test_flite(tmp_path: Path) -> None:
    (found,) = read(tmp_path / "one.flite", "pau:0.200 hh:0.245 \n")
    assert rows(found) == [("0", "0.200", "pau", 1), ("0.200", "0.245", "hh", 1)]
    assert faults(tmp_path / "one.flite", "pau:0.2 hh ax:\npau:0.1\n") == [
        ("one.flite:1", "alignment.syntax", "'hh'"),
        ("one.flite:1", "alignment.syntax", "'ax:'"),
        ("one.flite:2", "alignment.syntax", "'pau:0.1'"),
    ]


def test_condensed_librispeech(tmp_path: Path) -> None:
    text = '84-1-0000 ",GO,,DO," "0.490,0.890,1.270,1.380,1.380" \n84-1-0001 ",BUT," "0.270,0.420,2"\n'
    first, second = read(tmp_path / "84-1.alignment.txt", text)
    assert (first.recording, second.recording) == ("84-1-0000", "84-1-0001")
    assert rows(first)[1:3] == [("0.490", "0.890", "GO", 1), ("0.890", "1.270", "", 1)]
    assert rows(second)[1] == ("0.270", "0.420", "BUT", 2)
    text = 'a ",GO," "0.1,0.2"\nb GO 0.1\nc ",," "0,1,x"\n'
    assert faults(tmp_path / "b.alignment.txt", text) == [
        ("b.alignment.txt:1", "alignment.syntax", "'0.1,0.2'"),
        ("b.alignment.txt:2", "alignment.syntax", "'b GO 0.1'"),
        ("b.alignment.txt:3", "alignment.syntax", "'0,1,x'"),
    ]


def test_all_faults_of_all_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.lab").write_text("#\n0.5 125 a\n0.4 125 b\n-1 125 c\nx\n")
    (tmp_path / "b.lab").write_text("#\n0.5 125 a\n0.4 125 b\n")
    (tmp_path / "c.lab").write_text("0.5 125 a\n")
    (tmp_path / "d.lab").write_text("#\n")
    (tmp_path / "e.lab").write_bytes(b"#\n0.5 125 \xff\n")
    (tmp_path / "f.tsv").write_text(f"{TABLE}x\t0\t1\ta\nx\t1\ty\nx\t1\t1e3\tb\n")
    with pytest.raises(FaultError) as caught:
        read_alignments(sorted(tmp_path.iterdir()))
    places = [item.place.replace(f"{tmp_path}/", "") for item in caught.value.faults]
    assert places == ["a.lab:4", "a.lab:5", "b.lab:3", "c.lab:1", "d.lab", "e.lab:2", "f.tsv:3", "f.tsv:4"]
    assert caught.value.codes[2] == "alignment.time"
    assert "'0.5 0.4'" in str(caught.value)


def test_a_recording_is_aligned_once(tmp_path: Path) -> None:
    for path in (tmp_path / "a.lab", tmp_path / "a.flite"):
        path.write_text("#\n1 125 a\n" if path.suffix == ".lab" else "a:1")
    with raises_fault("recording.duplicate", "a.lab"):
        read_alignments(find_alignments([tmp_path]))
    line = 'b ",GO," "0.1,0.2,0.3"\n'
    found = faults(tmp_path / "b.alignment.txt", line + line)
    assert found == [("b.alignment.txt:2", "recording.duplicate", "'b'")]


def test_equal_names_in_two_folders_are_two_recordings(tmp_path: Path) -> None:
    for speaker in ("anna", "bob"):
        for name in ("1.lab", "2.lab"):
            path = tmp_path / f"mfa {speaker[0]}/{speaker}/{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#\n1 125 a\n")
    found = read_alignments(find_alignments([tmp_path / "mfa a"]))
    assert [(item.recording, item.folder) for item in found] == [("1", "anna"), ("2", "anna")]
    found = read_alignments(find_alignments([tmp_path / "mfa a/anna/1.lab", tmp_path / "mfa b"]))
    assert [(item.recording, item.source) for item in found] == [
        ("mfa a/anna/1", "mfa a/anna/1.lab"),
        ("mfa b/bob/1", "mfa b/bob/1.lab"),
        ("mfa b/bob/2", "mfa b/bob/2.lab"),
    ]
    (tmp_path / "mfa b/bob/2.lab").write_text("#\nx\n")
    (tmp_path / "mfa b/bob/1.lab").write_text("#\n")
    with pytest.raises(FaultError) as caught:
        read_alignments(find_alignments([tmp_path]))
    assert [item.place for item in caught.value.faults] == ["mfa b/bob/1.lab", "mfa b/bob/2.lab:2"]


def test_sources_must_hold_alignments(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/pairs.tsv").write_text(TABLE)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(FaultError) as caught:
        find_alignments([tmp_path / "empty", tmp_path / "a.txt", tmp_path / "none.lab"])
    assert caught.value.codes == ("folder.empty", "file.suffix", "file.missing")
