"""``fairseq-vgs evaluate retrieval``: images by speech, and speech by images.

Besides the common files, a results folder has:

```
speech_to_image.csv    audio_id, image_id, group, rank, top_image_id, top_score (and each baseline's rank;
                       with --folds fold_rank, within the query's own pool)
image_to_speech.csv    image_id, group, rank, top_audio_id, top_score (no rank: an image without captions)
speech_embeddings.npy  f32[C, E], rows as in speech_to_image.csv
image_embeddings.npy   f32[I, E], rows as in image_to_speech.csv
```

Shapes: ``C`` captions, ``I`` images, ``E`` embedding dims.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fairseq_vgs.arrays import F32, F64, I64, np
from fairseq_vgs.evaluation.evaluator import EVALUATORS, UNTRAINED, CommonSettings, Evaluator, Model
from fairseq_vgs.evaluation.results import (
    Items,
    Reported,
    Result,
    ResultsError,
    Scores,
    read_array,
    read_result,
    read_table,
    write_table,
    written_by,
)
from fairseq_vgs.files.atomic import write_array
from fairseq_vgs.files.text_tables import text_table
from fairseq_vgs.metrics.intervals import Statistic, hits
from fairseq_vgs.metrics.pools import Folds, Pool, chance_values, deal_images, fold_ranks, within_pools
from fairseq_vgs.options import option, positive_number

if TYPE_CHECKING:
    from fairseq_vgs.features.embeddings import EvaluationSplit
    from fairseq_vgs.metrics.retrieval import RetrievalRanks

logger = logging.getLogger(__name__)

KIND = "retrieval"
DIRECTION_TITLES = {"speech_to_image": "speech -> image", "image_to_speech": "image -> speech"}
CUTOFFS = (1, 5, 10)
COLLAPSED_SPREAD = 0.01

SPEECH_TABLE, IMAGE_TABLE = "speech_to_image.csv", "image_to_speech.csv"
SPEECH_ARRAY, IMAGE_ARRAY = "speech_embeddings.npy", "image_embeddings.npy"


def query_values(ranks: F64, direction: str) -> dict[str, F64]:
    """Return the values of every query for R@1/5/10, median rank and MRR of one direction."""
    values = {f"{direction}_r{k}": hits(ranks <= k) for k in CUTOFFS}
    return {**values, f"{direction}_median_rank": ranks, f"{direction}_mrr": 1.0 / ranks}


def reported(chance: Mapping[str, float]) -> dict[str, Reported]:
    """Describe how the metrics of ``query_values`` are reported, both directions; some may have no chance."""
    kinds: dict[str, tuple[str, Statistic]] = {
        **{f"r{k}": ("%", "hits") for k in CUTOFFS},
        "median_rank": ("rank", "median"),
        "mrr": ("", "mean"),
    }
    return {
        (name := f"{direction}_{kind}"): Reported(unit, chance.get(name), statistic)
        for direction in DIRECTION_TITLES
        for kind, (unit, statistic) in kinds.items()
    }


def rank_items(
    ranks: RetrievalRanks, pool: Pool, *, audio_ids: Sequence[str] = (), image_ids: Sequence[str] = ()
) -> dict[str, Items]:
    """Return both directions' queries and their values; images without captions are not queries."""
    asked = np.flatnonzero(np.isin(pool.image_groups, pool.speech_groups)).tolist()
    seen = [image_ids[row] for row in asked] if image_ids else []
    found = {}
    for direction, column, ids in (
        ("speech_to_image", "audio_id", audio_ids),
        ("image_to_speech", "image_id", seen),
    ):
        values = query_values(ranks.direction(direction), direction)
        names = {column: ids} if ids else {}
        found[direction] = Items(names, pool.sides(direction)[0], "images", values)
    return found


