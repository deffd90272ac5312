from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from fairseq_vgs.files import archives
from fairseq_vgs.files.archives import pack_files, packed_sizes
from fairseq_vgs.files.location import read_bytes, resolve

CONTENTS = {f"папка {i}/a{i}.flac": bytes([i]) * (700 + i) for i in range(12)} | {"x" * 150 + ".wav": b"long"}
PACKS = ["zip", "tar"]


def write_all(folder: Path, contents: dict[str, bytes] = CONTENTS) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def pack_all(folder: Path, pack: str, *, limit: int = 2500) -> dict[str, str]:
    write_all(folder)
    return pack_files(folder, list(CONTENTS), "speech", pack=pack, limit=limit)


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("pack", PACKS)
def test_every_entry_is_read_at_its_place(tmp_path: Path, pack: str) -> None:
    entries = pack_all(tmp_path, pack)
    assert {name: read_bytes(resolve(tmp_path, entry)) for name, entry in entries.items()} == CONTENTS
    names = {entry.partition(":")[0] for entry in entries.values()}
    assert names == {path.name for path in tmp_path.iterdir()} == {f"speech-0000{i}.{pack}" for i in range(4)}


@pytest.mark.parametrize("pack", PACKS)
def test_others_read_them_too(tmp_path: Path, pack: str) -> None:
    pack_all(tmp_path, pack)
    found = {}
    for path in tmp_path.iterdir():
        if pack == "zip":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
                assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
                found |= {name: archive.read(name) for name in archive.namelist()}
        else:
            with tarfile.open(path) as archive:
                found |= {member.name: archive.extractfile(member).read() for member in archive}
    assert found == CONTENTS


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(
    ("step", "calls"), [*(("write_archive", n) for n in range(1, 5)), *(("unlink", n) for n in (1, 3, 7, 13))]
)
def test_interrupted_packing_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: str, step: str, calls: int
) -> None:
    reference = pack_all(tmp_path / "whole", pack)
    left = calls
    holder = archives if step == "write_archive" else Path
    original = getattr(holder, step)

    def killed(*arguments: object, **settings: object) -> object:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return original(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(holder, step, killed)
        with pytest.raises(KeyboardInterrupt):
            pack_all(tmp_path / "killed", pack)
    sizes = {name: len(content) for name, content in CONTENTS.items()}
    packed = packed_sizes(tmp_path / "killed", "speech", pack=pack)
    loose = {name for name in CONTENTS if (tmp_path / "killed" / name).is_file()}
    assert packed.items() <= sizes.items()
    assert loose | packed.keys() == CONTENTS.keys()
    assert pack_files(tmp_path / "killed", list(CONTENTS), "speech", pack=pack, limit=2500) == reference
    assert all_bytes(tmp_path / "killed") == all_bytes(tmp_path / "whole")


@pytest.mark.parametrize("pack", PACKS)
def test_what_has_changed_or_gone_is_replaced_in_the_archives(tmp_path: Path, pack: str) -> None:
    pack_all(tmp_path / "data", pack)
    names = [name for name in CONTENTS if "папка 3" not in name]
    changed = next(name for name in CONTENTS if "папка 5" in name)
    write_all(tmp_path / "data", {changed: b"new"})
    pack_files(tmp_path / "data", names, "speech", pack=pack, limit=2500)
    contents = {name: CONTENTS[name] for name in names} | {changed: b"new"}
    write_all(tmp_path / "reference", contents)
    pack_files(tmp_path / "reference", names, "speech", pack=pack, limit=2500)
    assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "reference")


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of zip, tar, got 'rar'"):
        pack_files(tmp_path, [], "speech", pack="rar")
