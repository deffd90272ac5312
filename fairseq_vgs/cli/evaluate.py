"""Measure what a trained model has learned.

The results table goes to stdout; metrics.json, one CSV row per query and the embeddings go to the output
folder.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_vgs.cli.evaluate_abx import add_abx_arguments
from fairseq_vgs.cli.evaluate_lexical import add_lexical_arguments
from fairseq_vgs.cli.evaluate_run import add_run_arguments
from fairseq_vgs.files.output import refuse_existing

if TYPE_CHECKING:
    from fairseq_vgs.checkpoints.load import Checkpoint
    from fairseq_vgs.evaluation.metrics.retrieval import RetrievalRanks
    from fairseq_vgs.evaluation.results import Metric
    from fairseq_vgs.evaluation.retrieval_figures import Pool
    from fairseq_vgs.evaluation.retrieval_pools import ImagePools
    from fairseq_vgs.features.embeddings import Embeddings, EvaluationSplit

NAME = "evaluate"
HELP = "measure what a trained model has learned"
EPILOG = """\
examples:
  fairseq-vgs evaluate retrieval RUN/checkpoints/checkpoint_best.pt DATA
  fairseq-vgs evaluate abx RUN/checkpoints/checkpoint_best.pt manifests/embedded/abx
  fairseq-vgs evaluate lexical RUN/checkpoints/checkpoint_best.pt WORDS
  fairseq-vgs evaluate run RUN DATA --abx manifests/embedded/abx
"""
RETRIEVAL_EPILOG = """\
examples:
  fairseq-vgs evaluate retrieval RUN/checkpoints/checkpoint_best.pt DATA
  fairseq-vgs evaluate retrieval checkpoint_best.pt DATA --split valid --output outputs/results/valid
  fairseq-vgs evaluate retrieval checkpoint_best.pt DATA --baseline none --json | jq .models.trained
