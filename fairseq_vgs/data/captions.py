"""Captions as text: SentencePiece unit numbers in place of a waveform.

Shapes: N pairs, L units of a caption.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_vgs.arrays import I64
from fairseq_vgs.data.bad_items import raise_or_log
from fairseq_vgs.data.tables import SplitTable
from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.manifest.folder import ManifestFolder

logger = logging.getLogger(__name__)


UNITS_NAME = "spm.model"
_MAKE = "make it with fairseq-vgs prepare text, or set task.text_units"


def units_file(folder: ManifestFolder, setting: str | None) -> Path:
    """Return the file of the text units: ``task.text_units``, or the output of ``prepare text``."""
    return folder.text / UNITS_NAME if setting is None else Path(setting)


class TextUnits:
    """Units of ``fairseq-vgs prepare text``, a SentencePiece model; the unknown one is among them.

    Raises:
        FaultError: The file is missing or not a SentencePiece model, or sentencepiece is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        package = optional_package("sentencepiece", "text", place=path)
        try:
            model = path.read_bytes()
            self._processor: Any = package.SentencePieceProcessor(model_proto=model)
        except FileNotFoundError:
            message = f"file of text units is missing; {_MAKE}"
            raise FaultError.at(path, message, "file.missing") from None
        except (OSError, RuntimeError) as error:
            message = f"must be a SentencePiece model, got {error}; {_MAKE}"
            raise FaultError.at(path, message, "file.unreadable") from error
        self.sha256 = hashlib.sha256(model).hexdigest()

    def __len__(self) -> int:
        return int(self._processor.get_piece_size())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the unit numbers of each text; empty if the text is blank."""
        return list(self._processor.encode(list(texts), out_type=int))


class CaptionTokens:
    """The unit numbers of N captions in one array; ``lengths`` are int64[N] units of each."""

    def __init__(self, captions: Iterable[Sequence[int] | I64]) -> None:
        captions = list(captions)
        self.lengths: I64 = np.fromiter(map(len, captions), dtype=np.int64, count=len(captions))
        self._ends = np.concatenate([[0], np.cumsum(self.lengths)])
        self._tokens = np.fromiter((token for caption in captions for token in caption), dtype=np.int32)

    def __getitem__(self, pair: int) -> I64:
        """Return int64[L], a pair's units."""
        return self._tokens[self._ends[pair] : self._ends[pair + 1]].astype(np.int64)


def encode_captions(
    table: SplitTable, units: TextUnits, *, skip_bad: bool = False
) -> tuple[SplitTable, CaptionTokens]:
    """Turn the texts of a split into units; return the table of the pairs that have a text, and their units.

    Pairs without text are refused, all of them, or skipped on request unless no pair is left.
    """
    if table.texts is None:
        raise ValueError(f"split {table.split!r}: expected a table with texts; load it with with_texts=True")
    tokens = CaptionTokens(units.encode(list(table.texts)))
    keep = tokens.lengths > 0
    if keep.all():
        return table, tokens
    step = "add one, remove the pair, or skip such items with task.skip_bad=true"
    what = f"pair has no text for model.caption_encoder=text; {step}"
    faults = [Fault(table.audio.place(row), what, "text.missing") for row in table.audio_row[~keep].tolist()]
    raise_or_log(faults, skip_bad=skip_bad)
    logger.warning("split %r: %d pairs without text are skipped", table.split, len(faults))
    return table.select(keep), CaptionTokens(tokens[pair] for pair in np.flatnonzero(keep).tolist())
