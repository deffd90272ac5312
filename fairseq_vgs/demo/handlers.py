"""What happens when somebody speaks, uploads or chooses; the answers are pieces of HTML."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from fairseq_vgs.demo import show
from fairseq_vgs.demo.advice import as_options
from fairseq_vgs.demo.search import Found, Search
from fairseq_vgs.files.faults import FaultError

SPEAK = "Record yourself, upload a recording or choose a caption: the pictures that fit best appear here."
LOOK = "Upload a picture or choose one: the captions that fit best appear here."
N_CHOICES = 12
MOST_LISTED = 500
"""Captions in the list to choose from."""

_Result = tuple[str, Found | None]
_Spoken = tuple[str, Found | None, None]
"""The last empties the other way to ask."""


class Handlers:
    """What the page's elements do; every message about bad input is HTML in place of the answers."""

    def __init__(self, search: Search, *, seed: int) -> None:
        self.search = search
        self._random = random.Random(seed)

    def speak(self, path: str | None) -> _Spoken:
        """Find pictures for a recording."""
        if path is None:
            return show.hint(SPEAK), None, None
        found = self._answered(
            lambda: self.search.pictures(Path(path)), show.pictures, path, other_tab=show.FIND_CAPTIONS
        )
        return *found, None

    def choose_caption(self, number: int | None) -> _Spoken:
        """Find pictures for a caption of the collection."""
        if number is None:
            return show.hint(SPEAK), None, None
        return *self._answered(lambda: self.search.pictures_of(number), show.pictures), None

    def draw_caption(self) -> int:
        """Draw one of the listed captions."""
        return self._random.randrange(min(MOST_LISTED, len(self.search.collection.captions)))

    def look(self, path: str | None) -> str:
        """Find captions for a picture."""
        if path is None:
            return show.hint(LOOK)
        return self._answered(
            lambda: self.search.captions(Path(path)), show.captions, path, other_tab=show.FIND_PICTURES
        )[0]

    def choose_picture(self, number: int) -> str:
        """Find captions for a picture of the collection."""
        return self._answered(lambda: self.search.captions_of(number), show.captions)[0]

    def draw_pictures(self) -> str:
        """Draw pictures to choose from."""
        n_items = len(self.search.collection.pictures)
        return show.choices(self._random.sample(range(n_items), min(N_CHOICES, n_items)), self.search)

    def captions(self) -> list[tuple[str, int]]:
        """List captions to choose from."""
        items = self.search.collection.captions.items[:MOST_LISTED]
        return [
            (f"{item.label} ({item.speaker})" if item.speaker else item.label, n)
            for n, item in enumerate(items)
        ]

    def _answered(
        self,
        find: Callable[[], Found],
        shown: Callable[[Found, Search], str],
        upload: str | None = None,
        *,
        other_tab: str = "",
    ) -> _Result:
        try:
            found = find()
            return shown(found, self.search), found
        except FaultError as error:
            return show.fault(self._advised(error), upload, other_tab=other_tab), None

    def heat(self, found: Found | None, index: int = 0) -> str:
        """Show the heat map of one of the answers; nothing without answers."""
        if found is None or not 0 <= index < len(found.answers):
            return ""
        answer = found.answers[index]
        try:
            return show.heat(found, answer, self.search.heat_map(found.query, answer.item), self.search)
        except FaultError as error:
            return show.fault(self._advised(error))

    def _advised(self, error: FaultError) -> FaultError:
        return as_options(error, self.search.model.checkpoint.path)
