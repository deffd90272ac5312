"""``fairseq-vgs evaluate abx``: how well the layers of a model tell phones apart.

Besides the common files, a results folder has ``cells_MODEL.csv``: phone_a, phone_b, previous_phone,
next_phone, speaker, x_speaker, triples, and the error (0..1) of every layer; ``made.item``, of alignments.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairseq_vgs.arrays import np
from fairseq_vgs.evaluation.evaluator import (
    EVALUATORS,
    MFCC,
    TRAINED,
    UNTRAINED,
    CommonSettings,
    Evaluator,
    Model,
    source_hashes,
)
from fairseq_vgs.evaluation.phones import Aligned, Phones, item_file, open_phones
from fairseq_vgs.evaluation.results import Items, Reported, Scores, write_table
from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.metrics.intervals import numbered_pairs
from fairseq_vgs.options import option

if TYPE_CHECKING:
    from torch import Tensor

    from fairseq_vgs.metrics.abx import AbxCells, AbxResult

logger = logging.getLogger(__name__)

KIND = "abx"
CHANCE = 50.0
"""Error in percent of features that know nothing, and of features that are all equal."""
PAIRS = "phone_pairs"
ABX_KEYS: Mapping[str, str] = {"within": KIND, "across": f"{KIND}_across"}
"""Names of the evaluations within and across speakers among those of a run."""
NAMES_TABLE = "utterances.tsv"
MADE_ITEMS = "made.item"
"""Item file of tokens that were made from alignments."""
_CELL_COLUMNS = ("phone_a", "phone_b", "previous_phone", "next_phone", "speaker", "x_speaker", "triples")
_ALL = "all"


def _count_or_all(text: str) -> int | None:
    if text == _ALL:
        return None
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, or '{_ALL}', got {text}")
    return value


@dataclass(frozen=True)
class AbxSettings(CommonSettings):
    """Options of ``evaluate abx``."""

    data: Path = option(
        help="folder of recordings: a data folder, or any audio files", metavar="ITEMS", positional=True
    )
    split: str = option("test", help="audio list in ITEMS")
    items: str | None = option(
        None,
        metavar="NAME",
        help="item file in ITEMS, or its path (default: the only one in ITEMS)",
        exclusive="tokens",
    )
    alignments: Path | None = option(
        None,
        metavar="PATH",
        help="in place of items: folder of TextGrids (or .lab, ...) named as the recordings, or one file",
        exclusive="tokens",
    )
    tier: str | None = option(None, metavar="NAME", help="tier of the TextGrids (default: the phone tier)")
    unit: Literal["triphone", "phoneme"] = option(
        "triphone", help="of alignments: a phone with its neighbours, or alone"
    )
    strip_stress: bool = option(False, help="of alignments: AH0 and AH1 are the same phone AH")
    speaker_before: str | None = option(
        None,
        metavar="TEXT",
        help="of alignments: the speaker is the part of a recording's name before TEXT, such as - in "
        "LibriSpeech (default: its folder)",
    )
    layers: tuple[int, ...] | None = option(
        None,
        metavar="N",
        help="only these, 0 being the input of the first (default: all; they are held in memory together)",
    )
    speaker: Literal["within", "across"] = option(
        "within", help="x is by the speaker of a and b, or by another"
    )
    context: Literal["within", "any"] = option(
        "within", help="a, b and x are between the same phones, or anywhere"
    )
    distance: Literal["angular", "euclidean", "kl_symmetric", "identical"] = option(
        "angular", help="between frames"
    )
    max_size_group: int | None = option(
        10,
        parse=_count_or_all,
        metavar="N",
        help="most tokens of a phone, context and speaker; 'all' for no limit",
    )
    max_x_across: int | None = option(
        5, parse=_count_or_all, metavar="N", help="most speakers of x across speakers; 'all' for no limit"
    )
    librilight_slicing: bool = option(
        False, help="cut tokens one frame shorter, to compare with ZeroSpeech 2021 and Libri-Light"
    )
    not_conditions: ClassVar[tuple[str, ...]] = (
        "items", "layers", "alignments", "tier", "unit", "strip_stress", "speaker_before",
    )  # fmt: skip

    @property
    def tokens(self) -> Path | Aligned:
        """What tokens come from: the item file, or alignments.

        Raises:
            FaultError: There is no item file, or several, and none is named.
        """
        if self.alignments is None:
            return item_file(self.data, self.items)
        settings = (self.tier, self.unit, self.strip_stress, self.speaker_before)
        return Aligned(self.alignments, *settings)

    @property
    def variant(self) -> str:
        """Across speakers; within them is the usual one."""
        return "" if self.speaker == "within" else self.speaker

    @property
    def folder_name(self) -> str:
        """Speaker and context."""
        return f"{self.speaker}_{self.context}"


@EVALUATORS.register(KIND)
class Abx(Evaluator):
    """Phone discrimination (ABX) of every layer."""

    name = KIND
    summary = "phone discrimination (ABX) of every layer"
    description = """\
