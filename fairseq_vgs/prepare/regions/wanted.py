"""Which pictures of a source of regions a data folder wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.manifest import ManifestFolder, read_images, read_pairs

MATCHES: Mapping[str, Callable[[str], str]] = {
    "exact": str,
    "name": lambda image_id: PurePosixPath(image_id).name,
    "stem": lambda image_id: PurePosixPath(image_id).stem,
}


@dataclass(frozen=True)
class WantedImages:
    """The pictures a folder knows.

    Attributes:
        table: Where their ids come from, for messages; empty where every picture is wanted.
        places: File and line of each id.
        sizes: Width and height in pixels of those in ``images.tsv``.
        by_key: The id for what sources may call it.
        key_of: How an id of a source is reduced before it is looked up.
    """

    table: str
    places: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    by_key: Mapping[str, str]
    key_of: Callable[[str], str]

    def keep(self, source_id: str) -> str | None:
        """Returns the folder's id for a source's; None where the folder does not know it."""
        return self.by_key.get(self.key_of(source_id)) if self.table else source_id


def read_wanted(folder: Path, *, match: str = "exact") -> WantedImages:
    """Reads which pictures a folder wants: those of ``images.tsv``, else of its pairs, else all.

    Args:
        folder: The data folder; may be missing.
        match: What of an id must agree: ``exact`` all of it, ``name`` what follows the last slash, ``stem``
            that without its ending.

    Raises:
        FaultError: A faulty table, or ids that are the same for ``match``.
    """
    files = ManifestFolder(folder)
    places: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    table = ""
    if files.images.exists():
        table = files.images.name
        for line, row in enumerate(read_images(files.images).rows, start=3):
            places[row.image_id] = f"{table}:{line}"
            sizes[row.image_id] = (row.width, row.height)
    else:
        for path in (files.pairs(split) for split in files.splits() if files.pairs(split).exists()):
            table = "the pairs"
            for line, pair in enumerate(read_pairs(path), start=2):
                places.setdefault(pair.image_id, f"{path.name}:{line}")
    key_of = MATCHES[match]
    by_key: dict[str, str] = {}
    faults = []
    for image_id, place in places.items():
        first = by_key.setdefault(key_of(image_id), image_id)
        if first != image_id:
            expected = f"ids must differ in their {match}, as the one in {places[first]} does not"
            faults.append(fault(place, expected, image_id, "choose another --match"))
    if faults:
        raise FaultError(faults)
    return WantedImages(table, places, sizes, by_key, key_of)
