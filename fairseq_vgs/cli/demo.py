"""Look and listen in the browser: speak and find pictures, show a picture and hear captions.

The page ranks the pictures of a data folder's split for what you say, upload or choose, and shows which
region goes with which moment; in the other tab it ranks the captions for a picture. Nothing leaves this
machine. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_vgs.checkpoints.places import find_model
from fairseq_vgs.device import device_option
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.options import option

if TYPE_CHECKING:
    from fairseq_vgs.api.model import Model

LOCAL = ("127.0.0.1", "localhost", "::1")
EPILOG = """\
examples:
  fairseq-vgs demo quickstart
  fairseq-vgs demo outputs/my_run manifests/embedded --split valid --open
  fairseq-vgs demo outputs/my_run ~/Pictures --port 8000

RUN is a run's folder, a checkpoint, a folder of fairseq-vgs export, or quickstart, the small model that
comes with the package. DATA is a data folder, or any folder
of pictures, with recordings or without. It needs pip install 'fairseq_vgs[demo]'.
"""


@dataclass(frozen=True)
class Options:
    """Options of ``demo``."""

    model: Path = option(
        help="a run's folder, a checkpoint, a folder of fairseq-vgs export, or quickstart, the model that "
        "comes with the package",
        positional=True,
        metavar="RUN",
        parse=find_model,
    )
    data: Path | None = option(
        None,
        help="data folder, or folder of pictures (default: that of the training, else the embedded data)",
        positional=True,
    )
    split: str | None = option(None, help="split of DATA (default: test, else valid, else another)")
    host: str = option("127.0.0.1", help="address to serve; 0.0.0.0 lets in everybody in the network")
    port: int = option(7860, help="port to serve; 0 takes any that is free", metavar="N")
    open: bool = option(False, help="open the page in a browser")
    regions: str | None = option(
        None,
        help="how regions of pictures are made, if the checkpoint does not say it: the data folder of the "
        "training, a grid such as 2x3, or objects (on white)",
        metavar="HOW",
    )
    device: str = device_option()


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; print its address.

    Raises:
        FaultError: no model, nothing to search, no Gradio, or a port that is taken.
    """
    from fairseq_vgs.demo.server import free_port, quiet_gradio, serve
    from fairseq_vgs.files.torch_files import require_file

    port = free_port(args.host, args.port)
    if not args.model.is_dir():
        require_file(args.model)
    if args.data is not None and not args.data.is_dir():
        got, step = "a file" if args.data.exists() else "nothing there", "check the path"
        expected = "must be a data folder, or a folder of pictures"
        raise FaultError(fault(str(args.data), expected, got, step, code="file.missing"))
    with quiet_gradio() as gradio:
        from fairseq_vgs.api.load import load
        from fairseq_vgs.demo import show
        from fairseq_vgs.demo.about import caveat, facts
        from fairseq_vgs.demo.advice import as_options
        from fairseq_vgs.demo.collection import open_collection
        from fairseq_vgs.demo.handlers import Handlers
        from fairseq_vgs.demo.page import build_page
        from fairseq_vgs.demo.search import Search

        model = load(args.model.absolute(), args.device, regions=args.regions)
        try:
            collection = open_collection(model, args.data or _default_data(model), args.split)
        except FaultError as error:
            raise as_options(error, model.path) from None
        handlers = Handlers(Search(model, collection), seed=1)
        page = build_page(handlers, show.about(facts(model, collection), caveat(model)))
        if args.host not in LOCAL:
            note = "everybody who reaches this address can use the model and see what it searches"
            print(f"note: {note}; browsers lend it no microphone", file=sys.stderr)
        serve(page, gradio, host=args.host, port=port, open_browser=args.open, ready=_say)
    return 0


def _default_data(model: Model) -> Path:
    from fairseq_vgs.configs import embedded_data

    trained_on = model.config.get("task", {}).get("data")
    return Path(trained_on) if trained_on and Path(trained_on).is_dir() else embedded_data()


def _say(address: str) -> None:
    print(address, flush=True)
    print("open it in a browser; Ctrl-C ends the demo", file=sys.stderr)
