"""``fairseq-vgs evaluate lexical``: how well the layers of a model tell words apart.

Besides the common files, a results folder has ``words.csv``: every word's recall (0..1), a column
``MODEL/LAYER`` for each model and layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from fairseq_vgs.arrays import np
from fairseq_vgs.evaluation.evaluator import EVALUATORS, CommonSettings, Evaluator, Model
from fairseq_vgs.evaluation.results import Items, Reported, Scores, write_table
from fairseq_vgs.files.faults import FaultError, fault, raise_any
from fairseq_vgs.options import option

if TYPE_CHECKING:
    from torch import Tensor

    from fairseq_vgs.features.layers import LayerFeatures
    from fairseq_vgs.features.recordings import Recording
    from fairseq_vgs.metrics.lexical import LexicalResult

KIND = "lexical"
WORDS_NAME = "words.csv"
MEANS, FRAMES = "cosine of means", "warped frames"


@dataclass(frozen=True)
class LexicalSettings(CommonSettings):
    """Options of ``evaluate lexical``."""

    data: Path = option(
        help="data folder of single words, or folder of recordings", metavar="DATA", positional=True
    )
    word_before: str | None = option(
        None,
        metavar="TEXT",
        help="of a folder of recordings: the word is the part of a file's name before TEXT, such as _ "
        "(default: its folder)",
    )
    frames: bool = option(
        False,
        help="compare sequences of frames by dynamic time warping: minutes to hours a layer, with the square "
        "of the number of recordings",
    )
    layers: tuple[int, ...] | None = option(
        None, metavar="N", help="only these, 0 being the input of the first (default: all)"
    )
    not_conditions: ClassVar[tuple[str, ...]] = ("frames", "layers", "word_before")

    def condition(self) -> dict[str, Any]:
        """Add how words are named, if not as usual."""
        return {**super().condition(), **({"word_before": self.word_before} if self.word_before else {})}

    @property
    def compared(self) -> str:
        """What is compared, in words."""
        return FRAMES if self.frames else MEANS

    @property
    def variant(self) -> str:
        """Named where frames are warped."""
        return "frames" if self.frames else ""


@EVALUATORS.register(KIND)
class Lexical(Evaluator):
    """Word discrimination of every layer."""

    name = KIND
    summary = "word discrimination of every layer"
    description = """\
Lexical test (CDI-Lextest, COCO-Lextest): of the nearest recordings of a spoken word, as many as there are
others of that word, how many percent are the same word? Recordings are compared by the cosine of the means
over their frames or, with --frames, by dynamic time warping. The same model with fresh weights, MFCC and
chance are shown for comparison. Intervals are 95 %, over resampled words. DATA has one word in each
recording, and several recordings of a word; it may be a folder of recordings of any rate and format.
"""
    examples = """\
lexical RUN WORDS
lexical checkpoint_best.pt WORDS --output outputs/results/words --json
lexical checkpoint_best.pt WORDS --frames --layers 4
lexical checkpoint_best.pt speech_commands                 # recordings in folders of words: bed/001.wav
lexical checkpoint_best.pt RECORDINGS --word-before _      # dog_1.mp3, dog_2.mp3, ...

WORDS of the published tests: fairseq-vgs prepare lextest CDI_lextest WORDS

WORDS of the embedded data:
  fairseq-vgs prepare scenes WORDS --pictures-per-scene 1 1 --captions 20 --objects 60 \\
      --train-scenes 10 --valid-scenes 0 --test-scenes 50
Recordings of such a word differ in speed, pitch and pauses only, so MFCC do well on them.
"""
    Settings = LexicalSettings
    layered = True
    axis = "recall of words"
    files = (WORDS_NAME,)

    def measure(self, model: Model, settings: LexicalSettings) -> Scores:
        """Score every layer."""
        recordings, tokens = open_words(settings.data, settings.split, before=settings.word_before)
        words, how = dict(zip(recordings, tokens, strict=True)), settings.compared
        features = model.features(recordings, device=settings.device, layers=settings.layers)
        return word_scores(score_words(features, words, compared=how, device=settings.device), compared=how)

    def sources(self, settings: LexicalSettings) -> dict[str, Any]:
        """Add what is compared."""
        return {**super().sources(settings), "compared": settings.compared}

    def identity(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Add what is compared."""
        return {**super().identity(content), "compared": content.get("compared", MEANS)}

    def write_files(self, folder: Path, scores: Mapping[str, Scores], *, force: bool) -> None:
        """Write a row per word."""
        columns = {
            f"{model}/{layer}": values / 100.0
            for model, found in scores.items()
            for layer, values in found.items["words"].values.items()
        }
        words = next(iter(scores.values())).items["words"].ids["word"]
        rows = zip(words, *columns.values(), strict=True)
        write_table(folder / WORDS_NAME, ["word", *columns], rows, force=force)

    def describe(self, content: Mapping[str, Any]) -> list[str]:
        """Describe how many recordings of how many words were compared, and how."""
        counts, compared = content["counts"], content.get("compared", MEANS)
        counted = f"{counts['tokens']} recordings of {counts['words']} words"
        is_folder = "recordings" in content.get("made_from", {}).get("data", {})
        where = "" if is_folder else f", split {content['split']}"
        return [f"recall of words in %, by {compared}{where}: {counted}"]

    def heading(self, content: Mapping[str, Any]) -> str:
        """Name the measure."""
        return "words by frames" if content.get("compared") == FRAMES else "words"


