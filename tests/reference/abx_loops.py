"""Phone ABX as plain loops over triples: slow, obvious, sharing nothing with what they check.

Times are fractions of a second; a frame is a list of floats.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

Frame = Sequence[float]
Frames = Sequence[Frame]


class Token(NamedTuple):
    file: str
    onset: Fraction
    offset: Fraction
    phone: str
    previous_phone: str
    next_phone: str
    speaker: str


class Cell(NamedTuple):
    phone_a: str
    phone_b: str
    context: tuple[str, str]
    speaker: str
    x_speaker: str


def frame_numbers(onset: Fraction, offset: Fraction, *, rate: Fraction, librilight: bool) -> list[int]:
    """Frames whose middle is inside, by looking at every frame there could be."""
    last = math.ceil(offset * rate) + 1
    inside = [i for i in range(last + 1) if onset <= (i + Fraction(1, 2)) / rate <= offset]
    return inside[:-1] if librilight else inside


def angular(first: Frame, second: Frame) -> float:
    """Angle / pi; cosines that are 1 up to rounding are 1; null vectors are far from all others."""
    norms = [math.sqrt(math.fsum(v * v for v in frame)) for frame in (first, second)]
    if 0.0 in norms:
        return 0.0 if norms == [0.0, 0.0] else 1.0
    cosine = math.fsum(v * w for v, w in zip(first, second, strict=True)) / (norms[0] * norms[1])
    if cosine > 1 - 8 * 2.0**-52:
        return 0.0
    return math.acos(max(-1.0, cosine)) / math.pi


def euclidean(first: Frame, second: Frame) -> float:
    return math.sqrt(math.fsum((v - w) ** 2 for v, w in zip(first, second, strict=True)))


def kl_symmetric(first: Frame, second: Frame) -> float:
    forward = math.fsum(v * math.log((v + 1e-6) / (w + 1e-6)) for v, w in zip(first, second, strict=True))
    backward = math.fsum(w * math.log((w + 1e-6) / (v + 1e-6)) for v, w in zip(first, second, strict=True))
    return (forward + backward) / 2


def identical(first: Frame, second: Frame) -> float:
    return 0.0 if list(first) == list(second) else 1.0


DISTANCES: dict[str, Callable[[Frame, Frame], float]] = {
    "angular": angular,
    "euclidean": euclidean,
    "kl_symmetric": kl_symmetric,
    "identical": identical,
}


def dtw(costs: Sequence[Sequence[float]]) -> float:
    """Accumulated cost of the best path over its length, the path found by walking back from the end."""
    n, m = len(costs), len(costs[0])
    total = [[0.0] * m for _ in range(n)]
    for i in range(n):
        for j in range(m):
            before = []
            if i:
                before.append(total[i - 1][j])
            if j:
                before.append(total[i][j - 1])
            if i and j:
                before.append(total[i - 1][j - 1])
            total[i][j] = costs[i][j] + (min(before) if before else 0.0)
    i, j, length = n - 1, m - 1, 1
    while i or j:
        if i and j:
            corner, left, up = total[i - 1][j - 1], total[i][j - 1], total[i - 1][j]
            if corner <= left and corner <= up:
                i, j = i - 1, j - 1
            elif left <= up:
                j -= 1
            else:
                i -= 1
        elif i:
            i -= 1
        else:
            j -= 1
        length += 1
    return total[-1][-1] / length


def token_distance(x: Frames, other: Frames, *, distance: str) -> float:
    measure = DISTANCES[distance]
    return dtw([[measure(frame, against) for against in other] for frame in x])


def cell_errors(
    tokens: Sequence[Token],
    frames: Mapping[int, Frames],
    *,
    speaker: str,
    context: str,
    distance: str,
) -> dict[Cell, float]:
    """Error of every cell; tokens without frames are left out.

    Args:
        tokens: all tokens.
        frames: number of a token -> its frames, where it has any.
        speaker: within or across.
        context: within or any.
        distance: name of a frame distance.
    """
    wins: dict[Cell, list[float]] = defaultdict(list)
    known: dict[tuple[int, int], float] = {}

    def between(x: int, other: int) -> float:
        if (x, other) not in known:
            known[x, other] = token_distance(frames[x], frames[other], distance=distance)
        return known[x, other]

    for a, b, x in triples(tokens, list(frames), speaker=speaker, context=context):
        first, place = tokens[a], context_of(tokens[a], context)
        cell = Cell(first.phone, tokens[b].phone, place, first.speaker, tokens[x].speaker)
        to_a, to_b = between(x, a), between(x, b)
        wins[cell].append(1.0 if to_a < to_b else 0.5 if to_a == to_b else 0.0)
    return {cell: 1.0 - math.fsum(found) / len(found) for cell, found in wins.items()}


def triples(
    tokens: Sequence[Token], numbers: Sequence[int], *, speaker: str, context: str
) -> Iterator[tuple[int, int, int]]:
    """Yield every (a, b, x) among the tokens of these numbers."""
    place = {number: context_of(tokens[number], context) for number in numbers}
    for a in numbers:
        for b in numbers:
            if tokens[a].phone == tokens[b].phone or tokens[a].speaker != tokens[b].speaker:
                continue
            if place[a] != place[b]:
                continue
            for x in numbers:
                if x == a or tokens[x].phone != tokens[a].phone or place[x] != place[a]:
                    continue
                if (tokens[x].speaker == tokens[a].speaker) == (speaker == "within"):
                    yield a, b, x


def context_of(token: Token, context: str) -> tuple[str, str]:
    return ("", "") if context == "any" else (token.previous_phone, token.next_phone)


def collapse(errors: Mapping[Cell, float]) -> float:
    """Mean over contexts (and x-speakers), then speakers, then ordered phone pairs."""
    by_speaker: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell, error in errors.items():
        by_speaker[cell.phone_a, cell.phone_b][cell.speaker].append(error)
    pairs = [mean([mean(found) for found in speakers.values()]) for speakers in by_speaker.values()]
    return mean(pairs)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
