"""Make an HTML page of retrieval results: spoken queries with their top 5 pictures, and the reverse.

The page works offline. It shows random queries and the worst ones, a summary table with the untrained model
and chance, and a plot. If the evaluated checkpoint still exists, spoken queries get heat maps, which show
the regions of the first and the correct picture that match each moment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_vgs.checkpoints.places import find_checkpoint, find_model, needs_fairseq
from fairseq_vgs.device import device_option, resolve_device
from fairseq_vgs.options import option, positive

if TYPE_CHECKING:
    from fairseq_vgs.features.occlusion import Occlusion

DEFAULT_PLOT = "training.png"
NO_HEAT_MAPS = "note: no heat maps on the page"
EPILOG = """\
examples:
  fairseq-vgs gallery outputs/results/test DATA outputs/gallery
  fairseq-vgs gallery results/test DATA outputs/gallery --queries 30 --plot training.png --force

RESULTS is a folder from fairseq-vgs evaluate retrieval; a training.png in it is put on the page. Heat maps
need the checkpoint, named in RESULTS or by --checkpoint, and about a second per query.
"""


@dataclass(frozen=True)
class Options:
    """Options of ``gallery``."""

    results: Path = option(help="folder from fairseq-vgs evaluate retrieval", positional=True)
    data: Path = option(help="data folder that was evaluated", positional=True)
    output: Path = option(help="folder for the page; open OUTPUT/index.html", positional=True)
    queries: int = option(12, help="queries per direction", metavar="N", parse=positive)
    seed: int = option(1, help="seed of the random queries")
    plot: Path | None = option(
        None, help=f"plot to show (default: RESULTS/{DEFAULT_PLOT} if it exists)", metavar="PNG"
    )
    checkpoint: Path | None = option(
        None,
        help="run, checkpoint or exported folder for heat maps (default: as named in RESULTS)",
        parse=find_model,
    )
    heat_maps: bool = option(True, help="leave them out", name="--no-heat-maps")
    device: str = device_option()
    force: bool = option(False, help="replace an existing page")


def run(args: argparse.Namespace) -> int:
    """Make the page; print its path.

    Raises:
        FaultError: Existing or unwritable output, or files that are missing or of something else.
    """
    from fairseq_vgs.files.output import refuse_existing, try_output
    from fairseq_vgs.report.page import GALLERY_NAME

    refuse_existing(args.output / GALLERY_NAME, force=args.force)
    try_output(args.output, option="OUTPUT")
    metrics = _read_results(args)
    default_plot = args.results / DEFAULT_PLOT
    plot = args.plot or (default_plot if default_plot.is_file() else None)
    folders = (args.results, args.data, args.output)
    maps = _open_model(args, metrics) if args.heat_maps else None
    from fairseq_vgs.report.gallery import build_gallery

    queries = {"n_queries": args.queries, "seed": args.seed}
    print(build_gallery(*folders, **queries, plot=plot, heat_maps=maps, force=args.force))
    if plot is None:
        print(f"note: no plot on the page; there is no {default_plot}", file=sys.stderr)
    return 0


def _read_results(args: argparse.Namespace) -> dict[str, Any]:
    """Return the metrics; refuse other files that are missing, before seconds of imports."""
    from fairseq_vgs.evaluation.evaluators.retrieval import KIND
    from fairseq_vgs.evaluation.results import METRICS_NAME, read_metrics
    from fairseq_vgs.files.faults import FaultError, fault
    from fairseq_vgs.files.tables import require_table
    from fairseq_vgs.manifest.folder import ManifestFolder

    metrics, data = read_metrics(args.results / METRICS_NAME, kind=KIND), ManifestFolder(args.data)
    split = str(metrics["split"])
    for table in (data.audio_list(split), data.pairs(split), data.images):
        require_table(table)
    if args.plot and not args.plot.is_file():
        got, step = str(args.plot), "correct --plot, or leave it out"
        raise FaultError(fault("--plot", "must be a PNG file", got, step, code="file.missing"))
    return metrics


def _open_model(args: argparse.Namespace, metrics: Mapping[str, Any]) -> Occlusion | None:
    """Open the model for heat maps; None, with a note, if the evaluated checkpoint is gone."""
    from fairseq_vgs.compat.availability import require_fairseq
    from fairseq_vgs.evaluation.results import ResultsError
    from fairseq_vgs.files.provenance import sha256_file

    path = find_checkpoint(args.checkpoint or Path(metrics["checkpoint"]["path"]))
    found = sha256_file(path) if path.is_file() else None
    if found != metrics["checkpoint"]["sha256"]:
        problem = f"must be the checkpoint of {args.results}, {'is another' if found else 'is missing'}"
        if args.checkpoint:
            message = f"{problem}; give the evaluated one, or --no-heat-maps"
            raise ResultsError.at(path, message, "results.checkpoint")
        print(f"{NO_HEAT_MAPS}; {path}: {problem}; give it with --checkpoint", file=sys.stderr)
        return None
    if needs_fairseq(path):
        require_fairseq()
    from fairseq_vgs.checkpoints.load import section
    from fairseq_vgs.checkpoints.open import open_checkpoint
    from fairseq_vgs.features.embeddings import open_split
    from fairseq_vgs.features.occlusion import Occlusion

    checkpoint = open_checkpoint(path)
    if section(checkpoint.config, "model").get("caption_encoder", "speech") != "speech":
        print(f"{NO_HEAT_MAPS}; the model reads text, not speech", file=sys.stderr)
        return None
    split = open_split(args.data, str(metrics["split"]), config=checkpoint.config)
    return Occlusion(checkpoint, split, device=resolve_device(args.device))
