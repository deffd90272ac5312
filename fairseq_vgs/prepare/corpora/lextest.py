"""CDI-Lextest and COCO-Lextest (Khorrami, Cruz Blandon and Räsänen, CogSci 2023): words spoken alone.

As distributed, with 20 recordings of each word: ``CDI_synth/WORD_SPEAKERSTYLE.wav``, the style being ``q``
(question) or ``s`` (statement), as in ``all_gone_Aq.wav``; and ``COCO_synth/WORD_NUMBER.wav``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.prepare.corpora import CORPORA, NO_COPIES, CorpusReader
from fairseq_vgs.prepare.corpus import Caption, Corpus

UNPACKED = ("CDI_synth", "COCO_synth")
SPLIT = "test"
_NAME = re.compile(r"(?P<word>.*[^_].*)_(?P<token>(?P<speaker>[A-Z])[qs]|[0-9]+)")


@CORPORA.register("lextest")
@dataclass(frozen=True)
class Lextest(CorpusReader):
    """CDI-Lextest, COCO-Lextest: single words.

    CDI-Lextest or COCO-Lextest as it is cloned (github.com/SPEECHCOG/CDI_lextest, COCO_lextest): its
    recordings of single words at 16 kHz, for fairseq-vgs evaluate lexical.
    """

    examples = (
        "fairseq-vgs prepare lextest CDI_lextest CDI",
        "fairseq-vgs evaluate lexical checkpoints/checkpoint_best.pt CDI",
    )
    source = ("LEXTEST", "the repository, or the folder of its recordings")
    # No --skip-bad: without its first recording, a word's second would be compared with the others' first.
    without = NO_COPIES

    def collect(self, source: Path, faults: list[Fault]) -> Corpus:
        """Read which recordings there are and what is said; each recording's text is its word.

        They are in order of their names, as in the originals: the test never compares words at the same
        position, which is one speaker and style in CDI-Lextest. Raises FaultError.
        """
        root = next((source / name for name in UNPACKED if (source / name).is_dir()), source)
        names = sorted(path.name for path in root.glob("*.wav"))
        if not names:
            expected = f"must be a folder of WORD_TOKEN.wav, or hold {' or '.join(UNPACKED)}"
            raise FaultError.at(source, f"{expected}, got neither; check the path", "corpus.folder")
        captions: list[Caption] = []
        tokens: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            match = _NAME.fullmatch(name.removesuffix(".wav"))
            if match is None:
                expected = "name must be WORD_NUMBER.wav or, speaker and style, such as WORD_Aq.wav"
                place, step = str(root / name), "rename or remove it"
                faults.append(fault(place, expected, name, step, code="recording.name"))
                continue
            word = " ".join(match["word"].lower().replace("_", " ").split())
            tokens[word].append(match["token"])
            captions.append(Caption(name, SPLIT, speaker=match["speaker"] or "", text=word, place=name))
        everything = set().union(*tokens.values())
        for word, found in tokens.items():
            if missing := sorted(everything.difference(found)):
                expected = f"word must be recorded {len(everything)} times, as others are"
                got = f"{len(found)}, without {', '.join(missing)}"
                place, step = f"{root}: {word}", "copy the folder again"
                faults.append(fault(place, expected, got, step, code="recording.missing"))
        return Corpus("lextest", audio_root=root, image_root=root, captions=captions)
