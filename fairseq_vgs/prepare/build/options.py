"""Options of all commands that build a data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fairseq_vgs.files.archives import KINDS, SHARD_BYTES
from fairseq_vgs.options import option, positive, refuse_unknown

if TYPE_CHECKING:
    from fairseq_vgs.regions.pictures import PictureRegions

AUTO, ALWAYS, NEVER = CONVERSIONS = ("auto", "always", "never")


@dataclass(frozen=True)
class BuildOptions:
    """How to build a folder, whatever the corpus; ``regions`` are computed if given.

    ``command_line`` is what the user typed, with all paths, for the summary.
    """

    force: bool = option(False, help="replace OUTPUT if this command made it")
    relative_root: bool = option(
        False,
        help="audio lists start from their own folder, which can then be moved; stock fairseq tasks need the "
        "absolute path that is written otherwise",
    )
    jobs: int = option(
        1,
        help="threads; results are the same (default: as many as CPUs)",
        name="--jobs --workers",
        metavar="N",
        parse=positive,
    )
    convert: Literal["auto", "always", "never"] = option(
        AUTO,
        help="recordings as 16 kHz mono FLAC in OUTPUT/speech: if any has another rate, always, or never, "
        "which makes other rates a fault",
    )
    pack: Literal["", "zip", "tar"] = option(
        "",
        help="store recordings and pictures in uncompressed archives of about 1 GiB, read at random access "
        "(default: as files; pictures, and recordings of 16 kHz, stay where they are)",
        choices=KINDS,
    )
    skip_bad: bool = option(
        False,
        help="leave out media that are missing or cannot be used, and name them in summary.json; otherwise "
        "they are listed and nothing is made",
    )
    shard_bytes: int = SHARD_BYTES
    regions: PictureRegions | None = None
    command_line: str = ""

    def __post_init__(self) -> None:
        """Refuse unknown values."""
        refuse_unknown("--convert", self.convert, CONVERSIONS)
        refuse_unknown("--pack", self.pack or KINDS[0], KINDS)

    @property
    def typed(self) -> dict[str, object]:
        """What the summary holds about the command that was typed, if one was."""
        return {"command_line": self.command_line} if self.command_line else {}

    def own_root(self, output: Path) -> Path | str:
        """Return the root of audio lists whose recordings lie in the folder itself."""
        return "." if self.relative_root else output.resolve()
