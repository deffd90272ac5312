"""Scenes of several objects, composed from a data folder of single ones; see `fairseq_vgs.prepare.scenes`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.configs import embedded_data
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora import CORPORA, NO_COPIES, Preparation
from fairseq_vgs.prepare.scenes.plan import ScenesConfig


@CORPORA.register("scenes")
@dataclass(frozen=True)
class Scenes(ScenesConfig, Preparation):
    """Scenes of several objects with spoken captions, composed from single named objects.

    Scenes of several pictures on white, captioned by the objects' recorded names in varying order and speed.
    No set of objects occurs twice; test scenes are unseen combinations. The same seed gives the same folder.
    """

    examples = (
        "fairseq-vgs prepare scenes DATA",
        "fairseq-vgs prepare scenes DATA --source OBJECTS --objects 300 --max-object-seconds 0",
    )
    without = NO_COPIES

    @classmethod
    def add_source(cls, parser: argparse.ArgumentParser) -> None:
        """Add ``--source``, which may be left out."""
        text = "data folder of single objects (default: the embedded set)"
        parser.add_argument("--source", type=Path, default=embedded_data(), metavar="FOLDER", help=text)

    def build(
        self, source: Path, output: Path, options: BuildOptions, progress: Progress | None
    ) -> dict[str, object]:
        """Compose the scenes."""
        from fairseq_vgs.prepare.scenes.compose import prepare_scenes

        return prepare_scenes(output, source, config=self, options=options, progress=progress)
