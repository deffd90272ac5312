"""What the page shows, as pieces of HTML that need nothing else: media are inside of them."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from fairseq_vgs.demo.collection import Item, Side
from fairseq_vgs.demo.search import Found, Search
from fairseq_vgs.features.heat_map import HeatMap
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.media.content import Source
from fairseq_vgs.media.cut_out import fit_inside
from fairseq_vgs.media.encode import encode_wav
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.pictures import encode_jpeg, read_picture
from fairseq_vgs.media.sound import Sound, decode
from fairseq_vgs.metrics.retrieval import RankedItem
from fairseq_vgs.report.gallery import Answer, answer_with
from fairseq_vgs.report.gallery_heat import NOTE, HeatFigure, draw_cells, draw_loudness, peak_heat
from fairseq_vgs.report.page import render_page

PICTURE_PIXELS = 320
FIND_PICTURES, FIND_CAPTIONS = "Speak, find pictures", "Show a picture, hear captions"
NO_CAPTIONS = (
    "There are no captions to find here: start the demo with a data folder, or put recordings into this one."
)
MICROPHONE = """
<p class="missing" role="status">There is no microphone here: upload a recording, or choose a caption.</p>
<p class="denied" role="status">This page may not use the microphone: allow it beside the browser's address,
or upload a recording.</p>
<p class="insecure" role="status">Browsers lend the microphone to https and localhost pages alone: forward
the port (ssh -L 7860:localhost:7860 HOST) and open http://localhost:7860, or upload a recording.</p>
"""
_CACHED = 512

Address = Callable[[Item], str | None]


def pictures(found: Found, search: Search) -> str:
    """Show the pictures that answer a recording or a caption."""
    side = search.collection.pictures
    query = "" if found.known is None else search.collection.captions.items[found.known].label
    return _answers("pictures", side, found, query)


def captions(found: Found, search: Search) -> str:
    """Show the captions that answer a picture."""
    side = search.collection.captions
    if not len(side):
        return hint(NO_CAPTIONS)
    return _answers("captions", side, found)


def choices(numbers: Sequence[int], search: Search) -> str:
    """Show pictures of the collection to choose from."""
    items = [search.collection.pictures.items[number] for number in numbers]
    shown = [(number, picture_address(item), item.name) for number, item in zip(numbers, items, strict=True)]
    return render_page("demo_choices.html.j2", pictures=shown)


def heat(found: Found, answer: RankedItem, heat_map: HeatMap, search: Search) -> str:
    """Show a heat map beside its player."""
    item = search.collection.pictures.items[answer.item]
    peak = peak_heat([heat_map])
    figure = HeatFigure(
        f"Picture {item.name}, rank {answer.rank:g}{' ✓ correct' if answer.is_correct else ''}",
        answer.is_correct,
        picture_address(item),
        _address("image/png", draw_cells(heat_map, peak)),
        _address("image/png", draw_loudness(heat_map)),
        heat_map,
        peak,
    )
    sound = sound_address(found.query, max_seconds=heat_map.seconds)
    return render_page("demo_heat.html.j2", heat=figure, sound=sound, note=NOTE)


def about(facts: Sequence[str], caveat: str) -> str:
    """Show what the model is and what it searches."""
    return render_page("demo_about.html.j2", facts=facts, caveat=caveat)


def several(number: int, noun: str) -> str:
    """Count things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def hint(text: str) -> str:
    """Show what to do."""
    return f'<p class="hint">{html.escape(text)}</p>'


def fault(error: FaultError, upload: str | None = None, *, other_tab: str = "") -> str:
    """Show an error with its next step; of an upload, whose path nobody knows, the name.

    What is a recording where a picture was asked for, or the reverse, belongs to the ``other_tab``.
    """
    text = str(error)
    if upload is not None:
        text = text.replace(upload, Path(upload).name)
        if "media.kind" in error.codes:
            text = f"{text.partition(';')[0]}; give it under “{other_tab}”"
    return f'<p class="fault" role="alert">{html.escape(text)}</p>'


def sound_address(source: Source, *, max_seconds: float | None = None) -> str:
    """Return a recording, or its beginning, as a data address that browsers play.

    Raises:
        MediumError: it cannot be decoded.
    """
    sound = decode(source)
    if max_seconds is not None:
        sound = Sound(sound.samples[: round(max_seconds * sound.rate)], sound.rate)
    return _address("audio/wav", encode_wav(sound))


def picture_address(item: Item) -> str | None:
    """Return a small copy of a picture as a data address; None if there is none that can be read."""
    try:
        return _small_picture(item.source) if item.source is not None else None
    except MediumError:
        return None


@lru_cache(_CACHED)
def _small_picture(source: Source) -> str:
    return _address("image/jpeg", encode_jpeg(fit_inside(read_picture(source), PICTURE_PIXELS)))


def _answers(kind: str, side: Side, found: Found, query: str = "") -> str:
    address = picture_address if kind == "pictures" else _caption_address
    answers = [_answer(side.items[one.item], one, address) for one in found.answers]
    sentence = f"the best of {several(len(side), kind.removesuffix('s'))}"
    if (rank := found.correct_rank) is not None:
        sentence += f"; a correct one is at rank {rank:g}"
    sentence = sentence if query else sentence.capitalize()
    return render_page("demo_answers.html.j2", kind=kind, query=query, sentence=sentence, answers=answers)


def _answer(item: Item, ranked: RankedItem, address: Address) -> Answer:
    return answer_with(Answer(address(item), item.label, bool(item.text), item.speaker), ranked)


def _caption_address(item: Item) -> str | None:
    try:
        return sound_address(item.source) if item.source is not None else None
    except MediumError:
        return None


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
