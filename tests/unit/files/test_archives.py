from __future__ import annotations

import io
import zipfile

import pytest

from fairseq_vgs.files.archives import build_stored_zip

ENTRIES = [("b/two.ogg", b"second"), ("a.ogg", b""), ("c", bytes(range(256)))]


def test_entries_lie_where_said() -> None:
    content, places = build_stored_zip(ENTRIES)
    assert [(place.name, content[place.offset : place.offset + place.length]) for place in places] == ENTRIES


def test_is_a_zip_for_others_too() -> None:
    content, _ = build_stored_zip(ENTRIES)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert [(name, archive.read(name)) for name in archive.namelist()] == ENTRIES
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_same_entries_give_the_same_bytes() -> None:
    assert build_stored_zip(ENTRIES)[0] == build_stored_zip(iter(ENTRIES))[0]


@pytest.mark.parametrize("entries", [[("a", b"1"), ("a", b"2")], [("я.ogg", b"1")]])
def test_unusable_names_are_refused(entries: list[tuple[str, bytes]]) -> None:
    with pytest.raises(ValueError, match="expected an ASCII entry name used once"):
        build_stored_zip(entries)
