from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faults import raises_fault

from fairseq_vgs.files.faults import Fault, FaultError, raise_any
from fairseq_vgs.files.user_tables import TableRow, read_table

COLUMNS = {"audio": "audio", "image": "Bild", "text": "text"}
ROWS = [
    {"audio": "a b.wav", "image": "1.png", "text": 'say "ё", twice'},
    {"audio": "c.wav", "image": "2.png", "text": ""},
]


def read_rows(path: Path) -> list[TableRow]:
    faults: list[Fault] = []
    rows = read_table(path, COLUMNS, required=("audio", "image"), faults=faults)
    raise_any(faults)
    return rows


def read(folder: Path, name: str, content: str | bytes) -> list[dict[str, str]]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [dict(row.fields) for row in read_rows(path)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'audio,Bild,text\na b.wav,1.png,"say ""ё"", twice"\nc.wav,2.png,\n'),
        ("t.CSV", '\ufeffaudio;x;Bild;text\r\na b.wav;;1.png;"say ""ё"", twice"\r\nc.wav;9; 2.png ;\r\n'),
        (
            "t.csv",
            'sep=;\r\nAUDIO;BILD ;Text\r\na b.wav;1.png;"say ""ё"", twice"\r\nc.wav;2.png;\r\n;;\r\n;;\r\n',
        ),
        ("t.csv", 'text\tBild\taudio\r"say ""ё"", twice"\t1.png\ta b.wav\r\t2.png\tc.wav\r'),
        (
            "t.csv",
            '"audio", "B;x", "Bild", "text"\na b.wav, , "1.png", "say ""ё"", twice"\nc.wav,,2.png,\n,,,,,\n',
        ),
        ("t.csv", 'audio,bild,text,Bild\na b.wav,?,"say ""ё"", twice",1.png\nc.wav,?,,2.png\n'),
        (
            "t.txt",
            'Audio\tBILD\ttext\r\na b.wav\t1.png\tsay "ё", twice\r\nc.wav\t2.png\t\r\n\t\t\r\n'.encode(
                "utf-16"
            ),
        ),
        ("t.tsv", 'Audio\tBILD\ttext\ra b.wav\t1.png\tsay "ё", twice\rc.wav\t2.png\t\r'),
        ("t.tsv", 'text\tBild\taudio\tmore\nsay "ё", twice\t1.png\ta b.wav\t\n\t2.png\tc.wav\tx'),
        (
            "t.jsonl",
            '{"audio": "a b.wav", "Bild": "1.png", "text": "say \\"ё\\", twice", "unknown": [1]}\n\n'  # noqa: ISC004
            '{"audio": "c.wav", "Bild": "2.png", "text": ""}',
        ),
    ],
)
def test_every_kind_gives_the_same_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(tmp_path, name, content) == ROWS


def test_rows_know_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('audio,Bild,text\na,1,"two\nlines"\n\nb,2,\n')
    places = [row.place for row in read_table(path, COLUMNS, required=("audio",), faults=[])]
    assert places == ["t.csv:3", "t.csv:5"]


