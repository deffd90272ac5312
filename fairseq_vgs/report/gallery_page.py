"""The gallery as HTML: one page, nothing from the network; every text is escaped.

The only script, where there are heat maps, is the package's own ``gallery.js``; no data stand in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from fairseq_vgs.evaluation.metrics.retrieval import RECALL_CUTOFFS
from fairseq_vgs.report.gallery_heat import NOTE as HEAT_NOTE
from fairseq_vgs.report.gallery_heat import HeatFigure, render_heat

_TITLES = {"speech_to_image": "Speech → image", "image_to_speech": "Image → speech"}


@dataclass(frozen=True)
class Answer:
    """A clip or a picture on the page.

    Attributes:
        address: of the file, relative to the page; None if there is none to show.
        label: the caption's text, or an id.
        has_text: whether the label is what is said.
        speaker: empty if unknown.
        is_hit: a correct answer.
        score: similarity to the query.
    """

    address: str | None
    label: str
    has_text: bool
    speaker: str
    is_hit: bool
    score: float | None


@dataclass(frozen=True)
class Card:
    """A query with its best answers, and a correct one if none of these is.

    Attributes:
        query: clip or picture.
        rank: of the best correct answer; ties count half.
        n_gallery: how many items are ranked.
        is_worst: chosen for its rank rather than drawn.
        answers: best first.
        correct: a correct answer, if none of ``answers`` is.
        heats: heat maps of a spoken query with the first picture and with the correct one.
    """

    query: Answer
    rank: float
    n_gallery: int
    is_worst: bool
    answers: Sequence[Answer]
    correct: Answer | None
    heats: Sequence[HeatFigure] = ()


@dataclass(frozen=True)
class SummaryRow:
    """A row of the summary table: R@1, R@5, R@10 and median rank, as text."""

    direction: str
    title: str
    cells: Sequence[str]


@dataclass(frozen=True)
class GalleryPage:
    """All that is on the page; ``metrics`` is the content of metrics.json."""

    metrics: Mapping[str, Any]
    summary: Sequence[SummaryRow]
    speech_cards: Sequence[Card]
    image_cards: Sequence[Card]
    plot: str | None
    seed: int
    n_unreadable_pictures: int = 0


def render_page(page: GalleryPage) -> str:
    """Return the page's HTML."""
    style = _own_file("gallery.css")
    split = escape(str(page.metrics["split"]))
    body = "\n".join(
        [
            _header(page),
            _summary(page),
            _section("speech-to-image", "Speech → image", page.speech_cards, _speech_card, page.seed),
            _section("image-to-speech", "Image → speech", page.image_cards, _image_card, page.seed),
            _footer(page.metrics),
        ]
    )
    if any(card.heats for card in page.speech_cards):
        body += f"\n<script>\n{_own_file('gallery.js')}</script>"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Speech and pictures: retrieval on split {split}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _own_file(name: str) -> str:
    return resources.files("fairseq_vgs.evaluation").joinpath(name).read_text(encoding="utf-8")


def _header(page: GalleryPage) -> str:
    pool = page.metrics["pool"]
    missing = (
        f'<p class="note">{page.n_unreadable_pictures} pictures could not be read and are not shown.</p>'
        if page.n_unreadable_pictures
        else ""
    )
    return f"""<header>
<h1>Speech and pictures, split “{escape(str(page.metrics["split"]))}”</h1>
<p>Listen to a spoken query and look at the pictures that the model ranks highest, and the reverse.
{escape(str(pool["captions"]))} spoken captions, {escape(str(pool["images"]))} pictures; similarity:
{escape(str(page.metrics["similarity"]))}. A correct answer has a green frame and the mark ✓.</p>
{missing}
<nav aria-label="Sections"><a href="#summary">Summary</a> <a href="#speech-to-image">Speech → image</a>
<a href="#image-to-speech">Image → speech</a></nav>
</header>
<main>"""


def _summary(page: GalleryPage) -> str:
    heads = "".join(f'<th scope="col">R@{k}, %</th>' for k in RECALL_CUTOFFS)
    rows, direction = [], ""
    for row in page.summary:
        if row.direction != direction:
            direction = row.direction
            words = escape(str(page.metrics["pool"][direction]))
            rows.append(
                f'<tr class="direction"><th scope="rowgroup" colspan="5">{_TITLES[direction]} '
                f"<small>{words}</small></th></tr>"
            )
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
        rows.append(f'<tr><th scope="row">{escape(row.title)}</th>{cells}</tr>')
    plot = (
        '<figure class="scroll" tabindex="0" role="region" aria-label="Training curves">'
        f'<img src="{escape(page.plot)}" alt="Curves over updates: losses; recalls and their chance">'
        "<figcaption>The training run: losses, and recalls on the validation split.</figcaption></figure>"
        if page.plot
        else ""
    )
    return f"""<section id="summary" aria-labelledby="summary-title">
<h2 id="summary-title">Summary</h2>
<p class="note" id="summary-note">Recall: share of queries with a correct answer among the first k.
In brackets: 95 % interval over resampled pictures.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Recall of all models">
<table aria-describedby="summary-note">
<thead><tr><td></td>{heads}<th scope="col">median rank</th></tr></thead>
<tbody>
{chr(10).join(rows)}
</tbody>
</table>
</div>
{plot}
</section>"""


