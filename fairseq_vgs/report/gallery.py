"""A page to look at and listen to: queries with the answers that a model ranks highest.

Everything lies in one folder (``index.html`` and ``media/``) and works from there, without a server or a
network. With a model at hand, spoken queries come with heat maps: see `occlusion`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.metrics.retrieval import DIRECTIONS, RECALL_CUTOFFS, top_items
from fairseq_vgs.evaluation.results import Metric, ResultsError
from fairseq_vgs.evaluation.retrieval_figures import percentage
from fairseq_vgs.evaluation.retrieval_results import RetrievalResults, read_retrieval
from fairseq_vgs.features.heat_map import HeatMap
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.schema import PairRow
from fairseq_vgs.manifest.tables import read_audio_list, read_images, read_pairs
from fairseq_vgs.report.gallery_heat import HeatFigure, draw_cells, peak_heat
from fairseq_vgs.report.gallery_media import FOLDER_NAME, MediaFolder
from fairseq_vgs.report.gallery_page import Answer, Card, GalleryPage, SummaryRow, render_page

logger = logging.getLogger(__name__)

PAGE_NAME = "index.html"
N_ANSWERS = 5

FloatArray = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Choice:
    """One query to show, and why: drawn at random, or one of the worst."""

    index: int
    is_worst: bool


class HeatMaps(Protocol):
    """What computes heat maps: `occlusion.Occlusion`."""

    def heat_map(self, audio_id: str, image_id: str) -> HeatMap:
        """Compute the heat of a picture's regions over a caption."""
        ...


@dataclass(frozen=True)
class _Source:
    """The manifest's side of a gallery: where media lie, and what is said about captions."""

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
        data_folder: the manifest folder that was evaluated; media are copied from where it says.
        output: the gallery's folder.
        n_queries: queries of each direction; a quarter are the worst ones, the rest is drawn at random.
        seed: of the drawing.
        plot: a PNG to show on the page, such as the training curves.
        heat_maps: of the model that was evaluated; for each spoken query, its first picture and the correct
            one.
        force: replace an existing gallery.

    Returns:
        Path of the page.

    Raises:
        ResultsError: the results cannot be read, or are of another data set.
        FaultError: the tables or a clip cannot be read.
        FileExistsError: there is a gallery and ``force`` is off.
    """
    page_path = output / PAGE_NAME
    if page_path.exists() and not force:
        raise FileExistsError(f"{page_path}: already exists; pass --force to replace it")
    results = read_retrieval(results_folder)
    source = _open_source(data_folder, results, results_folder)
    media = MediaFolder(output / FOLDER_NAME)
    speech_choices = choose_queries(results.ranks.speech_to_image, n_queries, seed=seed)
    image_choices = choose_queries(results.ranks.image_to_speech, n_queries, seed=seed)
    page = GalleryPage(
        metrics=results.metrics,
        summary=summary_rows(results.metrics),
        speech_cards=_speech_cards(results, source, media, speech_choices, heat_maps),
        image_cards=_image_cards(results, source, media, image_choices),
        plot=media.add_plot(plot) if plot is not None else None,
        seed=seed,
        n_unreadable_pictures=media.n_unreadable_pictures,
    )
    with atomic_write(page_path, force=force) as file:
        file.write(render_page(page))
    media.remove_stale()
    return page_path


def choose_queries(ranks: FloatArray, n_queries: int, *, seed: int) -> list[Choice]:
    """Choose a seeded draw of queries, and for a quarter (at least one) the worst ranks, if any query failed.

    Args:
        ranks: f64[Q]; NaN is no query.
        n_queries: how many; fewer if there are not as many.
        seed: of the draw.
    """
    usable = np.flatnonzero(~np.isnan(ranks))
    n_queries = min(n_queries, len(usable))
    n_worst = min(max(1, n_queries // 4), int(np.count_nonzero(ranks[usable] > 1)), n_queries)
    worst = usable[np.argsort(-ranks[usable], kind="stable")[:n_worst]]
    others = np.setdiff1d(usable, worst)
    drawn = np.random.default_rng(seed).choice(others, size=n_queries - n_worst, replace=False)
    return [Choice(int(index), False) for index in drawn] + [Choice(int(index), True) for index in worst]


def summary_rows(metrics: Mapping[str, object]) -> list[SummaryRow]:
    """Rows of the summary table: every model, then chance, in both directions."""
    models = metrics.get("models")
    if not isinstance(models, Mapping) or not models:
        raise ResultsError("metrics.json: must hold models; run fairseq-vgs evaluate retrieval again")
    rows = []
    for direction in DIRECTIONS:
        chance: list[str] = []
        for name, model in models.items():
            found = {key: Metric.from_json(value) for key, value in model["metrics"].items()}
            recalls = [found[f"{direction}_r{k}"] for k in RECALL_CUTOFFS]
            cells = [percentage(metric) for metric in recalls]
            cells.append(f"{found[f'{direction}_median_rank'].value.value:g}")
            title = f"{name} ({model['n_updates']} updates)" if model["trained"] else name
            rows.append(SummaryRow(direction, title, cells))
            chance = [f"{m.chance:.1f}" for m in recalls] + [f"{found[f'{direction}_median_rank'].chance:g}"]
        rows.append(SummaryRow(direction, "chance", chance))
    return rows


def _open_source(folder: Path, results: RetrievalResults, results_folder: Path) -> _Source:
    manifest, split = ManifestFolder(folder), str(results.metrics["split"])
    audio, images = read_audio_list(manifest.audio_list(split)), read_images(manifest.images)
    pairs = {row.audio_id: row for row in read_pairs(manifest.pairs(split))}
    paths = {row.image_id: row.path for row in images.rows}
    items = results.items
    unknown = [name for name in items.audio_ids if name not in pairs]
    unknown += [name for name in items.image_ids if name not in paths]
    if unknown:
        raise ResultsError(
            f"{results_folder}: results must be of split {split} in {folder}, got {len(unknown)} ids that "
            f"are not there (first: {unknown[0]}); give the folder that was evaluated"
        )
    return _Source(audio.root, images.root, paths, pairs)


def _speech_cards(
    results: RetrievalResults,
    source: _Source,
    media: MediaFolder,
    choices: list[Choice],
    heat_maps: HeatMaps | None,
) -> list[Card]:
    items, cards = results.items, []
    chosen = [choice.index for choice in choices]
    best = top_items(items.speech[chosen], items.images, n_top=N_ANSWERS, similarity=items.similarity)
    for row, choice in enumerate(choices):
        group = items.pool.speech_groups[choice.index]
        answers = [
            _picture(
                results,
                source,
                media,
                int(image),
                is_hit=items.pool.image_groups[image] == group,
                score=score,
            )
            for image, score in zip(best.index[row], best.score[row].tolist(), strict=True)
        ]
        correct = None
        if not any(answer.is_hit for answer in answers):
            positive = items.pool.image_groups == group
            number, score = _best_positive(
                items.speech[choice.index], items.images, positive, items.similarity
            )
            correct = _picture(results, source, media, number, is_hit=True, score=score)
        query = _caption(results, source, media, choice.index)
        rank = float(results.ranks.speech_to_image[choice.index])
        shown = [*enumerate(answers, start=1), *([(rank, correct)] if correct else [])]
        chosen_answers = [shown[0], *[item for item in shown[1:] if item[1].is_hit][:1]]
        heats = _heat_figures(items.audio_ids[choice.index], chosen_answers, media, heat_maps)
        cards.append(Card(query, rank, len(items.image_ids), choice.is_worst, answers, correct, heats))
    return cards


def _heat_figures(
    audio_id: str, answers: list[tuple[float, Answer]], media: MediaFolder, heat_maps: HeatMaps | None
) -> list[HeatFigure]:
    """Draw a caption's heat maps, all with one scale of colours."""
    if heat_maps is None:
        return []
    heats = [heat_maps.heat_map(audio_id, answer.label) for _, answer in answers]
    peak = peak_heat(heats)
    return [
        HeatFigure(
            f"Rank {rank:g}, {'✓ correct' if answer.is_hit else 'wrong'}",
            answer.is_hit,
            answer.address,
            media.add_heat_map(draw_cells(heat, peak)),
            heat,
            peak,
        )
        for (rank, answer), heat in zip(answers, heats, strict=True)
    ]


