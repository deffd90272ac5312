"""A corpus in one folder: recordings named PICTURE_SPEAKER.wav and pictures named PICTURE.png."""

from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import Fault, fault
from fairseq_vgs.options import option
from fairseq_vgs.prepare.corpora import CORPORA, CorpusReader
from fairseq_vgs.prepare.corpus import Caption, Corpus, Picture


@CORPORA.register("album")
@dataclass(frozen=True)
class Album(CorpusReader):
    """An album of described pictures.

    Pictures are PICTURE.png, their descriptions PICTURE_SPEAKER.wav in the same folder. The last pictures by
    name are for validation.
    """

    examples = ("fairseq-vgs prepare album ALBUM DATA --valid-pictures 10",)
    source = ("ALBUM", "folder of recordings and pictures")
    has_pictures = True

    valid_pictures: int = option(1, help="number of pictures for valid", metavar="N")

    def collect(self, source: Path, faults: list[Fault]) -> Corpus:
        """List recordings and pictures; they are decoded later."""
        pictures = sorted(source.glob("*.png"))
        valid = {path.stem for path in pictures[len(pictures) - self.valid_pictures :]}
        known = {path.stem for path in pictures}
        captions = []
        for recording in sorted(source.glob("*.wav")):
            picture, _, speaker = recording.stem.partition("_")
            if picture not in known:
                step = "add the picture or remove the recording"
                faults.append(fault(str(recording), "needs a picture", picture, step, code="album.picture"))
                continue
            split = "valid" if picture in valid else "train"
            captions.append(Caption(recording.name, split, image=picture, speaker=speaker))
        return Corpus(
            "album",
            audio_root=source,
            image_root=source,
            captions=captions,
            pictures=[Picture(path.stem, path.name) for path in pictures],
        )
