"""Corpora: one file each, which registers how the corpus is read, and its options.

A file in this folder, or an extension (see `fairseq_vgs.registry` and docs/extend.md), adds
``fairseq-vgs prepare NAME``.
"""

from __future__ import annotations

import argparse
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fairseq_vgs.files.faults import Fault
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.options import option
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpus import Corpus
from fairseq_vgs.registry import Registry

NO_COPIES = ("convert", "pack", "skip_bad")


@dataclasses.dataclass(frozen=True)
class Preparation(ABC):
    """Base of everything that makes data folders: a frozen dataclass whose fields are options.

    The docstring of a subclass, a line and a description, is its ``--help``. ``examples`` are commands that
    prepare it, ``source`` is metavar and help of the argument that names what to read, ``has_pictures``
    offers ``--regions``, and ``without`` names the build options that it lacks.
    """

    examples: ClassVar[Sequence[str]] = ()
    source: ClassVar[tuple[str, str]] = ("CORPUS", "folder of the corpus as it is distributed")
    has_pictures: ClassVar[bool] = False
    without: ClassVar[Sequence[str]] = ()

    @classmethod
    def add_source(cls, parser: argparse.ArgumentParser) -> None:
        """Add the argument ``source``, which names the corpus."""
        metavar, text = cls.source
        parser.add_argument("source", type=Path, metavar=metavar, help=text)

    def prepare(
        self,
        source: Path,
        output: Path,
        *,
        options: BuildOptions | None = None,
        progress: Progress | None = None,
    ) -> dict[str, object]:
        """Build a data folder from the corpus at ``source`` and return its summary.

        ``progress`` is called with (files done, files in all).

        Raises:
            FaultError: Faulty lists, recordings or pictures: all of them.
        """
        return self.build(source, output, options or BuildOptions(), progress)

    @abstractmethod
    def build(
        self, source: Path, output: Path, options: BuildOptions, progress: Progress | None
    ) -> dict[str, object]:
        """Build the folder; see ``prepare``."""

    def settings(self) -> dict[str, object]:
        """Return all options but paths, for the summary of a data folder."""
        fields = dataclasses.fields(self)
        return {field.name: getattr(self, field.name) for field in fields if "Path" not in str(field.type)}


@dataclasses.dataclass(frozen=True)
class CorpusReader(Preparation):
    """Base of corpora whose recordings and pictures exist and only need to be found.

    ``arranges`` says that splits or groups depend on the media, see ``arrange``.
    """

    arranges: ClassVar[bool] = False

    @abstractmethod
    def collect(self, source: Path, faults: list[Fault]) -> Corpus:
        """Read lists and find files, without opening any media.

        ``faults`` receives the faults of single entries, which are raised after all media were checked.

        Raises:
            FaultError: The corpus cannot be read at all.
        """

    def arrange(self, corpus: Corpus, speech: Mapping[str, str], pictures: Mapping[str, str]) -> Corpus:  # noqa: ARG002
        """Return the corpus, without what is left out, with splits and groups that depend on its media.

        ``speech`` and ``pictures`` are the SHA-256 of every recording and picture by path.
        """
        return corpus

    def finish(self, folder: Path) -> Mapping[str, object]:  # noqa: ARG002
        """Add files to the data folder; return what to add to its summary."""
        return {}

    def build(
        self, source: Path, output: Path, options: BuildOptions, progress: Progress | None
    ) -> dict[str, object]:
        """Collect the corpus and build the folder."""
        from fairseq_vgs.prepare.build.folder import build_folder
        from fairseq_vgs.prepare.build.tables import command_line

        faults: list[Fault] = []
        corpus = self.collect(source, faults)
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        settings = self.settings()
        chosen = {name: value for name, value in settings.items() if value != defaults[name]}
        paths = (getattr(self, name) for name in defaults)
        return build_folder(
            corpus,
            output,
            options=options,
            faults=faults,
            progress=progress,
            command=command_line(corpus.name, f"{self.source[0]} OUTPUT", chosen),
            settings=settings,
            inputs=[source, *(path for path in paths if isinstance(path, Path))],
            arrange=self.arrange if self.arranges else None,
            finish=self.finish,
        )


def images_option(what: str, *, needed: bool = True) -> Any:
    """Declare ``--images``; with ``needed``, it or ``--without-pictures`` must be given."""
    return option(None, help=f"folder of {what}", metavar="FOLDER", exclusive="pictures", needed=needed)


def without_pictures_option(*, needed: bool = True) -> Any:
    """Declare ``--without-pictures``."""
    text = "make no table of pictures; fairseq-vgs prepare regions adds features under the same image ids"
    return option(False, help=text, exclusive="pictures", needed=needed)


CORPORA: Registry[type[Preparation]] = Registry("corpus", __name__)
