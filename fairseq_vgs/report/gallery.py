"""A page of queries, heard or seen, with the answers that a model ranks highest.

The folder (``index.html`` and ``media/``) works without a server or network. With the model, spoken queries
get heat maps (``features.occlusion``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fairseq_vgs.arrays import F32, F64, I64
from fairseq_vgs.evaluation.evaluators.retrieval import RetrievalResults, read_retrieval
from fairseq_vgs.evaluation.results import Metric, ResultsError
from fairseq_vgs.features.heat_map import HeatMap
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.output import refuse_existing, try_output
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.schema import PairRow
from fairseq_vgs.manifest.tables import read_audio_list, read_images, read_pairs
from fairseq_vgs.metrics.retrieval import DIRECTIONS, RECALL_CUTOFFS, top_items
from fairseq_vgs.report.gallery_heat import NOTE, HeatFigure, draw_cells, draw_loudness, peak_heat
from fairseq_vgs.report.gallery_media import FOLDER_NAME, MediaFolder
from fairseq_vgs.report.page import render_page

PAGE_NAME = "index.html"
N_ANSWERS = 5


@dataclass(frozen=True)
class Choice:
    """A query to show: drawn at random, or one of the worst."""

    index: int
    is_worst: bool


class HeatMaps(Protocol):
    """Computes heat maps, as ``occlusion.Occlusion`` does."""

    def heat_map(self, audio_id: str, image_id: str) -> HeatMap:
        """Compute the heat of a picture's regions over a caption."""
        ...


@dataclass(frozen=True)
class Answer:
    """A clip or a picture on the page.

    Attributes:
        address: file relative to the page; None if it cannot be shown.
        label: the caption's text, or an id.
        has_text: whether the label is the caption's text.
        speaker: empty if unknown.
        is_hit: whether it is a correct answer.
        rank: place in the list; 0 for a query.
        score: similarity to the query.
        is_below: whether it is the correct answer shown below the best ones.
    """

    address: str | None
    label: str
    has_text: bool = False
    speaker: str = ""
    is_hit: bool = False
    rank: float = 0.0
    score: float = math.nan
    is_below: bool = False


@dataclass(frozen=True)
class Card:
    """A query with its best answers, and the correct one if it is not among them.

    Attributes:
        query: clip or picture.
        rank: rank of the best correct answer; ties count half.
        n_gallery: number of ranked items.
        is_worst: whether it was chosen for its rank.
        answers: best first.
        heats: heat maps of a spoken query with the first and the correct picture.
    """

    query: Answer
    rank: float
    n_gallery: int
    is_worst: bool
    answers: Sequence[Answer]
    heats: Sequence[HeatFigure] = ()


@dataclass(frozen=True)
class _Side:
    """Speech or images: vectors, groups of matching items, and how to show an item."""

    vectors: F32
    groups: I64
    show: Callable[[int], Answer]


@dataclass(frozen=True)
class _Source:
    """What a gallery reads of the data folder: paths of media, and captions."""

    audio_root: Path
    image_root: Path
    image_paths: Mapping[str, str]
    pairs: Mapping[str, PairRow]


def build_gallery(
    results_folder: Path,
    data_folder: Path,
    output: Path,
    *,
    n_queries: int = 12,
    seed: int = 1,
    plot: Path | None = None,
    heat_maps: HeatMaps | None = None,
    force: bool = False,
) -> Path:
    """Write a gallery of retrieval results.

    Args:
        results_folder: written by ``fairseq-vgs evaluate retrieval``.
        data_folder: the data folder that was evaluated; its media are copied.
        output: the gallery's folder.
        n_queries: queries per direction; a quarter are the worst, the others are drawn at random.
        seed: of the draw.
        plot: a PNG to show on the page, such as training curves.
        heat_maps: computes heat maps of the evaluated model for spoken queries.
        force: replace an existing gallery.

    Returns:
        Path of the page.

    Raises:
        ResultsError: the results cannot be read, or ``results.other_data``.
        FaultError: a table or a clip cannot be read.
        OutputExistsError: there is a gallery and ``force`` is off.
    """
    page_path = output / PAGE_NAME
    refuse_existing(page_path, force=force)
    try_output(output)
    results = read_retrieval(results_folder)
    source = _open_source(data_folder, results, results_folder)
    media = MediaFolder(output / FOLDER_NAME)
    cards = {
        direction: _cards(results, source, media, direction, n_queries, seed, heat_maps)
        for direction in DIRECTIONS
    }
    page = render_page(
        "gallery.html.j2",
        metrics=results.metrics,
        summary=summary_rows(results.metrics),
        cutoffs=RECALL_CUTOFFS,
        cards=cards,
        n_answers=N_ANSWERS,
        plot=media.add_plot(plot) if plot is not None else None,
        seed=seed,
        heat_note=NOTE,
        n_unreadable_pictures=media.n_unreadable_pictures,
    )
    with atomic_write(page_path, force=force) as file:
        file.write(page)
    media.remove_stale()
    return page_path


