"""Build the ABX part of the embedded set: utterances of festvox-ru, their phones and triphone items."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded_files import build_stored_zip, encode_vorbis

from fairseq_vgs.alignments.items import Speakers, make_items, seconds, write_items
from fairseq_vgs.alignments.read import Alignment, read_alignments
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.manifest import AudioRow, write_audio_list
from fairseq_vgs.media.encode import limit_peak, resample
from fairseq_vgs.media.sound import decode, inspect

VOICE_FOLDER = Path("usr/share/festival/voices/russian/msu_ru_nsh_clunits")
SPEAKER = "nsh"
N_UTTERANCES = 60
ARCHIVE = "speech.zip"
# Apart from the serial numbers of the stamps' recordings.
FIRST_SERIAL = 100_000
_TRANSCRIPT = re.compile(r'\(\s*(\S+)\s+"(.*)"\s*\)')


@dataclass(frozen=True)
class Utterance:
    """One utterance with its phones."""

    name: str
    text: str
    alignment: Alignment


def read_utterances(voice: Path) -> tuple[Utterance, ...]:
    """Read the first ``N_UTTERANCES`` utterances of the voice."""
    texts = dict(_TRANSCRIPT.findall((voice / "etc" / "txt.done.data").read_text(encoding="utf-8")))
    names = sorted(path.stem for path in (voice / "lab").glob("*.lab"))[:N_UTTERANCES]
    alignments = read_alignments(voice / "lab" / f"{name}.lab" for name in names)
    return tuple(Utterance(name, texts[name], found) for name, found in zip(names, alignments, strict=True))


def encode_utterances(
    utterances: Sequence[Utterance], voice: Path, quality: float
) -> list[tuple[str, bytes]]:
    """Return the (entry name, Ogg Vorbis) of each utterance.

    Raises:
        ValueError: a recording ends before its last label.
    """
    entries = []
    for number, utterance in enumerate(utterances):
        sound = decode(voice / "wav" / f"{utterance.name}.wav")
        if utterance.alignment.phones[-1].offset * sound.rate > len(sound.samples):
            raise ValueError(
                f"{utterance.name}: expected speech up to {utterance.alignment.phones[-1].offset} s, got less"
            )
        content = encode_vorbis(
            limit_peak(resample(sound.samples, sound.rate)), quality=quality, serial=FIRST_SERIAL + number
        )
        entries.append((f"{utterance.name}.ogg", content))
    return entries


def write_abx(package: Path, output: Path, *, quality: float) -> tuple[list[str], dict[str, object]]:
    """Write the ABX files; return their names and counts for the summary."""
    voice = package / VOICE_FOLDER
    utterances = read_utterances(voice)
    entries = encode_utterances(utterances, voice, quality)
    content, places = build_stored_zip(entries)
    with atomic_write(output / ARCHIVE, mode="wb", force=True) as file:
        file.write(content)
    ids = [f"{ARCHIVE}:{place.offset}:{place.length}" for place in places]
    rows = [
        AudioRow(audio_id, inspect(media).n_samples)
        for audio_id, (_, media) in zip(ids, entries, strict=True)
    ]
    write_audio_list(output / "test.tsv", rows, root=".", force=True)
    with atomic_write(output / "utterances.tsv", force=True) as file:
        file.write("audio_id\tfile\tspeaker\ttext\n")
        for audio_id, utterance in zip(ids, utterances, strict=True):
            file.write(f"{audio_id}\t{utterance.name}\t{SPEAKER}\t{utterance.text}\n")
    with atomic_write(output / "alignments.tsv", force=True) as file:
        file.write("audio_id\tonset\toffset\tphone\n")
        for audio_id, utterance in zip(ids, utterances, strict=True):
            for phone in utterance.alignment.phones:
                file.write(f"{audio_id}\t{seconds(phone.onset)}\t{seconds(phone.offset)}\t{phone.label}\n")
    items = make_items((utterance.alignment for utterance in utterances), Speakers(everyone=SPEAKER))
    n_items = write_items(output / "triphone.item", items, force=True)
    counts: dict[str, object] = {
        "utterances": len(utterances),
        "minutes": round(sum(row.n_samples for row in rows) / 16_000 / 60, 2),
        "phones": sum(len(utterance.alignment.phones) for utterance in utterances),
        "triphone_items": n_items,
    }
    return [ARCHIVE, "test.tsv", "utterances.tsv", "alignments.tsv", "triphone.item"], counts
