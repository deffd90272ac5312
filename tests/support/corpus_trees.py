"""Small trees that look as SpokenCOCO, Flickr8k Audio and Places Audio do when unpacked, with real speech."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from fairseq_vgs.files.faults import Fault, raise_any
from fairseq_vgs.files.location import read_bytes, resolve
from fairseq_vgs.manifest import ManifestFolder, read_audio_list
from fairseq_vgs.prepare.corpora import CorpusReader
from fairseq_vgs.prepare.corpus import Corpus, corpus_faults

ROOT = Path(__file__).parents[2]
SPLITS = ROOT / "fairseq_vgs/prepare/corpora/splits"
# The first picture of the published SpokenCOCO_val.json, and others of which Karpathy's split says more.
COCO_TRAIN = "train2014/COCO_train2014_000000000009.jpg"
COCO_RESTVAL = "val2014/COCO_val2014_000000325114.jpg"
COCO_VALID = "val2014/COCO_val2014_000000011169.jpg"
COCO_TEST = "val2014/COCO_val2014_000000391895.jpg"
WORDS = ("A URINAL IN A RESTROOM", "DOGS PLAY", "ÉTÉ À LA PLAGE", "ТРИ КОТА", "A  DOUBLE BLANK")


@lru_cache
def embedded_speech(number: int) -> tuple[np.ndarray, int]:
    """Return one of the embedded set's recordings."""
    folder = ManifestFolder(ROOT / "manifests/embedded")
    audio = read_audio_list(folder.audio_list("train"))
    row = next(islice(audio.rows, number, None))
    return soundfile.read(io.BytesIO(read_bytes(resolve(audio.root, row.audio_id))), dtype="float32")


def write_wav(path: Path, number: int = 0) -> None:
    """Write real speech as the corpora have it: 16 kHz, 16 bit, RIFF."""
    samples, rate = embedded_speech(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, format="WAV", subtype="PCM_16")


def lie_about_length(path: Path) -> None:
    """Cut a recording in two and leave its header as it is."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_jpeg(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), (40 * colour % 256, 90, 10)).save(path, "JPEG")


def spoken(image: str, *, number: int, file: str = "val", **more: Any) -> dict[str, Any]:
    """Return one caption as SpokenCOCO's files have it."""
    speaker = f"m{number % 3}k2zco7272xa5e0"
    coco_id = int(Path(image).stem.split("_")[-1])
    utterance = f"{speaker}-3RANCT1ZVFHR36908WUQ2DQJVTZBU{number}_{coco_id}_{6000 + number}"
    return {
        "text": WORDS[number % len(WORDS)],
        "speaker": speaker,
        "uttid": utterance,
        "wav": f"wavs/{file}/{number % 2}/{utterance}.wav",
    } | more


def write_spokencoco(
    folder: Path, train: Sequence[dict[str, Any]], val: Sequence[dict[str, Any]], *, media: bool = False
) -> Path:
    """Write the two files; with media, the recordings and pictures they name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in (("train", train), ("val", val)):
        (folder / f"SpokenCOCO_{name}.json").write_text(json.dumps({"data": entries}))
    if media:
        captions = [caption for entry in (*train, *val) for caption in entry["captions"]]
        for number, caption in enumerate(captions):
            write_wav(folder / caption["wav"], number)
        for number, entry in enumerate((*train, *val)):
            write_jpeg(folder / entry["image"], number)
    return folder


def coco_entry(image: str, *, first: int = 0, captions: int = 5, file: str = "val") -> dict[str, Any]:
    spoken_captions = [spoken(image, number=first + number, file=file) for number in range(captions)]
    return {"image": image, "captions": spoken_captions}


def flickr_images(split: str, count: int) -> list[str]:
    """Return pictures of a published list: train, dev or test."""
    return (SPLITS / f"flickr8k/Flickr_8k.{split}Images.txt").read_text().splitlines()[:count]


def write_flickr8k(folder: Path, images: Sequence[str], *, media: bool = False, text: bool = True) -> Path:
    """Write Flickr8k Audio with two captions of each picture."""
    audio = folder / "flickr_audio"
    (audio / "wavs").mkdir(parents=True)
    names = [(f"{Path(image).stem}_{number}.wav", image, number) for image in images for number in range(2)]
    (audio / "wav2capt.txt").write_text("".join(f"{wav} {image} #{number}\n" for wav, image, number in names))
    (audio / "wav2spk.txt").write_text("".join(f"{wav} {len(wav) % 7}\n" for wav, _, _ in names))
    if text:
        shutil.copytree(SPLITS / "flickr8k", folder / "Flickr8k_text")
        # The last line is as published: a picture that the corpus does not have.
        lines = [f"{image}#{number}\tA dog , number {number} .\n" for _, image, number in names]
        ghost = "2258277193_586949ec62.jpg.1#0\tpeople waiting for the subway\n"
        (folder / "Flickr8k_text/Flickr8k.token.txt").write_text("".join([*lines, ghost]))
    if media:
        for number, (wav, _, _) in enumerate(names):
            write_wav(audio / "wavs" / wav, number)
        for number, image in enumerate(images):
            write_jpeg(folder / "Flicker8k_Dataset" / image, number)
    return folder


def described_place(number: int, image: str = "", **more: Any) -> dict[str, Any]:
    """Return one entry as the files of Places Audio have it."""
    return {
        "uttid": f"A1BC{number}_GSUN_{number:032X}",
        "speaker": f"A1BC{number % 3}",
        "asr_text": "there are rocks in the desert",
        "wav": f"wavs/{number}/utterance_{number}.wav",
        "image": image or f"b/badlands/gsun_{number:032x}.jpg",
    } | more


def write_places(folder: Path, *, media: bool = False, **splits: Sequence[dict[str, Any]]) -> Path:
    """Write the five files; a split that is not given has one entry."""
    names = ("train", "dev_seen", "dev_unseen", "test_seen", "test_unseen")
    (folder / "metadata").mkdir(parents=True)
    for number, name in enumerate(names):
        entries = splits.get(name, [described_place(100 + number)])
        content = {"image_base_path": "/data/images256", "audio_base_path": "/data/audio", "data": entries}
        (folder / "metadata" / f"{name}_2020.json").write_text(json.dumps(content, indent=4))
        if media:
            for entry in entries:
                write_wav(folder / entry["wav"], number)
                write_jpeg(folder / "images" / entry["image"], number)
    return folder


def read_corpus(reader: CorpusReader, source: Path) -> Corpus:
    """Return what a reader finds; raise all faults of its lists, as building a folder does."""
    faults: list[Fault] = []
    corpus = reader.collect(source, faults)
    if corpus.captions or not faults:
        faults.extend(corpus_faults(corpus, needs_splits=not reader.arranges))
    raise_any(faults)
    return corpus
