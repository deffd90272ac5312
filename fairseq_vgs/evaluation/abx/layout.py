"""Where the distances of token pairs are computed, and where cells find them.

Cells need rectangles of distances: all tokens of one group against all of another. A rectangle is stored
once, row-major, whichever of its groups is x. Frame distances come from matrix products over whole groups:
*runs* of neighbouring rectangles with the same rows, bundled until a table of frame distances is full.

Shapes: C cells, R rectangles, P token pairs of a bundle, F frames of all tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.abx.plan import Plan

IntArray = npt.NDArray[np.int64]

_MAX_TILE_TOKENS = 32  # larger groups are cut, so that no product is larger than a table
_MAX_FRAME_DISTANCES = 1 << 24  # of a bundle's table


@dataclass(frozen=True)
class CellSide:
    """Where cells find the distances of x to a, or of x to b: (i, j) at ``offset + i * step_i + j * step_j``.

    Attributes:
        offset: int64[C].
        step_i: int64[C] from one x to the next.
        step_j: int64[C] from one a (or b) to the next.
    """

    offset: IntArray
    step_i: IntArray
    step_j: IntArray


@dataclass(frozen=True)
class Run:
    """One matrix product: frames of the rows x frames of the columns, as slices of `Layout.frames`."""

    rows: slice
    columns: slice


@dataclass(frozen=True)
class Bundle:
    """Runs whose results stand one after the other in a table, and the token pairs that are read from it.

    Attributes:
        runs: the products.
        offset: int64[P] place of a pair's first frame distance in the table.
        width: int64[P] from one row of the pair to the next.
        n_rows: int64[P] frames of the first token.
        n_columns: int64[P] frames of the second.
        place: int64[P] where the pair's distance belongs.
        mirrored: int64[P] where else it belongs; the same place for most.
    """

    runs: tuple[Run, ...]
    offset: IntArray
    width: IntArray
    n_rows: IntArray
    n_columns: IntArray
    place: IntArray
    mirrored: IntArray


@dataclass(frozen=True)
class Layout:
    """All rectangles.

    Attributes:
        frames: int64[F] frame numbers of all tokens, group after group.
        to_a: distances of x to a.
        to_b: distances of x to b.
        sizes: int64[C, 3] tokens of A, B and X.
        n_distances: entries of all rectangles; those of a token to itself are not computed.
        n_pairs: token pairs that are computed.
    """

    frames: IntArray
    to_a: CellSide
    to_b: CellSide
    sizes: IntArray
    n_distances: int
    n_pairs: int
    _tokens: _Tokens
    _rectangles: _Rectangles

    def bundles(self) -> Iterator[Bundle]:
        """Yield all work, bundle after bundle."""
        tokens, rectangles = self._tokens, self._rectangles
        tiles = _tiles(tokens)
        number, row, column = _tile_pairs(tiles, rectangles)
        n_frames = tiles.frame[1:] - tiles.frame[:-1]
        filled = np.cumsum(n_frames[row] * n_frames[column])
        bundle = (filled - 1) // _MAX_FRAME_DISTANCES
        for part in np.split(np.arange(len(row)), np.flatnonzero(np.diff(bundle)) + 1):
            yield _bundle(tokens, rectangles, tiles, number[part], row[part], column[part])


@dataclass(frozen=True)
class _Tokens:
    """Tokens, group after group: first token of each group, first frame of each token; and the ends."""

    group: IntArray
    frame: IntArray


@dataclass(frozen=True)
class _Rectangles:
    """Groups of the rows and columns of each, and its first place among all distances."""

    rows: IntArray
    columns: IntArray
    offset: IntArray
    directed: bool


@dataclass(frozen=True)
class _Tiles:
    """Parts of groups, of at most `_MAX_TILE_TOKENS` tokens.

    First tile of each group, first token and first frame of each tile; and the ends.
    """

    group: IntArray
    token: IntArray
    frame: IntArray


def make_layout(plan: Plan, starts: IntArray, lengths: IntArray, *, directed: bool = False) -> Layout:
    """Lay out the distances that a plan needs.

    Args:
        plan: groups and cells.
        starts: int64[items] first frame of each token.
        lengths: int64[items] frames of each token.
        directed: the first token of a pair is always x. Otherwise a pair of tokens is measured once,
            whichever of them is x, which is the same unless paths tie: `dtw_distance` prefers left to up.
    """
    order = np.concatenate(plan.groups)
    sizes = np.array([len(group) for group in plan.groups], dtype=np.int64)
    tokens = _Tokens(_cumulative(sizes), _cumulative(lengths[order]))
    frames = np.repeat(starts[order] - tokens.frame[:-1], lengths[order]) + np.arange(tokens.frame[-1])
    a, b, x = plan.cell_groups.T
    row, column = np.concatenate([x, x]), np.concatenate([a, b])
    flipped = np.zeros_like(row, dtype=bool) if directed else row > column
    row, column = np.where(flipped, column, row), np.where(flipped, row, column)
    codes, rectangle = np.unique(row * len(sizes) + column, return_inverse=True)
    rows, columns = np.divmod(codes, len(sizes))
    offset = _cumulative(sizes[rows] * sizes[columns])
    step_i, step_j = np.where(flipped, 1, sizes[column]), np.where(flipped, sizes[column], 1)
    to_a, to_b = (
        CellSide(offset[rectangle[half]], step_i[half], step_j[half])
        for half in (slice(len(a)), slice(len(a), None))
    )
    pairs = np.where(rows == columns, sizes[rows] * (sizes[rows] - 1), sizes[rows] * sizes[columns])
    n_pairs = int(pairs.sum()) if directed else int((pairs // np.where(rows == columns, 2, 1)).sum())
    return Layout(
        frames=frames,
        to_a=to_a,
        to_b=to_b,
        sizes=sizes[plan.cell_groups],
        n_distances=int(offset[-1]),
        n_pairs=n_pairs,
        _tokens=tokens,
        _rectangles=_Rectangles(rows, columns, offset[:-1], directed),
    )


def _tiles(tokens: _Tokens) -> _Tiles:
    sizes = np.diff(tokens.group)
    n_tiles = -(-sizes // _MAX_TILE_TOKENS)
    first = _cumulative(n_tiles)
    within = np.arange(first[-1]) - np.repeat(first[:-1], n_tiles)
    token = np.append(np.repeat(tokens.group[:-1], n_tiles) + within * _MAX_TILE_TOKENS, tokens.group[-1])
    return _Tiles(first, token, tokens.frame[token])


def _tile_pairs(tiles: _Tiles, rectangles: _Rectangles) -> tuple[IntArray, IntArray, IntArray]:
    """Cut rectangles into pairs of tiles: number of the rectangle, tile of the rows, tile of the columns."""
    rows, columns = rectangles.rows, rectangles.columns
    n_tiles = np.diff(tiles.group)
    number, i, j = _products(n_tiles[rows], n_tiles[columns])
    row, column = tiles.group[rows[number]] + i, tiles.group[columns[number]] + j
    if not rectangles.directed:
        wanted = row <= column
        number, row, column = number[wanted], row[wanted], column[wanted]
    order = np.lexsort((column, row))
    return number[order], row[order], column[order]


def _bundle(
    tokens: _Tokens,
    rectangles: _Rectangles,
    tiles: _Tiles,
    number: IntArray,
    row: IntArray,
    column: IntArray,
) -> Bundle:
    n_frames, n_tokens = np.diff(tiles.frame), np.diff(tiles.token)
    begins = np.append(True, (np.diff(row) != 0) | (np.diff(column) != 1))
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(row)) - 1
    width = tiles.frame[column[last] + 1] - tiles.frame[column[first]]
    table_offset = _cumulative(n_frames[row[first]] * width)
    runs = tuple(
        Run(slice(*tiles.frame[[r, r + 1]].tolist()), slice(*tiles.frame[[c, d + 1]].tolist()))
        for r, c, d in zip(row[first].tolist(), column[first].tolist(), column[last].tolist(), strict=True)
    )
    run = np.cumsum(begins) - 1
    tile_pair, i, j = _products(n_tokens[row], n_tokens[column])
    left, right = tiles.token[row[tile_pair]] + i, tiles.token[column[tile_pair]] + j
    rectangle = number[tile_pair]
    rows, columns = rectangles.rows[rectangle], rectangles.columns[rectangle]
    wanted = (left != right) & ((rows != columns) | (left < right) | rectangles.directed)
    tile_pair, left, right = tile_pair[wanted], left[wanted], right[wanted]
    rectangle, rows, columns = rectangle[wanted], rows[wanted], columns[wanted]
    of_run = run[tile_pair]
    down = tokens.frame[left] - tiles.frame[row[tile_pair]]
    along = tokens.frame[right] - tiles.frame[column[first][of_run]]
    i, j = left - tokens.group[rows], right - tokens.group[columns]
    size = tokens.group[columns + 1] - tokens.group[columns]
    place = rectangles.offset[rectangle] + i * size + j
    mirror = (rows == columns) & (not rectangles.directed)
    return Bundle(
        runs=runs,
        offset=table_offset[of_run] + down * width[of_run] + along,
        width=width[of_run],
        n_rows=tokens.frame[left + 1] - tokens.frame[left],
        n_columns=tokens.frame[right + 1] - tokens.frame[right],
        place=place,
        mirrored=np.where(mirror, rectangles.offset[rectangle] + j * size + i, place),
    )


def _products(n_rows: IntArray, n_columns: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """List the entries of many matrices: number of the matrix, row, column."""
    counts = n_rows * n_columns
    number = np.repeat(np.arange(len(counts)), counts)
    entry = np.arange(len(number)) - _cumulative(counts)[number]
    i, j = np.divmod(entry, n_columns[number])
    return number, i, j


def _cumulative(counts: IntArray) -> IntArray:
    """Sums of all entries before each, and of all at the end."""
    return np.concatenate([[0], np.cumsum(counts)])