Phone ABX: how often is a token x of phone a closer to a token of phone b than to another one of a? The error
of every transformer layer in percent; chance is 50 %, as for a model that maps everything to one point. The
same model with fresh weights, MFCC and chance are shown for comparison. Intervals are 95 %, over resampled
phones. Speech is unmasked and whole.
"""
    examples = """\
abx RUN manifests/embedded/abx
abx checkpoint_best.pt DEV_CLEAN --items triphone-dev-clean.item --speaker across
abx checkpoint_best.pt ABX --baseline none --json | jq .models.trained
abx checkpoint_best.pt RECORDINGS --alignments TEXTGRIDS
abx checkpoint_best.pt RECORDINGS --items phones.item

ITEMS is a folder with an audio list (test.tsv), a ZeroSpeech item file (NAME.item) and, if the items do not
name recordings by their file names without extension, utterances.tsv (columns audio_id and file); or a folder
of audio files of any rate and format, with an item file or alignments from anywhere.
"""
    Settings = AbxSettings
    layered = True
    higher_is_better = False
    axis = "phone ABX error"
    files = (*(f"cells_{name}.csv" for name in (TRAINED, UNTRAINED, MFCC)), MADE_ITEMS)

    def __init__(self) -> None:
        self._opened: tuple[tuple[Any, ...], Phones] | None = None

    def measure(self, model: Model, settings: AbxSettings) -> Scores:
        """Compare all layers in one pass over the recordings."""
        from fairseq_vgs.features.speech import progress
        from fairseq_vgs.metrics.abx import abx_scores

        start = time.perf_counter()
        phones = self._phones(settings)
        features = model.features(phones.recordings, device=settings.device, layers=settings.layers)
        with progress(len(phones.recordings), model.title, "recording") as bar:

            def counted(name: str) -> Mapping[str, Tensor]:
                bar.update()
                return features(name)

            options = {"seed": settings.seed, "device": settings.device, **settings.condition()}
            found = abx_scores(counted, phones.items, frame_rate=model.frame_rate, **options)
        if is_collapsed(found):
            logger.warning("%s: all frames are equal (collapsed): its error is chance", model.title)
        made_of = {"file": phones.name, "sha256": phones.digest}
        facts = {"items": made_of, "condition": settings.condition()}
        seconds = time.perf_counter() - start
        scores = phone_scores(found, frame_rate=model.frame_rate, facts=facts, seconds=seconds)
        return replace(scores, notes=phones.notes)

    def _phones(self, settings: AbxSettings) -> Phones:
        """Open the tokens once for all models of a command."""
        key = (settings.data, settings.split, settings.tokens)
        if self._opened is None or self._opened[0] != key:
            self._opened = key, open_phones(*key)
        return self._opened[1]

    def sources(self, settings: AbxSettings) -> dict[str, Any]:
        """Add the item file, the names of recordings, and the seed of the draws."""
        from fairseq_vgs.metrics.abx.plan import require_speakers

        phones = self._phones(settings)
        if settings.context == "within":
            require_speakers(phones.items, (settings.speaker,), place=phones.name)
        hashes = source_hashes(settings.data, settings.split)
        if (names := settings.data / NAMES_TABLE).is_file():
            hashes[names.name] = sha256_file(names)
        found = {"split": settings.split, "data": hashes, "condition": settings.condition()}
        return {**found, "items": {phones.name: phones.digest}, "seed": settings.seed}

    def identity(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Add the items and, where tokens were drawn, the seed."""
        found = {**super().identity(content), "items": content["items"]["sha256"]}
        counts = next(iter(content["models"].values())).get("counts", {})
        if counts.get("subsampled"):
            found["seed"] = content["provenance"]["seed"]
        return found

    def notes(self, scores: Mapping[str, Scores], titles: Mapping[str, str]) -> list[str]:
        """Return how many items had no frame, which is why cells can differ."""
        (first, own), *others = scores.items()
        return [
            f"{titles[name]} was not measured on the same items as {titles[first]} "
            f"({found.details['counts']['no_frame']} and {own.details['counts']['no_frame']} of them without "
            f"a frame, at {found.details['frame_rate']:g} and {own.details['frame_rate']:g} Hz): no paired "
            "difference"
            for name, found in others
            if found.items[PAIRS].same_as != own.items[PAIRS].same_as
        ]

    def write_files(self, folder: Path, scores: Mapping[str, Scores], *, force: bool) -> None:
        """Write a row per cell, a table for each model, and the items if they were made."""
        if self._opened and (text := self._opened[1].text):
            write_text(folder / MADE_ITEMS, text, force=force)
        for name, found in scores.items():
            layers: Mapping[str, AbxResult] = found.extra
            columns = [*_cell_columns(_any(layers).cells), *(layer.cell_errors for layer in layers.values())]
            header, rows = (*_CELL_COLUMNS, *layers), zip(*columns, strict=True)
            write_table(folder / f"cells_{name}.csv", header, rows, force=force)

    def describe(self, content: Mapping[str, Any]) -> list[str]:
        """Describe the condition, and what was compared and left out."""
        condition, models = content["condition"], content["models"].values()
        counted = {model.get("title", ""): model["counts"] for model in models if "counts" in model}
        lines = {title: describe_counts(counts) for title, counts in counted.items()}
        measured = (
            f"phone ABX error in %, {content['items']['file']}: {condition['speaker']} speaker, "
            f"{condition['context']} context, {condition.get('distance', 'angular')} distance"
        )
        if len(set(lines.values())) > 1:
            return [measured, *(f"  {title}: {line}" for title, line in lines.items())]
        return [measured, *(f"  {line}" for line in list(lines.values())[:1])]

    def heading(self, content: Mapping[str, Any]) -> str:
        """Name the measure."""
        return f"ABX {content['condition']['speaker']} speaker"


