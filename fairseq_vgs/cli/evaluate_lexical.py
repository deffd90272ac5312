"""``fairseq-vgs evaluate lexical``: how well the layers of a model tell words apart."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fairseq_vgs.files.output import refuse_existing

DESCRIPTION = """\
Lexical test (CDI-Lextest, COCO-Lextest): of the nearest recordings of a spoken word, as many as there are
others of that word, how many percent are the same word? Recordings are compared by the cosine of the means
over their frames or, with --frames, by dynamic time warping. Beside every layer of the model stand the same
model with fresh weights, MFCC, and chance. Intervals are 95 %, over resampled words. DATA has one word in
each recording, several recordings of a word.
"""
EPILOG = """\
examples:
  fairseq-vgs evaluate lexical RUN/checkpoints/checkpoint_best.pt WORDS
  fairseq-vgs evaluate lexical checkpoint_best.pt WORDS --output outputs/results/words --json
  fairseq-vgs evaluate lexical checkpoint_best.pt WORDS --frames --layers 4

WORDS of the published tests: fairseq-vgs prepare lextest CDI_lextest WORDS

WORDS of the embedded data:
  fairseq-vgs prepare scenes WORDS --pictures-per-scene 1 1 --captions 20 --objects 60 \\
      --train-scenes 10 --valid-scenes 0 --test-scenes 50
The recordings of such a word differ in speed, pitch and pauses only, so that MFCC do well on them.
"""
METRICS_NAME = "metrics.json"
_BASELINES = ("untrained", "mfcc")


def add_lexical_arguments(kinds: Any) -> None:
    """Add ``evaluate lexical``."""
    parser = kinds.add_parser(
        "lexical",
        help="word discrimination of every layer",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="of this plugin, or fairseq's own wav2vec2"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="manifest folder of single words")
    parser.add_argument("--split", default="test", help="split of DATA (default: %(default)s)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the results (default: beside CHECKPOINT, NAME_lexical_SPLIT; --frames: "
        "NAME_lexical_frames_SPLIT)",
    )
    parser.add_argument(
        "--frames",
        action="store_true",
        help="compare sequences of frames by dynamic time warping: minutes to hours a layer, with the "
        "square of the number of recordings",
    )
    parser.add_argument(
        "--layers",
        type=int,
        action="extend",
        nargs="+",
        metavar="N",
        help="only these, 0 being the input of the first (default: all)",
    )
    parser.add_argument(
        "--baseline",
        choices=(*_BASELINES, "none"),
        action="append",
        help="also evaluate the same model with fresh weights, or MFCC; may be repeated (default: both)",
    )
    parser.add_argument("--json", action="store_true", help="print metrics.json instead of the table")
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="of resampling and of the untrained weights (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace existing results")
    parser.set_defaults(run_evaluation=run_lexical)


def run_lexical(args: argparse.Namespace) -> int:
    """Evaluate, write the results folder and print the table."""
    from fairseq_vgs.checkpoints import load as checkpoints
    from fairseq_vgs.evaluation import abx_results, lexical_words, results
    from fairseq_vgs.evaluation.retrieval_figures import aligned, percentage
    from fairseq_vgs.features import layers as phone_features
    from fairseq_vgs.files import provenance

    kind = "lexical_frames" if args.frames else "lexical"
    compared = lexical_words.FRAMES if args.frames else lexical_words.MEANS
    output = args.output or args.checkpoint.with_name(f"{args.checkpoint.stem}_{kind}_{args.split}")
    refuse_existing(output / abx_results.METRICS_NAME, force=args.force)
    baselines = args.baseline or _BASELINES
    trained = checkpoints.load_checkpoint(args.checkpoint, allow_stock=True)
    loaded = {"trained": trained}
    if "untrained" in baselines:
        loaded["untrained"] = checkpoints.load_checkpoint(
            args.checkpoint, untrained_seed=args.seed, allow_stock=True
        )
    recordings, tokens = lexical_words.open_words(args.data, args.split)
    words = dict(zip(recordings, tokens, strict=True))
    features = {
        name: phone_features.layer_features(checkpoint, recordings, device=args.device, layers=args.layers)
        for name, checkpoint in loaded.items()
    }
    if "mfcc" in baselines:
        features["mfcc"] = phone_features.mfcc_features(recordings)
    models = {
        name: lexical_words.score_words(found, words, compared=compared, device=args.device)
        for name, found in features.items()
    }
    metrics = {name: lexical_words.word_metrics(layers, seed=args.seed) for name, layers in models.items()}
    some = next(iter(models["trained"].values()))
    content = {
        "kind": lexical_words.KIND,
        "compared": compared,
        "data": str(args.data),
        "split": args.split,
        "counts": {"tokens": len(tokens), "words": len(some.by_word), "single_tokens": some.n_single},
        "checkpoint": {"path": str(args.checkpoint), "sha256": provenance.sha256_file(args.checkpoint)},
        "models": {
            name: {"metrics": {layer: metric.as_json() for layer, metric in found.items()}}
            for name, found in metrics.items()
        },
        "provenance": results.provenance(
            command=args.command, seed=args.seed, folder=args.data, split=args.split
        ).as_json(),
    }
    header, rows = lexical_words.word_rows(models)
    results.write_table(output / lexical_words.WORDS_NAME, header, rows, force=args.force)
    written = results.write_metrics(output / METRICS_NAME, content, force=args.force)
    if args.json:
        print(written)
    else:
        counted = f"{len(tokens)} recordings of {len(some.by_word)} words"
        print(f"recall of words in %, by {compared}: {counted}\n")
        titles = {
            "trained": f"trained ({trained.n_updates} updates)",
            "untrained": f"untrained (seed {args.seed})",
        }
        table = [["", *(titles[name] for name in loaded)]]
        for layer in metrics["trained"]:
            table.append([layer, *(percentage(metrics[name][layer]) for name in loaded)])
        if "mfcc" in metrics:
            table.append(["mfcc", percentage(metrics["mfcc"]["mfcc"])])
        table.append(["chance", f"{100 * some.chance:.1f}"])
        print(aligned(table))
    print(f"results: {output}", file=sys.stderr)
    return 0