"""
RETRIEVAL_DESCRIPTION = """\
Speech-image retrieval: every spoken caption ranks the split's pictures, and every picture ranks the spoken
captions (a hit if any of its captions is within the top k). Beside the model stand the same model with fresh
weights, and chance. Intervals are 95 %, over resampled pictures. Speech is unmasked, and cut where the run's
validation cut it.
"""
COLLAPSED_SPREAD = 0.01

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.epilog = EPILOG
    kinds = parser.add_subparsers(title="evaluations", metavar="EVALUATION", dest="evaluation", required=True)
    retrieval = kinds.add_parser(
        "retrieval",
        help="recall of pictures by speech and of speech by pictures",
        description=RETRIEVAL_DESCRIPTION,
        epilog=RETRIEVAL_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    retrieval.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="written by fairseq-hydra-train"
    )
    retrieval.add_argument("data", type=Path, metavar="DATA", help="the manifest folder, as in task.data")
    retrieval.add_argument("--split", default="test", help="split of DATA (default: %(default)s)")
    retrieval.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the results (default: beside CHECKPOINT, NAME_retrieval_SPLIT)",
    )
    retrieval.add_argument(
        "--baseline",
        choices=("untrained", "none"),
        default="untrained",
        help="also evaluate the same model with fresh weights (default: %(default)s)",
    )
    retrieval.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="also recalls within N disjoint pools of images, such as 5 of 1k images of a 5k split; dealt at "
        "random, while the customary folds of COCO are consecutive blocks of its images",
    )
    retrieval.add_argument("--json", action="store_true", help="print metrics.json instead of the table")
    retrieval.add_argument(
        "--seed",
        type=int,
        default=1,
        help="of resampling, folds and the untrained weights (default: %(default)s)",
    )
    retrieval.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    retrieval.add_argument(
        "--batch-seconds",
        type=_positive_number,
        default=120.0,
        metavar="S",
        help="most speech in a batch, padding included (default: %(default)g)",
    )
    retrieval.add_argument("--force", action="store_true", help="replace existing results")
    retrieval.set_defaults(run_evaluation=run_retrieval)
    add_abx_arguments(kinds)
    add_lexical_arguments(kinds)
    add_run_arguments(kinds)


def run(args: argparse.Namespace) -> int:
    """Evaluate."""
    from fairseq_vgs.compat.availability import require_fairseq

    require_fairseq()
    code: int = args.run_evaluation(args)
    return code


def run_retrieval(args: argparse.Namespace) -> int:
    """Evaluate retrieval, write the results folder and print the table."""
    from fairseq_vgs.checkpoints import load as checkpoints
    from fairseq_vgs.evaluation import results, retrieval_results
    from fairseq_vgs.evaluation import retrieval_figures as report
    from fairseq_vgs.evaluation.retrieval_pools import deal_images
    from fairseq_vgs.features import embeddings as extraction
    from fairseq_vgs.files import provenance

    output = args.output or args.checkpoint.with_name(f"{args.checkpoint.stem}_retrieval_{args.split}")
    refuse_existing(*(output / name for name in retrieval_results.FILE_NAMES), force=args.force)
    start = time.perf_counter()
    trained = checkpoints.load_checkpoint(args.checkpoint)
    split = extraction.open_split(args.data, args.split, config=trained.config)
    pool = report.Pool(split.speech_groups, split.image_groups)
    pools = None if args.folds is None else deal_images(pool, args.folds, seed=args.seed)
    models = {"trained": trained}
    if args.baseline == "untrained":
        models["untrained"] = checkpoints.load_checkpoint(args.checkpoint, untrained_seed=args.seed)
    embeddings, ranks, figures = {}, {}, {}
    for name, checkpoint in models.items():
        embeddings[name] = _embed(checkpoint, split, args, title=name)
        ranks[name] = _rank(embeddings[name], pool, similarity=trained.similarity)
        figures[name] = report.retrieval_metrics(ranks[name], pool, seed=args.seed)
    content: dict[str, Any] = {
        "data": str(args.data),
        "split": args.split,
        "similarity": trained.similarity,
        "pool": {
            **pool.as_json(),
            "max_seconds": split.max_seconds,
            "captions_cut": split.n_cut,
            "captions_skipped": split.n_skipped,
        },
        "checkpoint": {"path": str(args.checkpoint), "sha256": provenance.sha256_file(args.checkpoint)},
        "models": {
            name: _model_json(models[name], embeddings[name], figures[name], pool=pool) for name in models
        },
        "differences": {
            f"trained minus {name}": _as_json(
                report.rank_differences(ranks["trained"], ranks[name], pool, seed=args.seed)
            )
            for name in models
            if name != "trained"
        },
        "provenance": results.provenance(
            command=args.command,
            seed=args.seed,
            folder=args.data,
            split=args.split,
        ).as_json(),
        "cost": {
            "seconds": round(time.perf_counter() - start, 2),
            "peak_memory_mb": provenance.peak_memory_mb(),
        },
    }
    within: dict[str, Mapping[str, Metric]] = {}
    baselines = {name: found for name, found in ranks.items() if name != "trained"}
    if pools is not None:
        content["folds"], within, baselines["fold"] = _measure_folds(
            embeddings, pools, seed=args.seed, similarity=trained.similarity
        )
    items = retrieval_results.RetrievalItems(
        audio_ids=split.audio_ids,
        image_ids=split.image_ids,
        caption_image=split.caption_image,
        pool=pool,
        speech=embeddings["trained"].speech,
        images=embeddings["trained"].images,
        similarity=trained.similarity,
    )
    written = retrieval_results.write_retrieval(
        output, metrics=content, items=items, ranks=ranks["trained"], baselines=baselines, force=args.force
    )
    if args.json:
        print(written)
    else:
        _print(content, figures, args, trained=trained, within=within)
    print(f"results: {output}", file=sys.stderr)
    return 0


def _measure_folds(
    embeddings: Mapping[str, Embeddings], pools: ImagePools, *, seed: int, similarity: str
) -> tuple[dict[str, Any], dict[str, Mapping[str, Metric]], RetrievalRanks]:
    """Return the part of metrics.json, its figures by model, and the trained model's ranks within pools."""
    from fairseq_vgs.evaluation.retrieval_pools import pooled_metrics, pooled_ranks, pools_json

    ranks = {
        name: pooled_ranks(found.speech, found.images, pools, similarity=similarity)
        for name, found in embeddings.items()
    }
    figures: dict[str, Mapping[str, Metric]] = {
        name: pooled_metrics(found, pools, seed=seed) for name, found in ranks.items()
    }
    models = {name: {"metrics": _as_json(found)} for name, found in figures.items()}
    return {**pools_json(pools, seed=seed), "models": models}, figures, ranks["trained"]


