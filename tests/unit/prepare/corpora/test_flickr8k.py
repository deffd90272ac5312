from __future__ import annotations

from pathlib import Path

import pytest
from support.corpus_trees import SPLITS, flickr_images, lie_about_length, read_corpus, write_flickr8k
from support.faults import check_folder, raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ManifestFolder, read_audio_list, read_images, read_pairs
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora.flickr8k import LISTS, Flickr8k

TRAIN, VALID, TEST = (flickr_images(split, 1) for split in ("train", "dev", "test"))
IMAGES = [*TRAIN, *VALID, *TEST]
UNLISTED = "1000000000_0123456789.jpg"
NO_PICTURES = Flickr8k(without_pictures=True)


def stem(image: str) -> str:
    return Path(image).stem


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_lists_say_split_speaker_and_text(tmp_path: Path) -> None:
    write_flickr8k(tmp_path, IMAGES)
    corpus = read_corpus(NO_PICTURES, tmp_path)
    assert [caption.split for caption in corpus.captions] == ["train"] * 2 + ["valid"] * 2 + ["test"] * 2
    caption = corpus.captions[3]
    assert caption.audio == f"wavs/{stem(VALID[0])}_1.wav"
    assert (caption.image, caption.text) == (stem(VALID[0]), "A dog , number 1 .")
    assert caption.speaker == str(len(f"{stem(VALID[0])}_1.wav") % 7)
    assert caption.place == "wav2capt.txt:4"
    assert (corpus.audio_root, corpus.pictures) == (tmp_path / "flickr_audio", ())
    assert dict(corpus.checksums) == dict(LISTS.values())


