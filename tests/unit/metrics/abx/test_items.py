"""Item files: what is read, and every faulty line named."""

from decimal import Decimal

import pytest
from support.faults import raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.metrics.abx import AbxItem, read_items

HEADER = "#file onset offset #phone prev-phone next-phone speaker"


def _write(folder, *lines, header=HEADER):
    path = folder / "some.item"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_reads_exact_times(tmp_path):
    items = read_items(_write(tmp_path, "ru_1 0.342 0.4720 ay k rr nsh", "ru_1  0\t1e-1 ж # # s"))
    assert items == (
        AbxItem("ru_1", Decimal("0.342"), Decimal("0.472"), "ay", "k", "rr", "nsh"),
        AbxItem("ru_1", Decimal(0), Decimal("0.1"), "ж", "#", "#", "s"),
    )


def test_columns_in_another_order(tmp_path):
    header = "#phone speaker #file onset offset prev-phone next-phone"
    assert read_items(_write(tmp_path, "a s f 1 2 p n", header=header)) == (
        AbxItem("f", Decimal(1), Decimal(2), "a", "p", "n", "s"),
    )


def test_every_faulty_line_is_named(tmp_path):
    path = _write(
        tmp_path,
        "f 0 1 a p n s",
        "f 0 1 a p n",
        "f -1 1 a p n s",
        "f 0 nan a p n s",
        "f 2 1 a p n s",
        "f 0.0 1.00 a p n s",
        "",
        "f 0 1_0 a p n s",
    )
    with pytest.raises(FaultError) as caught:
        read_items(path)
    assert [fault.place for fault in caught.value.faults] == [f"some.item:{n}" for n in (3, 4, 5, 6, 7, 8, 9)]
    assert "offset must not be before onset, got '2 1'" in str(caught.value)
    assert "only once in the file" not in str(caught.value)
    assert "(first in line 2)" in str(caught.value)


def test_a_token_of_no_duration_is_read(tmp_path):
    assert len(read_items(_write(tmp_path, "f 1 1 a p n s"))) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "header must be"),
        ("file onset offset phone\nf 0 1 a\n", "header must be"),
        (HEADER + "\n", "must hold tokens"),
    ],
)
def test_no_item_file(tmp_path, text, expected):
    path = tmp_path / "some.item"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FaultError, match=expected):
        read_items(path)


def test_missing_and_binary_files(tmp_path):
    with raises_fault("file.missing", "none.item"):
        read_items(tmp_path / "none.item")
    (tmp_path / "binary.item").write_bytes(b"x\n\xff\xfe\x00")
    with raises_fault("file.encoding", "binary.item:2"):
        read_items(tmp_path / "binary.item")