def phone_scores(
    layers: Mapping[str, AbxResult],
    *,
    frame_rate: float,
    facts: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
) -> Scores:
    """Return the error of each layer in percent, for every ordered phone pair."""
    from fairseq_vgs.metrics.abx import pair_errors

    cells, counts = _any(layers).cells, asdict(_any(layers).counts)
    values = {name: 100.0 * pair_errors(cells, layer.cell_errors) for name, layer in layers.items()}
    return Scores(
        {PAIRS: pair_items(cells.pairs, values, same_as=cells_digest(cells))},
        {name: Reported("%", CHANCE, n=len(cells)) for name in layers},
        facts=facts or {},
        details={"frame_rate": frame_rate, "counts": counts, "seconds": round(seconds, 3)},
        extra=layers,
    )


def pair_items(pairs: Sequence[tuple[str, str]], values: Mapping[str, Any], *, same_as: str = "") -> Items:
    """Return ordered phone pairs (a, b) as items, of which phones are resampled.

    ``values``: layer -> f64[pairs] error in percent; ``same_as``: digest of the cells behind the pairs.
    """
    _, phones = numbered_pairs(pairs)
    ids = {"phone_a": [a for a, _ in pairs], "phone_b": [b for _, b in pairs]}
    return Items(ids, phones, "phones", values, same_as)


def cells_digest(cells: AbxCells) -> str:
    """Hash cells: two models on the same cells, with equal triples, can be subtracted."""
    columns = [list(map(str, column)) for column in _cell_columns(cells)]
    return sha256(json.dumps(columns).encode()).hexdigest()


def is_collapsed(layers: Mapping[str, AbxResult]) -> bool:
    """Whether every cell of every layer is exactly at chance: all frames are equal."""
    return all(bool(np.all(layer.cell_errors == 0.5)) for layer in layers.values())


def describe_counts(counts: Mapping[str, int]) -> str:
    """Describe in one line what was compared and left out, from ``AbxCounts`` as JSON."""
    left_out = {
        "without a frame": counts["no_frame"],
        "drawn out of large groups": counts["subsampled"],
        "without a partner": counts["no_partner"],
    }
    parts = [f"{counts['items']} items, {counts['cells']} cells, {counts['phone_pairs']} ordered phone pairs"]
    if reasons := [f"{n} {reason}" for reason, n in left_out.items() if n]:
        parts.append(f"left out: {', '.join(reasons)}")
    if counts["clamped"]:
        parts.append(f"{counts['clamped']} cut by a frame at the end of their recording")
    if counts["overlapping"]:
        parts.append(f"{counts['overlapping']} pairs of tokens share frames and are compared anyway")
    return "; ".join(parts)


def _any(layers: Mapping[str, AbxResult]) -> AbxResult:
    """Return one layer, for what all have in common."""
    return next(iter(layers.values()))


def _cell_columns(cells: AbxCells) -> list[Sequence[Any]]:
    named = ((cells.pairs, cells.pair), (cells.contexts, cells.context))
    both = [[names[n][side] for n in column.tolist()] for names, column in named for side in (0, 1)]
    speakers = [[cells.speakers[n] for n in column.tolist()] for column in (cells.speaker, cells.x_speaker)]
    return [*both, *speakers, cells.n_triples.tolist()]