@pytest.mark.parametrize("images", ["Flicker8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "Images"])
@pytest.mark.parametrize("audio", ["flickr_audio", "flickr_audio/flickr_audio", "."])
def test_the_usual_ways_to_unpack_it_are_found(tmp_path: Path, audio: str, images: str) -> None:
    write_flickr8k(tmp_path / "in", IMAGES)
    (tmp_path / "in" / images).mkdir(parents=True)
    if audio != "flickr_audio":
        (tmp_path / "in/flickr_audio").rename(tmp_path / "moved")
        (tmp_path / "in" / audio).mkdir(parents=True, exist_ok=True)
        for path in (tmp_path / "moved").iterdir():
            path.rename(tmp_path / "in" / audio / path.name)
    corpus = read_corpus(Flickr8k(), tmp_path / "in")
    assert corpus.audio_root == tmp_path / "in" / audio
    assert corpus.image_root == tmp_path / "in" / images
    assert [(picture.image_id, picture.path) for picture in corpus.pictures] == [
        (stem(image), image) for image in IMAGES
    ]


def test_recordings_of_no_split_and_those_named_faulty_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_flickr8k(tmp_path / "in", [*IMAGES, UNLISTED])
    names = tmp_path / "faulty.txt"
    names.write_text(f"# no speech\n{stem(TEST[0])}_1.wav  # silent\n\nstranger_0.wav\n")
    corpus = read_corpus(Flickr8k(without_pictures=True, faulty=names), tmp_path / "in")
    assert dict(corpus.excluded) == {
        "recording named as faulty": [f"{stem(TEST[0])}_1.wav"],
        "recording of a picture that is in no published list": [
            f"{stem(UNLISTED)}_0.wav",
            f"{stem(UNLISTED)}_1.wav",
        ],
    }
    assert len(corpus.captions) == 5
    assert "names recordings that the corpus does not list: ['stranger_0.wav']" in caplog.text


def test_without_text_the_lists_come_with_the_package_or_from_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_flickr8k(tmp_path, IMAGES, text=False)
    corpus = read_corpus(Flickr8k(without_pictures=True, lists=SPLITS / "flickr8k"), tmp_path)
    assert read_corpus(NO_PICTURES, tmp_path) == corpus
    assert [caption.split for caption in corpus.captions] == ["train"] * 2 + ["valid"] * 2 + ["test"] * 2
    assert {caption.text for caption in corpus.captions} == {""}
    assert "no Flickr8k.token.txt: the captions' texts stay empty" in caplog.text


def test_a_list_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    write_flickr8k(tmp_path, IMAGES)
    append(tmp_path / "Flickr8k_text/Flickr_8k.devImages.txt", f"{UNLISTED}\n")
    with raises_fault("corpus.checksum", "devImages.txt"):
        read_corpus(NO_PICTURES, tmp_path)


def test_all_faulty_lines_are_listed(tmp_path: Path) -> None:
    write_flickr8k(tmp_path, IMAGES)
    audio = tmp_path / "flickr_audio"
    image = TRAIN[0]
    append(audio / "wav2capt.txt", f"a.wav {image}\n../b.wav {image} #0\nc.wav {image} 0\n")
    append(audio / "wav2capt.txt", f"{stem(image)}_0.wav {image} #0\n")
    append(audio / "wav2spk.txt", "a.wav\n")
    append(tmp_path / "Flickr8k_text/Flickr8k.token.txt", f"{image}#9 no tab\n")
    with pytest.raises(FaultError) as caught:
        read_corpus(NO_PICTURES, tmp_path)
    assert [(item.place, item.message.split(",")[0].split(" (")[0]) for item in caught.value.faults] == [
        ("Flickr8k.token.txt:8", "line must be IMAGE#NUMBER"),
        ("wav2spk.txt:7", "line must be WAV SPEAKER"),
        ("wav2capt.txt:7", "line must be WAV IMAGE #NUMBER"),
        ("wav2capt.txt:8", "line must be WAV IMAGE #NUMBER"),
        ("wav2capt.txt:9", "line must be WAV IMAGE #NUMBER"),
        ("wav2capt.txt:10", "recording must appear only once"),
    ]


def test_recordings_without_speaker_or_text_are_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_flickr8k(tmp_path, IMAGES)
    for path in (tmp_path / "flickr_audio/wav2spk.txt", tmp_path / "Flickr8k_text/Flickr8k.token.txt"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    corpus = read_corpus(NO_PICTURES, tmp_path)
    assert [bool(caption.text) for caption in corpus.captions] == [True] * 4 + [False] * 2
    assert "2 recordings have no text in Flickr8k.token.txt" in caplog.text
    assert "2 recordings have no speaker in wav2spk.txt" in caplog.text


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with raises_fault("corpus.folder"):
        read_corpus(Flickr8k(), tmp_path)
    write_flickr8k(tmp_path, IMAGES)
    with raises_fault("corpus.folder"):
        read_corpus(Flickr8k(), tmp_path)
    (tmp_path / "flickr_audio/wav2spk.txt").unlink()
    with raises_fault("file.missing", "wav2spk.txt"):
        read_corpus(NO_PICTURES, tmp_path)


def test_a_tree_becomes_a_sound_folder(tmp_path: Path) -> None:
    root = write_flickr8k(tmp_path / "Flickr 8k é", [*IMAGES, UNLISTED], media=True)
    # Corpora are often linked into place.
    (root / "flickr_audio/wavs").rename(tmp_path / "elsewhere")
    (root / "flickr_audio/wavs").symlink_to(tmp_path / "elsewhere")
    summary = Flickr8k().prepare(root, tmp_path / "out", options=BuildOptions(convert="always"))
    assert check_folder(tmp_path / "out") == []
    files = ManifestFolder(tmp_path / "out")
    assert files.splits() == ["train", "valid", "test"]
    assert [row.audio_id for row in read_audio_list(files.audio_list("test")).rows] == [
        f"wavs/{stem(TEST[0])}_{number}.flac" for number in range(2)
    ]
    assert [pair.text for pair in read_pairs(files.pairs("test"))] == [
        f"A dog , number {i} ." for i in range(2)
    ]
    assert len(read_images(files.images).rows) == 3
    excluded = summary["excluded"]["recording of a picture that is in no published list"]
    assert excluded == {"count": 2, "items": [f"{stem(UNLISTED)}_{number}.wav" for number in range(2)]}


def test_faulty_media_are_listed_together(tmp_path: Path) -> None:
    root = write_flickr8k(tmp_path / "in", IMAGES, media=True)
    wavs = root / "flickr_audio/wavs"
    lie_about_length(wavs / f"{stem(TRAIN[0])}_0.wav")
    (wavs / f"{stem(TEST[0])}_0.wav").write_bytes(b"RIFF")
    with pytest.raises(FaultError) as caught:
        Flickr8k().prepare(root, tmp_path / "out")
    assert {item.place.split(":")[0] for item in caught.value.faults} == {"wav2capt.txt"}
    assert len(caught.value.faults) == 2
    assert not (tmp_path / "out").exists()