def _section(name: str, title: str, cards: Sequence[Card], render: Any, seed: int) -> str:
    n_worst = sum(card.is_worst for card in cards)
    worst = f", then the {n_worst} with the worst ranks of the whole split" if n_worst else ""
    body = "\n".join(render(card, number) for number, card in enumerate(cards, start=1))
    heat = f'\n<p class="note">Heat maps. {HEAT_NOTE}</p>' if any(card.heats for card in cards) else ""
    return f"""<section id="{name}" aria-labelledby="{name}-title">
<h2 id="{name}-title">{title}</h2>
<p class="note">{len(cards) - n_worst} queries drawn at random (seed {seed}){worst}.</p>{heat}
{body}
</section>"""


def _speech_card(card: Card, number: int) -> str:
    answers = "\n".join(_picture_answer(answer, place) for place, answer in enumerate(card.answers, start=1))
    correct = _picture_answer(card.correct, card.rank, below=True) if card.correct else ""
    heats = f'<div class="heats">{"".join(map(render_heat, card.heats))}</div>' if card.heats else ""
    return f"""<article class="card speech">
{_card_head(card, f"Caption {number}")}
<div class="query">{_player(card.query, f"Query: {card.query.label}")}{_said(card.query)}</div>
<ol class="pictures" aria-label="Pictures, best first">
{answers}
{correct}
</ol>
{heats}
</article>"""


def _image_card(card: Card, number: int) -> str:
    answers = "\n".join(_caption_answer(answer, place) for place, answer in enumerate(card.answers, start=1))
    correct = _caption_answer(card.correct, card.rank, below=True) if card.correct else ""
    return f"""<article class="card image">
{_card_head(card, f"Picture {number}")}
<div class="query">{_image(card.query, f"Query picture {card.query.label}")}</div>
<ol class="captions" aria-label="Spoken captions, best first">
{answers}
{correct}
</ol>
</article>"""


def _card_head(card: Card, title: str) -> str:
    state = "hit" if card.rank <= 1 else "near" if card.rank <= len(card.answers) else "miss"
    worst = '<span class="tag">one of the worst</span>' if card.is_worst else ""
    return (
        f'<h3>{title} <span class="rank {state}">correct answer at rank {card.rank:g} of '
        f"{card.n_gallery}</span>{worst}</h3>"
    )


def _picture_answer(answer: Answer, rank: float, *, below: bool = False) -> str:
    picture = _image(answer, f"Picture {answer.label}, {_rank_words(answer, rank)}")
    return f'<li class="{_classes(answer, below=below)}">{picture}<span>{_marks(answer, rank)}</span></li>'


def _caption_answer(answer: Answer, rank: float, *, below: bool = False) -> str:
    player = _player(answer, f"Caption {answer.label}, {_rank_words(answer, rank)}")
    return (
        f'<li class="{_classes(answer, below=below)}"><span>{_marks(answer, rank)}</span>'
        f"{player}{_said(answer)}</li>"
    )


def _classes(answer: Answer, *, below: bool) -> str:
    return ("hit" if answer.is_hit else "wrong") + (" below" if below else "")


def _rank_words(answer: Answer, rank: float) -> str:
    return f"rank {rank:g}, {'correct' if answer.is_hit else 'wrong'}"


def _marks(answer: Answer, rank: float) -> str:
    mark = '<b class="mark">✓ correct</b>' if answer.is_hit else '<span class="mark">wrong</span>'
    score = "" if answer.score is None else f' <span class="score">score {answer.score:.3g}</span>'
    return f"{rank:g}. {mark}{score}"


def _image(answer: Answer, alt: str) -> str:
    if answer.address is None:
        return f'<span class="absent">{escape(answer.label)}<br>picture not available</span>'
    address, title = escape(answer.address), escape(answer.label)
    return f'<img src="{address}" alt="{escape(alt)}" title="{title}" loading="lazy">'


def _player(answer: Answer, label: str) -> str:
    if answer.address is None:
        return '<span class="absent">clip not available</span>'
    address = escape(answer.address)
    return f'<audio controls preload="metadata" src="{address}" aria-label="{escape(label)}"></audio>'


def _said(answer: Answer) -> str:
    speaker = f' <span class="speaker">speaker {escape(answer.speaker)}</span>' if answer.speaker else ""
    text = f"<q>{escape(answer.label)}</q>" if answer.has_text else f"<code>{escape(answer.label)}</code>"
    return f'<p class="said">{text}{speaker}</p>'


def _footer(metrics: Mapping[str, Any]) -> str:
    provenance = metrics["provenance"]
    version = provenance["versions"].get("fairseq_vgs", "")
    return f"""</main>
<footer>
<p>fairseq_vgs {escape(str(version))}, {escape(str(provenance["created"]))}. Checkpoint SHA-256
<code>{escape(str(metrics["checkpoint"]["sha256"])[:16])}…</code>.
Command: <code>{escape(str(provenance["command"]))}</code></p>
</footer>"""
