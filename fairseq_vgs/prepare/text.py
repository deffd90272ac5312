"""Text units: SentencePiece trained on the training split's texts, and fairseq's label files made of them."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.output import refuse_output, staged_folder
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.manifest import AudioList, AudioRow, ManifestFolder
from fairseq_vgs.manifest.tables import read_audio_list, read_pairs, read_utterances, write_audio_list
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.options import option
from fairseq_vgs.prepare.build.tables import command_line, write_summary

MAKER = "text"
UNITS_NAME = "spm.model"
LABELS = "ltr"
WITHOUT_TEXT = "utterances without text"
_MAX_NAMED = 20


@dataclass(frozen=True)
class TextConfig:
    """How units are trained."""

    unit_type: Literal["char", "unigram", "bpe"] = option(
        "char", help="characters, or pieces of words by a unigram model or byte-pair encoding"
    )
    vocabulary_size: int = option(
        1000, help="units, the unknown one included; characters: at most", metavar="N"
    )
    character_coverage: float = option(
        1.0,
        help="share of the texts' characters that get units, the frequent ones first; 0.9995 for large sets",
        metavar="SHARE",
    )
    normalization: Literal["nmt_nfkc_cf", "nmt_nfkc", "nfkc_cf", "nfkc", "identity"] = option(
        "nmt_nfkc_cf", help="SentencePiece's rule; those with cf fold case, the others keep it"
    )
    train_split: str = option("train", help="train units on this split", metavar="SPLIT")


def prepare_text(
    data: Path, output: Path | None = None, *, config: TextConfig | None = None, force: bool = False
) -> dict[str, Any]:
    """Train units, write the files of fairseq's task ``audio_finetuning``, and return their summary.

    The folder, by default ``DATA/text``, where ``model.caption_encoder=text`` looks for it, holds
    ``spm.model``, ``dict.ltr.txt``, and for every split with a table of pairs or utterances ``SPLIT.tsv``
    (those that have a text, under an absolute root) and ``SPLIT.ltr`` (their units, line by line). The same
    texts and settings give the same bytes.

    Raises:
        FaultError: Faulty tables, no text to train on, or settings that these texts do not allow.
    """
    config = config or TextConfig()
    folder = ManifestFolder(data)
    output = folder.text if output is None else output
    refuse_output(output, maker=MAKER, force=force, inputs=[data, *data.glob("*.tsv")])
    lists, texts = _read_texts(folder, config.train_split)
    model = train_units([text for _, text in texts[config.train_split] if text], config)
    encode = _encoder(model)
    with staged_folder(output, maker=MAKER, force=force) as staging:
        with atomic_write(staging / UNITS_NAME, mode="wb") as file:
            file.write(model)
        splits, silent = {}, {}
        for split, rows in texts.items():
            labels = [(row, encode(text)) for row, text in rows]
            silent[split] = [row.audio_id for row, units in labels if not units]
            labels = [(row, units) for row, units in labels if units]
            _write_split(staging, split, lists[split], labels)
            splits[split] = {
                "utterances": len(labels),
                "hours": round(sum(row.n_samples for row, _ in labels) / SAMPLE_RATE / 3600, 3),
                "units": sum(len(units) for _, units in labels),
            }
            if split == config.train_split:
                counts = Counter(unit for _, units in labels for unit in units)
                # fairseq's dictionary: a unit and its count in the training split per line
                with atomic_write(staging / f"dict.{LABELS}.txt") as file:
                    file.writelines(f"{unit} {counts[unit]}\n" for unit in _units(model))
        first = {
            split: {"count": len(ids), "first": ids[:_MAX_NAMED]} for split, ids in silent.items() if ids
        }
        summary = {
            "command": command_line(MAKER, "DATA", asdict(config)),
            "units": {"count": len(_units(model)), "sha256": hashlib.sha256(model).hexdigest()},
            "splits": splits,
            "excluded": {WITHOUT_TEXT: {"count": sum(map(len, silent.values())), "splits": first}},
        }
        write_summary(staging, summary)
    return summary


def train_units(texts: Sequence[str], config: TextConfig) -> bytes:
    """Train SentencePiece units and return the model file's bytes.

    Raises:
        FaultError: SentencePiece cannot make such units of these texts, or is not installed.
    """
    place, model = f"texts of {config.train_split!r}", io.BytesIO()
    trainer = _sentencepiece().SentencePieceTrainer
    try:
        trainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=config.unit_type,
            vocab_size=config.vocabulary_size,
            character_coverage=config.character_coverage,
            normalization_rule_name=config.normalization,
            max_sentence_length=1 << 30,  # bytes; longer texts would be skipped silently
            bos_id=-1,
            eos_id=-1,
            num_threads=1,  # the sums of several threads would depend on their number
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).rpartition("] ")[2].strip() or str(error)
        expected = f"{len(texts)} texts must allow {config.unit_type} units of these settings"
        step = "choose another --vocabulary-size or --unit-type"
        raise FaultError(fault(place, expected, reason, step, code="text.units")) from error
    # fairseq separates units by any blank there is
    if blank := [unit for unit in _units(model.getvalue()) if unit.split() != [unit]]:
        expected, step = "units must not hold blanks", "choose a --normalization other than identity"
        raise FaultError(fault(place, expected, blank[0], step, code="text.units"))
    return model.getvalue()


def _read_texts(
    folder: ManifestFolder, train_split: str
) -> tuple[dict[str, AudioList], dict[str, list[tuple[AudioRow, str]]]]:
    """Return the audio list of every split with pairs or transcripts, and each utterance with its text."""
    lists: dict[str, AudioList] = {}
    texts: dict[str, list[tuple[AudioRow, str]]] = {}
    faults: list[Fault] = []
    for split in folder.splits():
        pairs, utterances = folder.pairs(split), folder.utterances(split)
        if not (pairs.is_file() or utterances.is_file()):
            continue
        try:
            lists[split] = read_audio_list(folder.audio_list(split))
            by_id = {row.audio_id: row.text for row in read_pairs(pairs)} if pairs.is_file() else {}
            if utterances.is_file():
                by_id |= {row.audio_id: row.text for row in read_utterances(utterances)}
        except FaultError as error:
            faults.extend(error.faults)
            continue
        rows = lists[split].rows
        texts[split] = [(row, by_id.get(row.audio_id, "").strip()) for row in rows]
    raise_any(faults)
    if not any(text for _, text in texts.get(train_split, ())):
        found = ", ".join(texts) or "none"
        message = (
            f"must hold texts to train units on, or {folder.utterances(train_split).name}, got none "
            f"(splits with such a table: {found}); give a folder with texts, or another --train-split"
        )
        raise FaultError.at(folder.pairs(train_split), message, "text.missing")
    return lists, texts


def _encoder(model: bytes) -> Callable[[str], list[str]]:
    processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
    known = set(_units(model))

    def encode(text: str) -> list[str]:
        """Return units; SentencePiece joins unknown characters in a row, here each is one."""
        pieces = processor.encode(text, out_type=str)
        return [unit for piece in pieces for unit in ([piece] if piece in known else piece)]

    return encode


def _units(model: bytes) -> list[str]:
    """Return the units without the unknown one, in the model's order."""
    processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
    numbers = range(processor.get_piece_size())
    return [processor.id_to_piece(i) for i in numbers if not processor.is_unknown(i)]


def _write_split(
    folder: Path, split: str, audio: AudioList, labels: Sequence[tuple[AudioRow, Sequence[str]]]
) -> None:
    if not labels:
        return
    # stock fairseq takes a relative root from the working directory
    rows, path = [row for row, _ in labels], ManifestFolder(folder).audio_list(split)
    write_audio_list(path, rows, root=audio.root.resolve())
    with atomic_write(folder / f"{split}.{LABELS}") as file:
        file.writelines(f"{' '.join(units)}\n" for _, units in labels)


def _sentencepiece() -> Any:
    return optional_package("sentencepiece", "text", place="sentencepiece")