def test_numbers_are_text_in_json(tmp_path: Path) -> None:
    rows = read(tmp_path, "t.jsonl", '{"audio": "a", "Bild": "1", "text": 17}\n')
    assert rows[0]["text"] == "17"


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("t.csv", "audio,text\na,b\n", ["t.csv:1: header must have a column 'Bild', got 'audio, text'"]),
        ("t.csv", "audio,Bild,Bild\n", ["t.csv:1: header has the column 'Bild' more than once"]),
        ("t.csv", "audio,Bild\na\nb,1\nc,1,2\n", ["t.csv:2: line must have", "t.csv:4: line must have"]),
        ("t.csv", 'audio,Bild\na,"1\n', ["t.csv:2: must be CSV"]),
        ("t.csv", "audio,Bild\n", ["t.csv: must list at least one recording"]),
        ("t.csv", "", ["t.csv:1: header must", "t.csv:1: header must"]),
        ("t.csv", b"audio,Bild\nx,1\n\xff,2\n", ["t.csv:3: must be UTF-8 text"]),
        ("t.xlsx", "", ["table must end in .csv, .tsv, .txt, .jsonl"]),
        ("t.csv", b"PK\x03\x04\xff", ["t.csv: must be text, got a workbook; save it as CSV UTF-8"]),
        ("t.tsv", "audio,Bild\n", ["call the table .csv", "call the table .csv"]),
        ("t.csv", "audio,BILD,bild\n", ["t.csv:1: header has the column 'Bild' more than once"]),
        ("t.csv", "sep=;\naudio;text\na;b\n", ["t.csv:2: header must have a column 'Bild'"]),
        (
            "t.csv",
            "audio,Bild\na\n",
            ["t.csv:2: line must have the header's 2 fields, got 1; correct the line (some"],
        ),
        (
            "t.csv",
            "audio,Bild,text\nä.wav,1.png,\nb,2\nc.wav,3.png,Müller\n".encode("cp1252"),
            [
                "t.csv:2: must be UTF-8 text (2 lines are not), got b'\\xe4.wav,1.png,'; save it as",
                "t.csv:3: line must have",
            ],
        ),
        ("t.txt", b"\xff\xfea\0\0", ["t.txt: must be whole UTF-16"]),
        (
            "t.jsonl",
            '{"audio": "a"}\n[1]\n{"audio"\n{"audio": ["a"], "Bild": "1"}\n',
            [
                "t.jsonl:1: object must have 'Bild'",
                "t.jsonl:2: line must be a JSON object",
                "t.jsonl:3: line must be JSON",
                "t.jsonl:4: 'audio' must be text",
            ],
        ),
    ],
)
def test_all_faults_are_listed(tmp_path: Path, name: str, content: str | bytes, lines: list[str]) -> None:
    with pytest.raises(FaultError) as caught:
        read(tmp_path, name, content)
    found = str(caught.value).splitlines()
    assert len(found) == len(lines)
    for line, expected in zip(found, lines, strict=True):
        assert expected in line


def test_the_remedy_for_windows_text_shows_what_it_would_be(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("audio,Bild\nä.wav,1.png\n".encode("cp1252"))
    with raises_fault("file.encoding", "t.csv:2") as caught:
        read_rows(tmp_path / "t.csv")
    assert "iconv -f CP1252 -t UTF-8) if 'ä.wav,1.png' is right" in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with raises_fault("file.unreadable", "none.csv"):
        read_table(tmp_path / "none.csv", COLUMNS, required=(), faults=[])


MARKS = [b",", b";", b"\t", b'"', b"\n", b"\r", b"\0", b"\xe4", b"\xff\xfe", b"\xef\xbb\xbf", b"PK\x03\x04"]
WORDS = [b"audio", b"Bild", b"sep=", b"{", b"[" * 2000, "\u0308".encode(), b'{"audio": "a", "Bild": 1}\n']
HEADERS = [b"audio,Bild\n", b"AUDIO;BILD\n", b"audio\tBild\n"]
PIECES = st.lists(st.sampled_from([*MARKS, *WORDS, *HEADERS]), max_size=12)


@given(st.sampled_from(["t.csv", "t.tsv", "t.txt", "t.jsonl"]), PIECES)
def test_any_bytes_are_rows_of_text_or_faults(
    tmp_path_factory: pytest.TempPathFactory, name: str, pieces: list[bytes]
) -> None:
    path, faults = tmp_path_factory.getbasetemp() / name, list[Fault]()
    path.write_bytes(b"".join(pieces))
    try:
        rows = read_table(path, COLUMNS, required=("audio", "image"), faults=faults)
    except FaultError:
        return
    assert rows or faults
    for row in rows:
        assert row.fields.keys() <= COLUMNS.keys()
        "".join(row.fields.values()).encode()
