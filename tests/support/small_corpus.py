"""A corpus of six captions and three pictures, and its data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.tiny_speech import encode, picture, speech, write

from fairseq_vgs.prepare.build.folder import build_folder
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpus import Caption, Corpus, Picture

N_IMAGES = 3
SPLITS = ("train", "valid", "test")


def make_corpus(folder: Path, *, rate: int = 16_000, kind: str = "WAV") -> Corpus:
    """Two captions of each of three pictures, a picture to each split; odd names throughout."""
    captions, pictures = [], []
    for number in range(2 * N_IMAGES):
        name = f"спикер {number % 2}/{number} ёж.WAV"
        write(folder / "audio" / name, encode(speech(number, rate=rate), rate=rate, kind=kind))
        image = f"im{number // 2}"
        text = f"caption {number}\n" if number else ""
        captions.append(Caption(name, SPLITS[number // 2], image, f"s{number % 2}", text, f"list:{number}"))
    for number in range(N_IMAGES):
        name = f"a b/é{number}.PNG"
        write(folder / "pictures" / name, picture(number))
        pictures.append(Picture(f"im{number}", name, place=f"images:{number}"))
    return Corpus("tiny", folder / "audio", folder / "pictures", captions, pictures)


def build(corpus: Corpus, output: Path, **options: Any) -> dict[str, Any]:
    return build_folder(corpus, output, options=BuildOptions(**options))


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
