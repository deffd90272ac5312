"""CDI-Lextest and COCO-Lextest, in the layout of their repositories."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.corpus_trees import read_corpus
from support.faults import check_folder, raises_fault
from support.tiny_speech import encode, speech, write

from fairseq_vgs.evaluation.evaluators.lexical import open_words
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import read_utterances
from fairseq_vgs.metrics.lexical import folds
from fairseq_vgs.prepare.corpora.lextest import Lextest

CDI = [
    f"{word}_{speaker}{style}" for word in ("TV_", "all_gone", "ball") for speaker in "AB" for style in "qs"
]
COCO = [f"{word}_{number}" for word in ("bear", "zebra") for number in (1, 2, 10)]


def make(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        write(folder / f"{name}.wav", encode(speech(number, rate=24_000), rate=24_000))
    return folder


def test_cdi_is_resampled_and_its_folds_are_speakers_and_styles(tmp_path: Path) -> None:
    make(tmp_path / "CDI_lextest/CDI_synth", CDI)
    summary = Lextest().prepare(tmp_path / "CDI_lextest", tmp_path / "out")
    assert summary["files"]["converted"] == 12
    assert check_folder(tmp_path / "out") == []
    recordings, words = open_words(tmp_path / "out", "test")
    assert sorted(set(words)) == ["all gone", "ball", "tv"]
    by_fold: dict[int, set[str]] = {}
    for fold, name in zip(folds(words), recordings, strict=True):
        by_fold.setdefault(int(fold), set()).add(name.removesuffix(".flac")[-2:])
    assert by_fold == {0: {"Aq"}, 1: {"As"}, 2: {"Bq"}, 3: {"Bs"}}
    rows = read_utterances(tmp_path / "out/test.utterances.tsv")
    assert {row.speaker for row in rows} == {"A", "B"}


def test_coco_keeps_the_order_of_the_names(tmp_path: Path) -> None:
    found = read_corpus(Lextest(), make(tmp_path, COCO)).captions
    assert [(row.audio, row.text, row.speaker) for row in found[:4]] == [
        ("bear_1.wav", "bear", ""),
        ("bear_10.wav", "bear", ""),
        ("bear_2.wav", "bear", ""),
        ("zebra_1.wav", "zebra", ""),
    ]


def test_all_names_and_words_at_fault_are_named(tmp_path: Path) -> None:
    make(tmp_path, [*COCO, "noise", "__1"])
    (tmp_path / "zebra_2.wav").unlink()
    with pytest.raises(FaultError) as caught:
        read_corpus(Lextest(), tmp_path)
    messages = [f"{Path(item.place).name} {item.message}" for item in caught.value.faults]
    name = "name must be WORD_NUMBER.wav or, speaker and style, such as WORD_Aq.wav"
    word = "word must be recorded 3 times, as others are"
    assert messages == [
        f"__1.wav {name}, got '__1.wav'; rename or remove it",
        f"noise.wav {name}, got 'noise.wav'; rename or remove it",
        f"{tmp_path.name}: zebra {word}, got '2, without 2'; copy the folder again",
    ]
    with raises_fault("corpus.folder"):
        read_corpus(Lextest(), tmp_path / "none")