def choose_queries(ranks: F64, n_queries: int, *, seed: int) -> list[Choice]:
    """Draw queries, and choose the worst ranks for a quarter (at least one), if any query failed.

    Args:
        ranks: f64[Q]; NaN: not a query.
        n_queries: at most this many.
        seed: of the draw.
    """
    usable = np.flatnonzero(~np.isnan(ranks))
    n_queries = min(n_queries, len(usable))
    n_worst = min(max(1, n_queries // 4), int(np.count_nonzero(ranks[usable] > 1)), n_queries)
    worst = usable[np.argsort(-ranks[usable], kind="stable")[:n_worst]]
    others = np.setdiff1d(usable, worst)
    drawn = np.random.default_rng(seed).choice(others, size=n_queries - n_worst, replace=False)
    return [Choice(int(index), False) for index in drawn] + [Choice(int(index), True) for index in worst]


def summary_rows(metrics: Mapping[str, Any]) -> dict[str, list[tuple[str, list[str]]]]:
    """Return the summary table by direction: title and cells of every model, then of chance."""
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


def _open_source(folder: Path, results: RetrievalResults, results_folder: Path) -> _Source:
    manifest, split = ManifestFolder(folder), str(results.metrics["split"])
    audio, images = read_audio_list(manifest.audio_list(split)), read_images(manifest.images)
    pairs = {row.audio_id: row for row in read_pairs(manifest.pairs(split))}
    paths = {row.image_id: row.path for row in images.rows}
    items = results.items
    unknown = [name for name in items.audio_ids if name not in pairs]
    unknown += [name for name in items.image_ids if name not in paths]
    if unknown:
        message = (
            f"results must be of split {split} in {folder}, got {len(unknown)} unknown ids "
            f"(first: {unknown[0]}); give the data folder that was evaluated"
        )
        raise ResultsError.at(results_folder, message, "results.other_data")
    return _Source(audio.root, images.root, paths, pairs)


def _cards(
    results: RetrievalResults,
    source: _Source,
    media: MediaFolder,
    direction: str,
    n_queries: int,
    seed: int,
    heat_maps: HeatMaps | None,
) -> list[Card]:
    """Make the cards of one direction; only spoken queries get heat maps."""
    items, pool = results.items, results.items.pool

    def caption(number: int) -> Answer:
        pair = source.pairs[items.audio_ids[number]]
        address = media.add_audio(source.audio_root, pair.audio_id)
        return Answer(address, pair.text or pair.audio_id, bool(pair.text), pair.speaker)

    def picture(number: int) -> Answer:
        image_id = items.image_ids[number]
        return Answer(media.add_picture(source.image_root, source.image_paths[image_id]), image_id)

    speech = _Side(items.speech, pool.speech_groups, caption)
    images = _Side(items.images, pool.image_groups, picture)
    is_spoken = direction == "speech_to_image"
    queries, gallery = (speech, images) if is_spoken else (images, speech)
    ranks: F64 = getattr(results.ranks, direction)
    cards = []
    for choice in choose_queries(ranks, n_queries, seed=seed):
        rank = float(ranks[choice.index])
        answers = _answers(queries, gallery, choice.index, rank, items.similarity)
        heats: list[HeatFigure] = []
        if is_spoken and heat_maps is not None:
            heats = _heat_figures(items.audio_ids[choice.index], answers, media, heat_maps)
        query = queries.show(choice.index)
        cards.append(Card(query, rank, len(gallery.vectors), choice.is_worst, answers, heats))
    return cards


def _answers(queries: _Side, gallery: _Side, query: int, rank: float, similarity: str) -> list[Answer]:
    """List the best answers, then the best correct one if it is not among them."""
    vector, is_right = queries.vectors[[query]], gallery.groups == queries.groups[query]
    best = top_items(vector, gallery.vectors, n_top=N_ANSWERS, similarity=similarity)
    answers = [
        replace(gallery.show(int(item)), is_hit=bool(is_right[item]), rank=place, score=float(score))
        for place, (item, score) in enumerate(zip(best.index[0], best.score[0], strict=True), start=1)
    ]
    if not any(answer.is_hit for answer in answers):
        own = np.flatnonzero(is_right)
        best = top_items(vector, gallery.vectors[own], n_top=1, similarity=similarity)
        correct = gallery.show(int(own[best.index[0, 0]]))
        score = float(best.score[0, 0])
        answers.append(replace(correct, is_hit=True, rank=rank, score=score, is_below=True))
    return answers


def _heat_figures(
    audio_id: str, answers: Sequence[Answer], media: MediaFolder, heat_maps: HeatMaps
) -> list[HeatFigure]:
    """Draw a caption's heat maps with the first and the correct picture, on one colour scale."""
    shown = [answers[0], *[answer for answer in answers[1:] if answer.is_hit][:1]]
    heats = [heat_maps.heat_map(audio_id, answer.label) for answer in shown]
    peak = peak_heat(heats)
    return [
        HeatFigure(
            f"Rank {answer.rank:g}, {'✓ correct' if answer.is_hit else 'wrong'}",
            answer.is_hit,
            answer.address,
            media.add_heat_map(draw_cells(heat, peak)),
            media.add_heat_map(draw_loudness(heat)),
            heat,
            peak,
        )
        for answer, heat in zip(shown, heats, strict=True)
    ]