def fold_scores(ranks: RetrievalRanks, folds: Folds) -> tuple[dict[str, Items], dict[str, Reported]]:
    """Return the recalls within pools: queries with their values, and how they are reported."""
    from fairseq_vgs.metrics.retrieval import chance_recall

    items, metrics, within = {}, {}, within_pools(folds.as_json())
    for direction in DIRECTION_TITLES:
        found, queries = ranks.direction(direction), folds.whole.sides(direction)[0]
        sides = [part.sides(direction) for _, _, part in folds.parts()]
        weights = [len(part) for part, _ in sides]
        values = {f"{direction}_r{k}{within}": hits(found <= k) for k in CUTOFFS}
        items[f"{direction}{within}"] = Items({}, queries, "images", values)
        for k, name in zip(CUTOFFS, values, strict=True):
            chance = float(np.average([chance_recall(*side, k) for side in sides], weights=weights))
            metrics[name] = Reported("%", chance, "hits")
    return items, metrics


@dataclass(frozen=True)
class Embedded:
    """f32[C, E] and f32[I, E] embeddings of a pool, and the ranks that follow from them.

    ``caption_image``: int64[C] number of each caption's image; ``similarity``: "dot" or "cosine";
    ``fold_ranks``: ranks within pools, None without ``--folds``.
    """

    audio_ids: Sequence[str]
    image_ids: Sequence[str]
    caption_image: I64
    pool: Pool
    speech: F32
    images: F32
    similarity: str
    ranks: RetrievalRanks
    fold_ranks: RetrievalRanks | None = None


@dataclass(frozen=True)
class RetrievalSettings(CommonSettings):
    """Options of ``evaluate retrieval``."""

    folds: int | None = option(
        None,
        metavar="N",
        help="also recalls within N disjoint pools of images, such as 5 of 1k images of a 5k split; dealt at "
        "random, while the customary folds of COCO are consecutive blocks of its images",
    )
    batch_seconds: float = option(
        120.0, parse=positive_number, metavar="S", help="most speech in a batch, padding included"
    )
    not_conditions: ClassVar[tuple[str, ...]] = ("folds", "batch_seconds")


