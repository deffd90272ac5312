from __future__ import annotations

from pathlib import Path

import pytest
from support.corpus_trees import read_corpus
from support.faults import check_folder, raises_fault
from support.tiny_speech import encode, speech, write

from fairseq_vgs.alignments.items import ITEM_HEADER
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ManifestFolder, read_audio_list, read_utterances
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora.librispeech import LibriSpeech, parse_subsets

SUBSETS = ("train-clean-100", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other")


def make_librispeech(folder: Path, *, subsets: tuple[str, ...] = SUBSETS) -> Path:
    """Write two chapters of two utterances for each subset, as the archives unpack."""
    root = folder / "LibriSpeech"
    write(root / "SPEAKERS.TXT", b"; comment\n14 | F | train-clean-360 | 25.03 | ...\n")
    for number, subset in enumerate(subsets):
        for chapter in (2, 3):
            name = f"{100 + number}-{chapter}"
            home = root / subset / str(100 + number) / str(chapter)
            lines = []
            for utterance in range(2):
                sound = encode(speech(10 * number + 2 * chapter + utterance), kind="FLAC")
                write(home / f"{name}-{utterance:04d}.flac", sound)
                lines.append(f"{name}-{utterance:04d} HE SAID {utterance}\n")
            write(home / f"{name}.trans.txt", "".join(lines).encode())
    return root


def splits(output: Path) -> list[str]:
    return ManifestFolder(output).splits()


def test_subsets_become_splits(tmp_path: Path) -> None:
    make_librispeech(tmp_path)
    summary = LibriSpeech().prepare(tmp_path, tmp_path / "out")
    assert splits(tmp_path / "out") == ["train", "valid", "test", "test_other", "valid_other"]
    assert summary["splits"]["train"]["recordings"] == 8
    assert summary["speakers"] == 6
    audio = read_audio_list(tmp_path / "out/valid.tsv")
    assert audio.root == tmp_path / "LibriSpeech"
    assert audio.rows[0].audio_id == "dev-clean/102/2/102-2-0000.flac"
    row = read_utterances(tmp_path / "out/valid.utterances.tsv")[0]
    assert (row.audio_id, row.speaker, row.text) == (audio.rows[0].audio_id, "102", "HE SAID 0")
    assert check_folder(tmp_path / "out") == []


def test_chosen_subsets_alone_are_taken(tmp_path: Path) -> None:
    root = make_librispeech(tmp_path)
    config = LibriSpeech(subset=("dev-other=valid", "train-clean-100=train_small"))
    summary = config.prepare(root, tmp_path / "out")
    assert splits(tmp_path / "out") == ["valid", "train_small"]
    assert summary["settings"]["subset"] == ("dev-other=valid", "train-clean-100=train_small")


def test_odd_trees_are_read(tmp_path: Path) -> None:
    """Uppercase endings, an untranscribed recording, a linked speaker, files of the system."""
    root = make_librispeech(tmp_path, subsets=("dev-clean",))
    home = root / "dev-clean/100/2"
    (home / "100-2-0000.flac").rename(home / "100-2-0000.FLAC")
    write(home / "100-2-0009.flac", encode(speech(90), kind="FLAC"))
    write(home / "._100-2-0000.flac", b"junk")
    write(root / "dev-clean/.DS_Store", b"junk")
    (root / "dev-clean/100").rename(tmp_path / "elsewhere")
    (root / "dev-clean/100").symlink_to(tmp_path / "elsewhere")
    captions = read_corpus(LibriSpeech(), root).captions
    assert [(Path(caption.audio).name, caption.text) for caption in captions[:3]] == [
        ("100-2-0000.FLAC", "HE SAID 0"),
        ("100-2-0001.flac", "HE SAID 1"),
        ("100-2-0009.flac", ""),
    ]
    summary = LibriSpeech().prepare(root, tmp_path / "out")
    assert (summary["splits"]["valid"]["recordings"], summary["splits"]["valid"]["with_text"]) == (5, 4)
    assert check_folder(tmp_path / "out") == []


def test_a_transcript_without_its_recording_is_a_fault(tmp_path: Path) -> None:
    root = make_librispeech(tmp_path, subsets=("dev-clean",))
    (root / "dev-clean/100/3/100-3-0001.flac").unlink()
    with raises_fault("file.missing", "dev-clean/100/3/100-3.trans.txt:2"):
        LibriSpeech().prepare(root, tmp_path / "out")


def test_all_faulty_transcripts_are_listed(tmp_path: Path) -> None:
    root = make_librispeech(tmp_path, subsets=("dev-clean",))
    path = root / "dev-clean/100/2/100-2.trans.txt"
    path.write_bytes(path.read_bytes() + b"100-2-0001 AGAIN\n\n999-2-0000 OTHER\n\xff\n")
    with pytest.raises(FaultError) as caught:
        read_corpus(LibriSpeech(), root)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert sorted(line.split(": ")[1][:20] for line in lines if "UTF-8" not in line) == [
        "line must begin with",
        "utterance must have ",
    ]
    assert all(line.startswith("dev-clean/100/2/100-2.trans.txt") for line in lines)


@pytest.mark.parametrize(
    ("subset", "message"),
    [("dev-cleen", "--subset dev-cleen: must be one of dev-clean"), ("", "must hold subsets such as")],
)
def test_unknown_subsets_and_folders_are_refused(tmp_path: Path, subset: str, message: str) -> None:
    root = make_librispeech(tmp_path, subsets=("dev-clean",))
    (tmp_path / "empty").mkdir()
    subsets = (f"{subset}=valid",) if subset else ()
    with pytest.raises(FaultError, match=message):
        read_corpus(LibriSpeech(subset=subsets), root if subset else tmp_path / "empty")


@pytest.mark.parametrize("option", ["dev-clean", "=valid", "dev-clean=", "dev-clean=a b", "dev-clean=images"])
def test_subset_options_are_checked(option: str) -> None:
    assert parse_subsets(["dev-clean=valid", "a=train_a"]) == {"dev-clean": "valid", "a": "train_a"}
    with raises_fault("setting.value", "--subset"):
        parse_subsets([option])


@pytest.mark.parametrize(("encoding", "end"), [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r")])
def test_items_are_copied_along(tmp_path: Path, encoding: str, end: str) -> None:
    root = make_librispeech(tmp_path, subsets=("dev-clean",))
    text = f"{ITEM_HEADER}{end}100-2-0000 0.01 0.1 AH B K 100{end}"
    items = write(tmp_path / "dev.item", text.encode(encoding))
    config = LibriSpeech(abx_items=items)
    summary = config.prepare(root, tmp_path / "out")
    assert summary["abx_items"] == "dev.item"
    assert (tmp_path / "out/dev.item").read_bytes() == items.read_bytes()


def test_items_do_not_take_a_tables_place(tmp_path: Path) -> None:
    root = make_librispeech(tmp_path, subsets=("dev-clean",))
    items = write(tmp_path / "images.tsv", f"{ITEM_HEADER}\n100-2-0000 0.01 0.1 AH B K 100\n".encode())
    with raises_fault("file.suffix"):
        LibriSpeech(abx_items=items).prepare(root, tmp_path / "out")


def test_force_deletes_no_items_inside_the_output(tmp_path: Path) -> None:
    root = make_librispeech(tmp_path, subsets=("dev-clean",))
    LibriSpeech().prepare(root, tmp_path / "out")
    items = write(tmp_path / "out/dev.item", f"{ITEM_HEADER}\n100-2-0000 0.01 0.1 AH B K 100\n".encode())
    with raises_fault("output.is_input", "out"):
        LibriSpeech(abx_items=items).prepare(root, tmp_path / "out", options=BuildOptions(force=True))
    assert items.is_file()


def test_all_faulty_items_are_listed(tmp_path: Path) -> None:
    root = make_librispeech(tmp_path, subsets=("dev-clean",))
    lines = [
        "100-2-0000 0.01 0.1 AH B K 100",
        "100-2-0000 0.2 0.1 AH B K 100",
        "100-2-0000 x 0.1 AH B K 100",
        "100-2-0000 0.01 0.1 AH B K",
        "777-2-0000 0.01 0.1 AH B K 100",
    ]
    items = write(tmp_path / "dev.item", "\n".join([ITEM_HEADER, *lines]).encode())
    with pytest.raises(FaultError) as caught:
        LibriSpeech(abx_items=items).prepare(root, tmp_path / "out")
    assert [fault.place for fault in caught.value.faults] == [f"dev.item:{number}" for number in (3, 4, 5, 6)]
    assert not (tmp_path / "out").exists()