def _image_cards(
    results: RetrievalResults, source: _Source, media: MediaFolder, choices: list[Choice]
) -> list[Card]:
    items, cards = results.items, []
    chosen = [choice.index for choice in choices]
    best = top_items(items.images[chosen], items.speech, n_top=N_ANSWERS, similarity=items.similarity)
    for row, choice in enumerate(choices):
        group = items.pool.image_groups[choice.index]
        answers = [
            _caption(
                results,
                source,
                media,
                int(caption),
                is_hit=items.pool.speech_groups[caption] == group,
                score=score,
            )
            for caption, score in zip(best.index[row], best.score[row].tolist(), strict=True)
        ]
        correct = None
        if not any(answer.is_hit for answer in answers):
            positive = items.pool.speech_groups == group
            number, score = _best_positive(
                items.images[choice.index], items.speech, positive, items.similarity
            )
            correct = _caption(results, source, media, number, is_hit=True, score=score)
        query = _picture(results, source, media, choice.index)
        rank = float(results.ranks.image_to_speech[choice.index])
        cards.append(Card(query, rank, len(items.audio_ids), choice.is_worst, answers, correct))
    return cards


def _best_positive(
    query: Vectors, gallery: Vectors, positive: npt.NDArray[np.bool_], similarity: str
) -> tuple[int, float]:
    """Return number and score of the correct answer whose rank counts: the best-scoring one."""
    own = np.flatnonzero(positive)
    best = top_items(query[None, :], gallery[own], n_top=1, similarity=similarity)
    return int(own[best.index[0, 0]]), float(best.score[0, 0])


def _caption(
    results: RetrievalResults,
    source: _Source,
    media: MediaFolder,
    number: int,
    *,
    is_hit: bool = False,
    score: float | None = None,
) -> Answer:
    audio_id = results.items.audio_ids[number]
    pair = source.pairs[audio_id]
    address = media.add_audio(source.audio_root, audio_id)
    return Answer(address, pair.text or audio_id, bool(pair.text), pair.speaker, bool(is_hit), score)


def _picture(
    results: RetrievalResults,
    source: _Source,
    media: MediaFolder,
    number: int,
    *,
    is_hit: bool = False,
    score: float | None = None,
) -> Answer:
    image_id = results.items.image_ids[number]
    address = media.add_picture(source.image_root, source.image_paths[image_id])
    return Answer(address, image_id, False, "", bool(is_hit), score)