@EVALUATORS.register(KIND)
class Retrieval(Evaluator):
    """Recall of images by speech and of speech by images."""

    name = KIND
    summary = "recall of images by speech and of speech by images"
    description = """\
Speech-image retrieval: every spoken caption ranks the split's images, and every image ranks the spoken
captions (a hit if any of its captions is within the top k). The same model with fresh weights and chance are
shown for comparison. Intervals are 95 %, over resampled images. Speech is unmasked, and cut as in the run's
validation.
"""
    examples = """\
retrieval RUN DATA
retrieval checkpoint_best.pt DATA --split valid --output outputs/results/valid
retrieval checkpoint_best.pt DATA --baseline none --json | jq .models.trained
"""
    Settings = RetrievalSettings
    baselines = (UNTRAINED,)
    needs_embeddings = True
    files = (SPEECH_TABLE, IMAGE_TABLE, SPEECH_ARRAY, IMAGE_ARRAY)

    def measure(self, model: Model, settings: RetrievalSettings) -> Scores:
        """Embed the split and rank it both ways."""
        from fairseq_vgs.features.embeddings import embed_split
        from fairseq_vgs.metrics.retrieval import retrieval_ranks

        checkpoint, split = model.checkpoint, self._split(model, settings)
        pool, similarity = Pool(split.speech_groups, split.image_groups), checkpoint.similarity
        folds = None if settings.folds is None else deal_images(pool, settings.folds, seed=settings.seed)
        device, seconds = settings.device, settings.batch_seconds
        found = embed_split(checkpoint.model, split, device=device, batch_seconds=seconds, title=model.name)
        vectors = found.speech, found.images
        ranks = retrieval_ranks(
            *vectors,
            speech_groups=pool.speech_groups,
            image_groups=pool.image_groups,
            similarity=similarity,
        )
        items = rank_items(ranks, pool, audio_ids=split.audio_ids, image_ids=split.image_ids)
        metrics, facts, within = reported(chance_values(pool)), {}, None
        if folds is not None:
            within = fold_ranks(*vectors, folds, similarity=similarity)
            own_items, own_metrics = fold_scores(within, folds)
            items, metrics, facts = items | own_items, metrics | own_metrics, {"folds": folds.as_json()}
        cut = {"max_seconds": split.max_seconds, "captions_cut": split.n_cut}
        size = {**pool.as_json(), **cut, "captions_skipped": split.n_skipped}
        ids = split.audio_ids, split.image_ids, split.caption_image
        return Scores(
            items,
            metrics,
            facts={"similarity": similarity, "pool": size, **facts},
            details={
                "trained": checkpoint.trained,
                **_spreads(*vectors, pool, trained=checkpoint.trained),
                "seconds_per_caption": round(found.seconds_per_caption, 6),
                "padding_share": round(found.padding_share, 4),
            },
            extra=Embedded(*ids, pool, *vectors, similarity, ranks, within),
        )

    def _split(self, model: Model, settings: RetrievalSettings) -> EvaluationSplit:
        from fairseq_vgs.features.embeddings import open_split

        key = (settings.data, settings.split, model.checkpoint.path)
        opened: dict[Any, EvaluationSplit] = self.__dict__.setdefault("_opened", {})
        if key not in opened:
            opened.clear()
            opened[key] = open_split(settings.data, settings.split, config=model.checkpoint.config)
        return opened[key]

    def write_files(self, folder: Path, scores: Mapping[str, Scores], *, force: bool) -> None:
        """Write the tables of queries and the embeddings of the first model."""
        first, *others = scores
        ranks = {f"{name}_rank": scores[name].extra.ranks for name in others}
        if scores[first].extra.fold_ranks is not None:
            ranks["fold_rank"] = scores[first].extra.fold_ranks
        write_embedded(folder, scores[first].extra, ranks, force=force)

    def describe(self, content: Mapping[str, Any]) -> list[str]:
        """Describe the pool."""
        pool = content["pool"]
        return [
            f"retrieval on split {content['split']}: {pool['captions']} captions of {pool['images']} images",
            *(f"  {title}: {pool[way]}" for way, title in DIRECTION_TITLES.items() if way in pool),
        ]

    def columns(self, content: Mapping[str, Any]) -> dict[str, str]:  # noqa: ARG002 - always the same
        """Choose the recalls of the whole pool."""
        found = {f"{way}_r{k}": f"R@{k}" for way in DIRECTION_TITLES for k in CUTOFFS}
        return {**found, "speech_to_image_r1": "s->i R@1", "image_to_speech_r1": "i->s R@1"}

    def title(self, metric: str, content: Mapping[str, Any], *, alone: bool = True) -> str:  # noqa: ARG002
        """Name a metric: direction, then R@k, median rank or MRR, then its pools."""
        name, within, pools = metric.partition(", within ")
        direction = next((way for way in DIRECTION_TITLES if name.startswith(f"{way}_")), "")
        short = name.removeprefix(f"{direction}_")
        titles = {**{f"r{k}": f"R@{k} %" for k in CUTOFFS}, "median_rank": "median rank", "mrr": "MRR"}
        text = f"{DIRECTION_TITLES[direction]}, {titles.get(short, short)}" if direction else name
        return text + within + pools

    def table(self, result: Result) -> str:
        """Lay out both directions: a row per model, then chance; the same within pools."""
        parts = [_direction_table(result, "", {"median_rank": "median rank", "mrr": "MRR"})]
        if "folds" in result.content:
            within = within_pools(result.content["folds"])
            pools = within.removeprefix(", ").rpartition(" (")[0]
            parts.append(f"{pools}\n\n{_direction_table(result, within, {})}")
        return "\n\n".join(parts)


def _direction_table(result: Result, within: str, further: Mapping[str, str]) -> str:
    rows = [["", *(f"R@{k} % [95 % interval]" for k in CUTOFFS), *(further.values())]]
    titles = {name: model.get("title", name) for name, model in result.content["models"].items()}
    for direction, heading in DIRECTION_TITLES.items():
        names = [f"{direction}_r{k}{within}" for k in CUTOFFS]
        rest = [(f"{direction}_{name}", ".3f" if name == "mrr" else "g") for name in further]
        rows.append([heading])
        for model, metrics in result.models.items():
            values = [f"{metrics[name].value.value:{form}}" for name, form in rest]
            rows.append([f"  {titles[model]}", *(str(metrics[name]) for name in names), *values])
        chance = result.models[result.evaluated]
        forms = [*((name, ".1f") for name in names), *rest]
        rows.append(["  chance", *(chance[name].chance_text(form, "") for name, form in forms)])
    return text_table(rows)


