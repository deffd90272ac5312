"""``fairseq-vgs evaluate abx``: how well the layers of a model tell phones apart."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_vgs.files.output import refuse_existing

if TYPE_CHECKING:
    from torch import Tensor

    from fairseq_vgs.checkpoints.load import Checkpoint
    from fairseq_vgs.evaluation.abx_results import AbxModel
    from fairseq_vgs.evaluation.metrics.abx import AbxItem
    from fairseq_vgs.features.layers import LayerFeatures
    from fairseq_vgs.features.recordings import Recording

DESCRIPTION = """\
Phone ABX: how often is a token x of phone a closer to a token of phone b than to another one of a? Error in
percent of every transformer layer; chance, and a model that maps everything to one point, are 50 %. Beside
the model stand the same model with fresh weights, MFCC, and chance. Intervals are 95 %, over resampled
phones. Speech is unmasked and whole.
"""
EPILOG = """\
examples:
  fairseq-vgs evaluate abx RUN/checkpoints/checkpoint_best.pt manifests/embedded/abx
  fairseq-vgs evaluate abx checkpoint_best.pt DEV_CLEAN --items triphone-dev-clean.item --speaker across
  fairseq-vgs evaluate abx checkpoint_best.pt ABX --baseline none --json | jq .models.trained

ITEMS is a folder with an audio list (test.tsv), a ZeroSpeech item file (NAME.item) and, where the items call
recordings otherwise than by their file names without ending, utterances.tsv (columns audio_id and file).
"""
_ALL = "all"
_BASELINES = ("untrained", "mfcc")

logger = logging.getLogger(__name__)


def add_abx_arguments(kinds: Any) -> None:
    """Add ``evaluate abx``."""
    parser = kinds.add_parser(
        "abx",
        help="phone discrimination (ABX) of every layer",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="of this plugin, or fairseq's own wav2vec2"
    )
    parser.add_argument("folder", type=Path, metavar="ITEMS", help="folder of recordings and items")
    parser.add_argument("--split", default="test", help="audio list in ITEMS (default: %(default)s)")
    parser.add_argument("--items", metavar="NAME", help="item file in ITEMS (default: the only one)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the results (default: beside CHECKPOINT, NAME_abx_SPEAKER_CONTEXT)",
    )
    parser.add_argument(
        "--layers",
        type=int,
        action="extend",
        nargs="+",
        metavar="N",
        help="only these, 0 being the input of the first (default: all; they are held in memory together)",
    )
    _add_conditions(parser)
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
        help="of drawing, resampling and the untrained weights (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace existing results")
    parser.set_defaults(run_evaluation=run_abx, usage_error=parser.error)


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("conditions")
    group.add_argument(
        "--speaker",
        choices=("within", "across"),
        default="within",
        help="x is by the speaker of a and b, or by another (default: %(default)s)",
    )
    group.add_argument(
        "--context",
        choices=("within", "any"),
        default="within",
        help="a, b and x stand between the same phones, or anywhere (default: %(default)s)",
    )
    group.add_argument(
        "--distance",
        choices=("angular", "euclidean", "kl_symmetric", "identical"),
        default="angular",
        help="between frames (default: %(default)s)",
    )
    group.add_argument(
        "--max-size-group",
        type=_count_or_all,
        default=10,
        metavar="N",
        help="most tokens of a phone, context and speaker; 'all' for no limit (default: %(default)s)",
    )
    group.add_argument(
        "--max-x-across",
        type=_count_or_all,
        default=5,
        metavar="N",
        help="most speakers of x across speakers; 'all' for no limit (default: %(default)s)",
    )
    group.add_argument(
        "--librilight-slicing",
        action="store_true",
        help="cut tokens one frame shorter, to compare with ZeroSpeech 2021 and Libri-Light",
    )


def run_abx(args: argparse.Namespace) -> int:
    """Evaluate, write the results folder and print the table."""
    from fairseq_vgs.checkpoints import load as checkpoints
    from fairseq_vgs.evaluation import abx_results, results
    from fairseq_vgs.evaluation.metrics.abx import read_items
    from fairseq_vgs.features import layers as phone_features
    from fairseq_vgs.features.recordings import check_items, open_recordings
    from fairseq_vgs.files import provenance

    output = args.output or args.checkpoint.with_name(
        f"{args.checkpoint.stem}_abx_{args.speaker}_{args.context}"
    )
    refuse_existing(output / abx_results.METRICS_NAME, force=args.force)
    baselines = args.baseline or _BASELINES
    if "none" in baselines and len(set(baselines)) > 1:
        args.usage_error(f"--baseline: none must stand alone, got {', '.join(baselines)}")
    start = time.perf_counter()
    trained = checkpoints.load_checkpoint(args.checkpoint, allow_stock=True)
    recordings = open_recordings(args.folder, args.split)
    path = item_file(args.folder, args.items)
    items = read_items(path)
    check_items(items, recordings, name=path.name)
    models = {
        "trained": _measure_model(trained, recordings, items, args, f"trained ({trained.n_updates} updates)")
    }
    if "untrained" in baselines:
        untrained = checkpoints.load_checkpoint(args.checkpoint, untrained_seed=args.seed, allow_stock=True)
        models["untrained"] = _measure_model(
            untrained, recordings, items, args, f"untrained (seed {args.seed})"
        )
    if "mfcc" in baselines:
        features, rate = phone_features.mfcc_features(recordings), phone_features.MFCC_FRAME_RATE
        models["mfcc"] = _measure(features, recordings, items, args, title="MFCC", frame_rate=rate)
    metrics = {name: abx_results.layer_metrics(model, seed=args.seed) for name, model in models.items()}
    content: dict[str, Any] = {
        "data": str(args.folder),
        "split": args.split,
        "items": {"file": path.name, "sha256": provenance.sha256_file(path)},
        "condition": _condition(args),
        "checkpoint": {"path": str(args.checkpoint), "sha256": provenance.sha256_file(args.checkpoint)},
        "models": {name: abx_results.model_json(model, metrics[name]) for name, model in models.items()},
        "differences": _differences(models, seed=args.seed),
        "notes": abx_results.cell_notes(models),
        "provenance": results.provenance(
            command=args.command, seed=args.seed, folder=args.folder, split=args.split
        ).as_json(),
        "cost": {
            "seconds": round(time.perf_counter() - start, 2),
            "peak_memory_mb": provenance.peak_memory_mb(),
        },
    }
    written = abx_results.write_abx(output, metrics=content, models=models, force=args.force)
    if args.json:
        print(written)
    else:
        condition = f"{args.speaker} speaker, {args.context} context, {args.distance} distance"
        print(f"phone ABX error in %, {path.name}: {condition}")
        print("".join(f"  {line}\n" for line in abx_results.describe_models(models)))
        print(abx_results.format_table(models, metrics))
        if content["notes"]:
            print("\n" + "\n".join(f"note: {note}" for note in content["notes"]))
    print(f"results: {output}", file=sys.stderr)
    return 0


def _measure_model(
    checkpoint: Checkpoint,
    recordings: Mapping[str, Recording],
    items: Sequence[AbxItem],
    args: argparse.Namespace,
    title: str,
) -> AbxModel:
    from fairseq_vgs.features import layers as phone_features

    features = phone_features.layer_features(checkpoint, recordings, device=args.device, layers=args.layers)
    rate = phone_features.frame_rate(checkpoint)
    return _measure(
        features, recordings, items, args, title=title, frame_rate=rate, n_updates=checkpoint.n_updates
    )


def _measure(
    features: LayerFeatures,
    recordings: Mapping[str, Recording],
    items: Sequence[AbxItem],
    args: argparse.Namespace,
    *,
    title: str,
    frame_rate: float,
    n_updates: int = 0,
) -> AbxModel:
    from tqdm import tqdm

    from fairseq_vgs.evaluation.abx_results import AbxModel
    from fairseq_vgs.evaluation.metrics.abx import abx_scores

    start = time.perf_counter()
    # disable=None turns the bar off where stderr is no terminal.
    with tqdm(
        total=len(recordings), desc=title, unit="recording", file=sys.stderr, disable=None, leave=False
    ) as bar:

        def counted(name: str) -> Mapping[str, Tensor]:
            bar.update()
            return features(name)

        layers = abx_scores(
            counted, items, frame_rate=frame_rate, seed=args.seed, device=args.device, **_condition(args)
        )
    model = AbxModel(layers, frame_rate, title, n_updates, time.perf_counter() - start)
    if model.is_collapsed:
        logger.warning("%s: all frames are equal (collapsed): its error is chance", title)
    return model


def _condition(args: argparse.Namespace) -> dict[str, Any]:
    names = ("speaker", "context", "distance", "max_size_group", "max_x_across", "librilight_slicing")
    return {name: getattr(args, name) for name in names}


def _differences(models: Mapping[str, AbxModel], *, seed: int) -> dict[str, Any]:
    from fairseq_vgs.evaluation.abx_results import layer_differences

    found = {}
    for name in list(models)[1:]:
        differences = layer_differences(models["trained"], models[name], seed=seed)
        if differences is not None:
            found[f"trained minus {name}"] = {
                layer: metric.as_json() for layer, metric in differences.items()
            }
    return found


def item_file(folder: Path, name: str | None) -> Path:
    """Return the item file of a name in a folder; without a name the only one there.

    Raises:
        FaultError: no name, and none or several.
    """
    from fairseq_vgs.files.faults import FaultError, fault

    if name:
        return folder / name
    found = sorted(folder.glob("*.item"))
    if len(found) != 1:
        names = [path.name for path in found]
        raise FaultError(fault(str(folder), "folder must hold one item file", names, "name one with --items"))
    return found[0]


def _count_or_all(text: str) -> int | None:
    if text == _ALL:
        return None
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, or '{_ALL}', got {text}")
    return value
