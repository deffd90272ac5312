"""Recordings alone, in any folders: speech for self-supervision, without pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.options import option
from fairseq_vgs.prepare.corpora import CORPORA, CorpusReader
from fairseq_vgs.prepare.corpus import Caption, Corpus, split_problem


@CORPORA.register("speech")
@dataclass(frozen=True)
class Speech(CorpusReader):
    """Recordings alone, from any folder: more speech for the SSL loss.

    Every recording below RECORDINGS becomes part of one split. The folder is for task.unpaired_data (with
    task.unpaired_ratio), beside pairs of speech and pictures; on its own it serves stock wav2vec 2.0 and
    extract. Hidden files, and files not named as audio, are left out.
    """

    examples = (
        "fairseq-vgs prepare speech RECORDINGS DATA",
        "fairseq-vgs prepare speech stamps DATA --only '*_desc_fr.ogg' --only '*_desc_es.ogg' --skip-bad",
    )
    source = ("RECORDINGS", "folder of recordings, subfolders included")

    only: tuple[str, ...] = option(
        (), help="take only paths that match, such as 'news/*.mp3'; repeat for more", metavar="PATTERN",
        repeated=True,
    )  # fmt: skip
    split: str = option("train", help="the split that they become", metavar="NAME")

    def __post_init__(self) -> None:
        """Refuse an impossible split."""
        if split_problem(self.split):
            step = "name it with letters, digits, . - and _"
            raise FaultError(fault("--split", "must name a split", self.split, step, code="setting.value"))

    def collect(self, source: Path, faults: list[Fault]) -> Corpus:
        """Find the recordings; their speakers are unknown.

        Raises FaultError.
        """
        from fairseq_vgs.media.kind import AUDIO_SUFFIXES  # which the help of prepare does not need

        if not source.is_dir():
            message = "must be a folder of recordings, got none; check the path"
            raise FaultError.at(source, message, "corpus.folder")
        there = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
        shown = [path for path in there if not any(part.startswith(".") for part in path.parts)]
        audio = [path for path in shown if path.suffix.lower() in AUDIO_SUFFIXES]
        taken = [path.as_posix() for path in audio if self._is_wanted(path.as_posix())]
        if not taken:
            kinds = Counter(path.suffix.lower() or "without ending" for path in shown).most_common(4)
            got = ", ".join(f"{count} x {suffix}" for suffix, count in kinds) or "no files"
            expected = f"must hold recordings ({', '.join(AUDIO_SUFFIXES)})"
            step = "check the path and --only, or convert the files"
            faults.append(fault(str(source), expected, got, step, code="recording.missing"))
        captions = [Caption(path, self.split, place=path) for path in taken]
        return Corpus("speech", audio_root=source, image_root=source, captions=captions)

    def _is_wanted(self, path: str) -> bool:
        return not self.only or any(fnmatchcase(path, pattern) for pattern in self.only)
