"""Damaged TextGrids and other alignments, through ``prepare items`` and the ABX test that reads its items."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from support.mutate import Draws, Kind, agree, attempt, mutate_bytes
from support.mutate_tables import has_lines, mutate_text

from fairseq_vgs.alignments.items import PHONEME, TRIPHONE, Speakers, make_items, prepare_items, seconds
from fairseq_vgs.alignments.read import read_alignments
from fairseq_vgs.alignments.textgrid import read_tiers
from fairseq_vgs.metrics.abx.items import read_items

PHONES = (
    (0, "0.1", ""), ("0.1", "0.25", "p"), ("0.25", "0.30000000000000004", "a"), ("0.3", "0.45", "t"),
    ("0.45", "0.6", "sil"), ("0.6", "0.8", "ɔ"), ("0.8", "0.95", "AH0"), ("0.95", "1.2", '""'),
    ("1.2", "1.5", ""),
)  # fmt: skip
WORDS = (("0", "0.45", "pat"), ("0.45", "1.5", "a word"))
NUMBERS = (
    "1e999999999", "1e30", "1E-30", "-1", "-0", "0.0", "1e400", "9" * 40, "0." + "1" * 60, "1_0", "٣", "nan",
    "inf", ".5", "5.", "+1", "1e", "0x10", '"', "<exists>", "!", "--undefined--",
)  # fmt: skip


def kind() -> Kind:
    """Return the kind with TextGrids in both forms and encodings, and other aligners' files."""
    files = {
        "long.TextGrid": long_form().encode(),
        "short.TextGrid": short_form().encode(),
        "utf16.TextGrid": long_form().encode("utf-16"),
        "crlf.TextGrid": short_form().replace("\n", "\r\n").encode("utf-8-sig"),
        "a.lab": b"separator ;\nnfields 1\n#\n    0.10 26 pau ; stress 0\n 0.2 26 p\n 0.3 26 a\n 0.4 26 t\n",
        "a.flite": b"pau:0.2 hh:0.245 ah:0.3 l:0.4 ow:0.5 pau:0.6\n",
        "a.alignment.txt": b'1-2-0000 ",GO,ON," "0.49,0.89,1.27,1.5"\n1-2-0001 ",A,B," "0.1,0.2,0.3,0.4"\n',
        "a.tsv": b"audio_id\tonset\toffset\tphone\n" + b"".join(
            f"x\t{start}\t{end}\t{label}\n".encode() for start, end, label in PHONES
        ),
    }  # fmt: skip

    def mutate(name: str, content: bytes, draws: Draws) -> bytes:
        choice = draws.integers(3)
        if choice == 0:
            return mutate_bytes(content, draws)
        return mutate_text(name, content, draws) if choice == 1 else _other_number(name, content, draws)

    # two of three inputs are TextGrids
    return Kind(
        {**{f"{name} {n}": files[name] for name in list(files)[:4] for n in (1, 2)}, **files}, mutate, read
    )


def long_form() -> str:
    """Return a TextGrid with a tier of words, one of points and one of phones, as Praat writes it."""
    tiers = []
    for number, (name, rows) in enumerate((("words", WORDS), ("phones", PHONES)), start=1):
        lines = [
            f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"',
            "        xmin = 0", "        xmax = 1.5", f"        intervals: size = {len(rows)}",
        ]  # fmt: skip
        for index, (start, end, label) in enumerate(rows, start=1):
            lines += [
                f"        intervals [{index}]:", f"            xmin = {start}", f"            xmax = {end}",
                f'            text = "{label}"',
            ]  # fmt: skip
        tiers += lines
    points = [
        "    item [3]:", '        class = "TextTier"', '        name = "tones"', "        xmin = 0",
        "        xmax = 1.5", "        points: size = 1", "        points [1]:", "            number = 0.5",
        '            mark = "H*"',
    ]  # fmt: skip
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 1.5"]
    return "\n".join([*head, "tiers? <exists>", "size = 3", "item []:", *tiers, *points]) + "\n"


def short_form() -> str:
    """Return the same phones in Praat's short form."""
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "1.5", "<exists>", "1"]
    rows = [f'{start}\n{end}\n"{label}"' for start, end, label in PHONES]
    return "\n".join([*head, '"IntervalTier"', '"phones"', "0", "1.5", str(len(rows)), *rows]) + "\n"


def _other_number(name: str, content: bytes, draws: Draws) -> bytes:
    """Replace a number or a word by an odd one."""
    coding = "utf-16" if name.startswith("utf16") else "utf-8"
    words = content.decode(coding).split(" " if "long" in name or "utf16" in name else "\n")
    at = int(draws.integers(len(words)))
    odd = NUMBERS[draws.integers(len(NUMBERS))]
    lines = words[at].split("\n")
    lines[draws.integers(len(lines))] = odd
    words[at] = "\n".join(lines)
    return (" " if "long" in name or "utf16" in name else "\n").join(words).encode(coding)


def read(name: str, content: bytes, folder: Path) -> str:
    """Items that are made of an alignment must be those that ABX reads."""
    path = folder / name.partition(" ")[0]
    path.write_bytes(content)
    alignments, error = attempt(read_alignments, [path])
    if error is not None:
        if error.codes[0] not in ("alignment.tier", "alignment.empty") and not error.faults[
            0
        ].code.startswith("file"):
            has_lines_or_end(error)
        raise error
    if path.suffix == ".TextGrid":
        tiers = [rows for tier, rows in read_tiers(path) if tier == "phones"]
        agree("tiers", holds=alignments[0].phones in tiers)
    speakers, made = Speakers(everyone="s1"), 0
    for unit in (TRIPHONE, PHONEME):
        items, error = attempt(make_items, alignments, speakers, unit=unit)
        if error is not None:
            agree("items", holds=error.codes[0] in ("item.missing", "alignment.speaker"), codes=error.codes)
            continue
        output = folder / "made.item"
        attempt(prepare_items, [path], output, speakers=speakers, unit=unit, force=True)
        found, error = attempt(read_items, output)
        agree("ABX refuses what prepare wrote", holds=error is None, error=error)
        times = [tuple(line.split()[1:3]) for line in items.lines]
        agree("ABX reads other items", holds=len(found) == len(items.lines))
        same = all(
            (Decimal(onset), Decimal(offset)) == (item.onset, item.offset)
            for item, (onset, offset) in zip(found, times, strict=True)
        )
        agree("ABX reads other times", holds=same)
        exact = {
            seconds(time) for one in alignments for row in one.phones for time in (row.onset, row.offset)
        }
        agree("times are not as written", holds=all(one in exact for pair in times for one in pair))
        made += 1
    return "items" if made else "no items"


def has_lines_or_end(error: object) -> None:
    """Name a line, or say that the file ends early."""
    if "the file's end" not in str(error):
        has_lines(error)
