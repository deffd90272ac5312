"""A page of queries, heard or seen, with the answers that a model ranks highest.

The folder (``index.html`` and ``media/``) works without a server or network. With the model, spoken queries
get heat maps (``features.occlusion``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairseq_vgs.arrays import F32, F64, I64
from fairseq_vgs.evaluation.evaluators.retrieval import Embedded, read_retrieval
from fairseq_vgs.evaluation.results import METRICS_NAME, Metric, ResultsError, written_by
from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.output import refuse_existing, try_output
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.tables import read_audio_list, read_images, read_pairs
from fairseq_vgs.media.pictures import say_first_frames
from fairseq_vgs.metrics.retrieval import DIRECTIONS, RECALL_CUTOFFS, RankedItem, best_answers
from fairseq_vgs.report.gallery_heat import NOTE, HeatFigure, draw_cells, draw_loudness, peak_heat
from fairseq_vgs.report.gallery_media import FOLDER_NAME, MediaFolder
from fairseq_vgs.report.page import GALLERY_NAME, render_page

if TYPE_CHECKING:
    from fairseq_vgs.features.occlusion import Occlusion

N_ANSWERS = 5


@dataclass(frozen=True)
class Choice:
    """A query to show: drawn at random, or one of the worst."""

    index: int
    is_worst: bool


@dataclass(frozen=True)
class Answer:
    """A clip or a picture on the page, at an ``address`` relative to the page (None: it cannot be shown).

    ``label`` is the caption's text or an id; ``is_below`` marks the correct answer below the best ones. A
    query has no rank and score.
    """

    address: str | None
    label: str
    has_text: bool = False
    speaker: str = ""
    is_hit: bool = False
    rank: float = 0.0
    score: float = math.nan
    is_below: bool = False

    @property
    def score_text(self) -> str:
        """Score with equally many decimals in all answers, and a minus sign."""
        return f"{self.score:z.3f}".replace("-", "−")


@dataclass(frozen=True)
class Card:
    """A query with its best answers, and the correct one if it is not among them.

    ``rank`` is that of the best correct answer among ``n_gallery`` items; ties count half. A spoken query may
    have heat maps with the first and the correct picture.
    """

    query: Answer
    rank: float
    n_gallery: int
    is_worst: bool
    answers: Sequence[Answer]
    heats: Sequence[HeatFigure] = ()


_Heats = Callable[[int, Sequence[Answer]], Sequence[HeatFigure]]


@dataclass(frozen=True)
class _Side:
    """Speech or images: vectors, groups of matching items, ranks as queries, and how to show an item."""

    vectors: F32
    groups: I64
    ranks: F64
    show: Callable[[int], Answer]


def build_gallery(
    results_folder: Path,
    data_folder: Path,
    output: Path,
    *,
    n_queries: int = 12,
    seed: int = 1,
    plot: Path | None = None,
    heat_maps: Occlusion | None = None,
    force: bool = False,
) -> Path:
    """Write a gallery of results of ``fairseq-vgs evaluate retrieval``; return the path of the page.

    Media of the data folder are copied. Of ``n_queries`` per direction, a quarter are the worst, and the
    others are drawn at random. ``plot`` is a PNG to show on the page, such as training curves; ``heat_maps``
    computes those of the evaluated model for spoken queries.

    Raises:
        ResultsError: the results cannot be read, or ``results.other_data``.
        FaultError: a table or a clip cannot be read, or ``output.unwritable``.
        OutputExistsError: there is a gallery and ``force`` is off; nothing is read then.
    """
    page_path = output / GALLERY_NAME
    refuse_existing(page_path, force=force)
    try_output(output, option="OUTPUT")
    metrics, items = read_retrieval(results_folder)
    media, similarity = MediaFolder(output / FOLDER_NAME), items.similarity
    speech, images = _open_sides(data_folder, str(metrics["split"]), items, results_folder, media)

    def heats(caption: int, answers: Sequence[Answer]) -> list[HeatFigure]:
        return _heat_figures(items.audio_ids[caption], answers, media, heat_maps) if heat_maps else []

    spoken, seen = (choose_queries(side.ranks, n_queries, seed=seed) for side in (speech, images))
    cards = {
        "speech_to_image": [_card(speech, images, choice, similarity, heats) for choice in spoken],
        "image_to_speech": [_card(images, speech, choice, similarity) for choice in seen],
    }
    with written_by("fairseq-vgs evaluate retrieval", results_folder / METRICS_NAME):
        summary = summary_rows(metrics)
    page = render_page(
        "gallery.html.j2",
        metrics=metrics,
        summary=summary,
        cutoffs=RECALL_CUTOFFS,
        cards=cards,
        n_answers=N_ANSWERS,
        plot=media.add_plot(plot) if plot is not None else None,
        seed=seed,
        heat_note=NOTE,
        n_unreadable_pictures=media.n_unreadable_pictures,
    )
    write_text(page_path, page, force=force)
    media.remove_stale()
    say_first_frames(media.animated)
    return page_path


def choose_queries(ranks: F64, n_queries: int, *, seed: int) -> list[Choice]:
    """Draw queries by f64[Q] ranks (NaN: none); a quarter, at least one, are the worst, if any failed."""
    usable = np.flatnonzero(~np.isnan(ranks))
    n_queries = min(n_queries, len(usable))
    n_worst = min(max(1, n_queries // 4), int(np.count_nonzero(ranks[usable] > 1)), n_queries)
    worst = usable[np.argsort(-ranks[usable], kind="stable")[:n_worst]]
    others = np.setdiff1d(usable, worst)
    drawn = np.random.default_rng(seed).choice(others, size=n_queries - n_worst, replace=False)
    return [Choice(int(index), False) for index in drawn] + [Choice(int(index), True) for index in worst]


def summary_rows(metrics: Mapping[str, Any]) -> dict[str, list[tuple[str, list[str]]]]:
    """Return the summary table by direction: title and cells of every model, then of chance.

    Raises:
        ResultsError: ``results.broken``.
    """
    models = metrics.get("models")
    if not isinstance(models, Mapping) or not models:
        message = "must hold models; run fairseq-vgs evaluate retrieval again"
        raise ResultsError.at("metrics.json", message, "results.broken")
    summary = {}
    for direction in DIRECTIONS:
        rows, chance = [], list[str]()
        for name, model in models.items():
            found = {key: Metric.from_json(value) for key, value in model["metrics"].items()}
            recalls = [found[f"{direction}_r{k}"] for k in RECALL_CUTOFFS]
            rank = found[f"{direction}_median_rank"]
            title = f"{name} ({model['n_updates']} updates)" if model["trained"] else name
            rows.append((title, [*map(str, recalls), f"{rank.value.value:g}"]))
            chance = [*(f"{recall.chance:.1f}" for recall in recalls), f"{rank.chance:g}"]
        summary[direction] = [*rows, ("chance", chance)]
    return summary


def _open_sides(
    folder: Path, split: str, items: Embedded, place: Path, media: MediaFolder
) -> tuple[_Side, _Side]:
    """Read the data folder: speech, images."""
    manifest = ManifestFolder(folder)
    audio, images = read_audio_list(manifest.audio_list(split)), read_images(manifest.images)
    pairs = {row.audio_id: row for row in read_pairs(manifest.pairs(split))}
    paths = {row.image_id: row.path for row in images.rows}
    unknown = [name for name in items.audio_ids if name not in pairs]
    unknown += [name for name in items.image_ids if name not in paths]
    if unknown:
        message = (
            f"results must be of split {split} in {folder}, got {len(unknown)} unknown ids "
            f"(first: {unknown[0]}); give the data folder that was evaluated"
        )
        raise ResultsError.at(place, message, "results.other_data")

    def caption(number: int) -> Answer:
        pair = pairs[items.audio_ids[number]]
        address = media.add_audio(audio.root, pair.audio_id)
        return Answer(address, pair.text or pair.audio_id, bool(pair.text), pair.speaker)

    def picture(number: int) -> Answer:
        image_id = items.image_ids[number]
        return Answer(media.add_picture(images.root, paths[image_id]), image_id)

    return (
        _Side(items.speech, items.pool.speech_groups, items.ranks.speech_to_image, caption),
        _Side(items.images, items.pool.image_groups, items.ranks.image_to_speech, picture),
    )


def _card(
    queries: _Side, gallery: _Side, choice: Choice, similarity: str, heats: _Heats | None = None
) -> Card:
    answers = _answers(queries, gallery, choice.index, similarity)
    drawn = heats(choice.index, answers) if heats else ()
    rank = float(queries.ranks[choice.index])
    return Card(queries.show(choice.index), rank, len(gallery.vectors), choice.is_worst, answers, drawn)


def _answers(queries: _Side, gallery: _Side, query: int, similarity: str) -> list[Answer]:
    vector, is_correct = queries.vectors[[query]], gallery.groups == queries.groups[query]
    best = best_answers(vector, gallery.vectors, is_correct, n_top=N_ANSWERS, similarity=similarity)
    return [answer_with(gallery.show(one.item), one) for one in best]


def answer_with(answer: Answer, ranked: RankedItem) -> Answer:
    """Return an answer with its rank and score."""
    return replace(
        answer,
        is_hit=ranked.is_correct,
        rank=ranked.rank,
        score=ranked.score,
        is_below=ranked.is_below,
    )


def _heat_figures(
    audio_id: str, answers: Sequence[Answer], media: MediaFolder, heat_maps: Occlusion
) -> list[HeatFigure]:
    """Draw a caption's heat maps with the first and the correct picture, on one colour scale."""
    shown = [answers[0], *[answer for answer in answers[1:] if answer.is_hit][:1]]
    heats = [heat_maps.heat_map(audio_id, answer.label) for answer in shown]
    peak = peak_heat(heats)
    figures = []
    for answer, heat in zip(shown, heats, strict=True):
        title = f"Rank {answer.rank:g}, {'✓ correct' if answer.is_hit else 'wrong'}"
        cells = media.add_heat_map(draw_cells(heat, peak))
        loudness = media.add_heat_map(draw_loudness(heat))
        figures.append(HeatFigure(title, answer.is_hit, answer.address, cells, loudness, heat, peak))
    return figures