def open_words(
    folder: Path, split: str, *, before: str | None = None
) -> tuple[dict[str, Recording], list[str]]:
    """List the recordings of a split by audio id, and the word of each: its text, in lower case.

    Texts come from the table of pairs or, without images, from that of utterances. In a folder of audio files
    the word is a file's folder, or the part of its name ``before`` a text.

    Raises:
        FaultError: A faulty table, or every recording whose text is missing or several words (separated by
            commas, as in scenes of several objects).
    """
    from fairseq_vgs.features.recordings import (
        is_audio_folder,
        listed_recordings,
        open_folder,
        require_folder,
    )

    require_folder(folder)
    if is_audio_folder(folder):
        recordings = open_folder(folder)
        words = {name: _word_of(name, before).casefold() for name in recordings}
        _refuse_one_word(words.values(), folder)
        expected = "recording must be in a folder named by its word"
        step = "move it there, or name the words with --word-before"
        if before:
            expected = f"name must have {before!r} after the word"
            step = "rename it, or choose another --word-before"
    else:
        recordings = {one.audio_id: one for one in listed_recordings(folder, split)}
        words, table = _texts(folder, split, recordings)
        expected = f"recording must be one word by {table}"
        step = "name each recording's word in the table's text; scenes: --pictures-per-scene 1 1"
    raise_any(
        fault(recordings[name].place, expected, text, step, code="recording.word")
        for name, text in words.items()
        if not text or "," in text
    )
    return recordings, list(words.values())


def _word_of(name: str, before: str | None) -> str:
    path = PurePosixPath(name)
    if not before:
        return path.parent.name
    word, divided, _ = path.name.partition(before)
    return word if divided else ""


def _refuse_one_word(words: Iterable[str], folder: Path) -> None:
    found = set(words)
    if len(found) == 1 and (word := found.pop()):
        expected = "folder must hold recordings of two words or more"
        step = "give the folder of all words, or name the words with --word-before"
        raise FaultError(fault(str(folder), expected, word, step, code="recording.word"))


def _texts(folder: Path, split: str, names: Iterable[str]) -> tuple[dict[str, str], str]:
    """Return the text of each recording, and the name of the table that has them."""
    from fairseq_vgs.manifest import ManifestFolder, read_pairs, read_utterances

    files = ManifestFolder(folder)
    utterances, pairs = files.utterances(split), files.pairs(split)
    table = utterances if utterances.is_file() and not pairs.is_file() else pairs
    rows = read_pairs(table) if table is pairs else read_utterances(table)
    texts = {row.audio_id: row.text.strip().casefold() for row in rows}
    return {name: texts.get(name, "") for name in names}, table.name


def score_words(
    features: LayerFeatures, words: Mapping[str, str], *, compared: str = MEANS, device: str = "cpu"
) -> dict[str, LexicalResult]:
    """Score every layer.

    Features are audio id -> name of a layer -> f[frames, dims]; words are by audio id, in the order that
    makes the folds. ``MEANS`` over frames are compared, or ``FRAMES``, warped on the device: much slower.
    """
    import torch

    from fairseq_vgs.metrics.lexical import frame_recall, vector_recall

    found: dict[str, list[Tensor]] = {}
    for audio_id in words:
        for layer, frames in features(audio_id).items():
            found.setdefault(layer, []).append(frames if compared == FRAMES else frames.double().mean(dim=0))
    names = list(words.values())
    if compared == FRAMES:
        return {layer: frame_recall(rows, names, device=device) for layer, rows in found.items()}
    return {layer: vector_recall(torch.stack(rows), names) for layer, rows in found.items()}


def word_scores(layers: Mapping[str, LexicalResult], *, compared: str = MEANS) -> Scores:
    """Return the recall of each layer in percent, word by word."""
    some = next(iter(layers.values()))
    values = {layer: 100.0 * np.array(list(found.by_word.values())) for layer, found in layers.items()}
    words = list(some.by_word)
    counts = {"tokens": len(some.words) + some.n_single, "words": len(words), "single_tokens": some.n_single}
    return Scores(
        {"words": Items({"word": words}, np.arange(len(words)), "words", values)},
        {layer: Reported("%", 100.0 * found.chance, n=len(found.recall)) for layer, found in layers.items()},
        facts={"compared": compared, "counts": counts},
    )