def _spreads(speech: F32, images: F32, pool: Pool, *, trained: bool) -> dict[str, float | None]:
    """Measure whether embeddings differ at all; if not, a trained model has collapsed."""
    import torch

    from fairseq_vgs.losses import embedding_spread

    spreads: dict[str, float | None] = {}
    sides = ("speech_spread", speech, pool.speech_groups), ("image_spread", images, pool.image_groups)
    for name, vectors, groups in sides:
        # One image, or the captions of one, may well be at one point.
        several = len(np.unique(groups)) > 1
        spreads[name] = spread = float(embedding_spread(torch.from_numpy(vectors))) if several else None
        if trained and spread is not None and spread < COLLAPSED_SPREAD:
            text = "%s is %.2g: the encoder maps everything to nearly one point (collapsed)"
            logger.warning(text, name, spread)
    return spreads


def write_embedded(
    folder: Path, found: Embedded, others: Mapping[str, RetrievalRanks], *, force: bool = False
) -> None:
    """Write a row per query of both directions, and the embeddings.

    ``others``: column -> further ranks of the same queries, such as ``untrained_rank``.
    """
    from fairseq_vgs.metrics.retrieval import nearest_both_ways

    best, best_caption = nearest_both_ways(found.speech, found.images, similarity=found.similarity)
    columns: dict[str, Iterable[Any]] = {
        "audio_id": found.audio_ids,
        "image_id": [found.image_ids[image] for image in found.caption_image.tolist()],
        "group": found.pool.speech_groups.tolist(),
        "rank": found.ranks.speech_to_image,
        "top_image_id": [found.image_ids[row] for row in best.index[:, 0].tolist()],
        "top_score": best.score[:, 0],
        **{name: ranks.speech_to_image for name, ranks in others.items()},
    }
    write_table(folder / SPEECH_TABLE, list(columns), zip(*columns.values(), strict=True), force=force)
    columns = {
        "image_id": found.image_ids,
        "group": found.pool.image_groups.tolist(),
        "rank": found.ranks.image_to_speech,
        "top_audio_id": [found.audio_ids[row] for row in best_caption.index[:, 0].tolist()],
        "top_score": best_caption.score[:, 0],
        **{name: ranks.image_to_speech for name, ranks in others.items()},
    }
    write_table(folder / IMAGE_TABLE, list(columns), zip(*columns.values(), strict=True), force=force)
    write_array(folder / SPEECH_ARRAY, found.speech, force=force)
    write_array(folder / IMAGE_ARRAY, found.images, force=force)


def read_retrieval(folder: Path) -> tuple[Mapping[str, Any], Embedded]:
    """Read a results folder of retrieval: metrics.json, and the embeddings and ranks of the evaluated model.

    Raises:
        ResultsError: A file is missing or broken, or the files do not belong together.
    """
    from fairseq_vgs.metrics.retrieval import RetrievalRanks

    result = read_result(folder, kind=KIND)
    captions, images = read_table(folder / SPEECH_TABLE), read_table(folder / IMAGE_TABLE)
    arrays = [read_array(folder / name) for name in (SPEECH_ARRAY, IMAGE_ARRAY)]
    for name, table, array in zip((SPEECH_ARRAY, IMAGE_ARRAY), (captions, images), arrays, strict=True):
        if array.ndim != 2 or len(array) != len(table):
            message = f"must have {len(table)} rows as the CSV, got shape {array.shape}; evaluate again"
            raise ResultsError.at(folder / name, message, "results.broken")
    with written_by("fairseq-vgs evaluate retrieval", folder):
        numbers = {row["image_id"]: number for number, row in enumerate(images)}
        found = Embedded(
            audio_ids=tuple(row["audio_id"] for row in captions),
            image_ids=tuple(numbers),
            caption_image=_integers(numbers[row["image_id"]] for row in captions),
            pool=Pool(_integers(row["group"] for row in captions), _integers(row["group"] for row in images)),
            speech=arrays[0],
            images=arrays[1],
            similarity=str(result.content["similarity"]),
            ranks=RetrievalRanks(_ranks(captions), _ranks(images)),
        )
    return result.content, found


def _integers(values: Any) -> I64:
    return np.array([int(value) for value in values], dtype=np.int64)


def _ranks(rows: Sequence[Mapping[str, str]]) -> F64:
    return np.array([float(row["rank"] or "nan") for row in rows], dtype=np.float64)