def _embed(
    checkpoint: Checkpoint, split: EvaluationSplit, args: argparse.Namespace, *, title: str
) -> Embeddings:
    from fairseq_vgs.features.embeddings import embed_split

    return embed_split(
        checkpoint.model, split, device=args.device, batch_seconds=args.batch_seconds, title=title
    )


def _rank(embeddings: Embeddings, pool: Pool, *, similarity: str) -> RetrievalRanks:
    from fairseq_vgs.evaluation.metrics.retrieval import retrieval_ranks

    return retrieval_ranks(
        embeddings.speech,
        embeddings.images,
        speech_groups=pool.speech_groups,
        image_groups=pool.image_groups,
        similarity=similarity,
    )


def _model_json(
    checkpoint: Checkpoint, embeddings: Embeddings, metrics: Mapping[str, Metric], *, pool: Pool
) -> dict[str, Any]:
    import torch

    from fairseq_vgs.losses import embedding_spread

    spreads: dict[str, float | None] = {}
    for name, vectors, groups in (
        ("speech_spread", embeddings.speech, pool.speech_groups),
        ("image_spread", embeddings.images, pool.image_groups),
    ):
        # One picture, or the captions of one, may well lie at one point.
        several = len(set(groups.tolist())) > 1
        spreads[name] = spread = float(embedding_spread(torch.from_numpy(vectors))) if several else None
        if checkpoint.trained and spread is not None and spread < COLLAPSED_SPREAD:
            logger.warning(
                "%s is %.2g: the encoder maps everything to nearly one point (collapsed)", name, spread
            )
    return {
        "n_updates": checkpoint.n_updates,
        "trained": checkpoint.trained,
        "metrics": _as_json(metrics),
        **spreads,
        "seconds": round(embeddings.seconds, 3),
        "seconds_per_caption": round(embeddings.seconds_per_caption, 6),
        "padding_share": round(embeddings.padding_share, 4),
    }


def _as_json(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {name: metric.as_json() for name, metric in metrics.items()}


def _print(
    content: Mapping[str, Any],
    figures: Mapping[str, Mapping[str, Metric]],
    args: argparse.Namespace,
    *,
    trained: Checkpoint,
    within: Mapping[str, Mapping[str, Metric]],
) -> None:
    from fairseq_vgs.evaluation import retrieval_pools
    from fairseq_vgs.evaluation.retrieval_figures import format_table

    pool = content["pool"]
    titles = {
        "trained": f"trained ({trained.n_updates} updates)",
        "untrained": f"untrained (seed {args.seed})",
    }
    print(f"retrieval on split {args.split}: {pool['captions']} captions of {pool['images']} images")
    print(f"  speech -> image: {pool['speech_to_image']}")
    print(f"  image -> speech: {pool['image_to_speech']}\n")
    print(format_table({titles[name]: metrics for name, metrics in figures.items()}))
    if within:
        print(f"\nwithin {retrieval_pools.describe(content['folds'])}\n")
        print(retrieval_pools.format_table({titles[name]: metrics for name, metrics in within.items()}))


def _positive_number(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value
