"""CDI-Lextest and COCO-Lextest (Khorrami, Cruz Blandon and Räsänen, CogSci 2023): words spoken alone.

As distributed, with 20 recordings of each word: ``CDI_synth/WORD_SPEAKERSTYLE.wav``, the style being ``q``
(question) or ``s`` (statement), as in ``all_gone_Aq.wav``; and ``COCO_synth/WORD_NUMBER.wav``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.prepare.build.folder import BuildOptions, build_folder
from fairseq_vgs.prepare.build.tables import command_line
from fairseq_vgs.prepare.corpora.corpus import Caption, Corpus
from fairseq_vgs.prepare.corpora.corpus_check import raise_any

UNPACKED = ("CDI_synth", "COCO_synth")
SPLIT = "test"
_NAME = re.compile(r"(?P<word>.*[^_].*)_(?P<token>(?P<speaker>[A-Z])[qs]|[0-9]+)")


def prepare_lextest(
    folder: Path,
    output: Path,
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Builds a data folder of one of the two tests and returns its summary.

    Args:
        folder: the repository, or the folder of its recordings.
        output: the folder to make: split ``test``, each recording's text being its word.
        options: how to build it.
        progress: called with (files done, files in all).

    Raises:
        FaultError: names that say no word, words without the others' recordings, or faulty recordings.
    """
    return build_folder(
        read_lextest(folder),
        output,
        options=options or BuildOptions(),
        progress=progress,
        command=command_line("lextest", "LEXTEST OUTPUT", {}),
        inputs=[folder],
    )


def read_lextest(folder: Path) -> Corpus:
    """Reads which recordings there are and what is said.

    They come in the order of their names, as in the originals: the test compares no word with another in the
    same place of that order, which is one speaker and style in CDI-Lextest.

    Raises:
        FaultError: no recordings, and every name or word at fault.
    """
    root = next((folder / name for name in UNPACKED if (folder / name).is_dir()), folder)
    names = sorted(path.name for path in root.glob("*.wav"))
    if not names:
        expected = f"must be a folder of WORD_TOKEN.wav, or hold {' or '.join(UNPACKED)}"
        raise FaultError(Fault(str(folder), f"{expected}, got neither; check the path"))
    faults: list[Fault] = []
    captions: list[Caption] = []
    tokens: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        match = _NAME.fullmatch(name.removesuffix(".wav"))
        if match is None:
            expected = "name must be WORD_NUMBER.wav or, speaker and style, such as WORD_Aq.wav"
            faults.append(fault(str(root / name), expected, name, "rename or remove it"))
            continue
        word = " ".join(match["word"].lower().replace("_", " ").split())
        tokens[word].append(match["token"])
        captions.append(Caption(name, SPLIT, speaker=match["speaker"] or "", text=word, place=name))
    everything = sorted({token for found in tokens.values() for token in found})
    for word, found in tokens.items():
        if missing := sorted(set(everything) - set(found)):
            expected = f"word must be recorded {len(everything)} times, as others are"
            got = f"{len(found)}, without {', '.join(missing)}"
            faults.append(fault(f"{root}: {word}", expected, got, "copy the folder again"))
    raise_any(faults)
    return Corpus("lextest", audio_root=root, image_root=root, captions=captions)
