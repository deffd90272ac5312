"""File names in a data folder."""

from __future__ import annotations

from pathlib import Path

STANDARD_SPLITS = ("train", "valid", "test")
_PAIRS_SUFFIX = ".pairs.tsv"
_UTTERANCES_SUFFIX = ".utterances.tsv"
_TABLE_NAMES = ("images.tsv", "regions.tsv")


class ManifestFolder:
    """Paths of the files in a data folder, named by text or a path; the files need not exist."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.images = self.path / "images.tsv"
        """The table of all pictures."""
        self.regions, self.region_features = self.path / "regions.tsv", self.path / "regions.npy"
        """The table of all regions, and their features, float16 [n_rows, D]."""
        self.text = self.path / "text"
        """Output of ``fairseq-vgs prepare text``: text units and fairseq's label files."""
        self.summary = self.path / "summary.json"
        """Counts, seed, command, and exclusions with reasons."""

    def audio_list(self, split: str) -> Path:
        """Return the audio list of a split."""
        return self.path / f"{split}.tsv"

    def pairs(self, split: str) -> Path:
        """Return the pair table of a split."""
        return self.path / f"{split}{_PAIRS_SUFFIX}"

    def utterances(self, split: str) -> Path:
        """Return the table of speakers and texts of a split's utterances that are in no pair."""
        return self.path / f"{split}{_UTTERANCES_SUFFIX}"

    def splits(self) -> list[str]:
        """Return the splits found here: train, valid, test first, then others by name.

        A split has a table of pairs or utterances, or an audio list: a ``.tsv`` whose first line holds no
        tab. Tables of other kinds that somebody keeps in the folder are no splits.
        """
        found = set()
        for path in self.path.glob("*.tsv"):
            if path.name.endswith(_PAIRS_SUFFIX):
                found.add(path.name.removesuffix(_PAIRS_SUFFIX))
            elif path.name.endswith(_UTTERANCES_SUFFIX):
                found.add(path.name.removesuffix(_UTTERANCES_SUFFIX))
            elif path.name in _TABLE_NAMES:
                continue
            elif path.stem in STANDARD_SPLITS or _first_line_is_a_root(path):
                found.add(path.stem)
        standard = [split for split in STANDARD_SPLITS if split in found]
        return standard + sorted(found.difference(standard))


def _first_line_is_a_root(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"\t" not in file.readline(65536)
    except OSError:
        return False
