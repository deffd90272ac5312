"""Lay out where the distances of token pairs are computed, and where cells find them.

Cells need *rectangles* of distances: all tokens of one group against all of another. A rectangle is stored
once, row-major, whichever of its groups is x. Frame distances come from matrix products, which are fast if
large: neighbouring rectangles are computed as one *block*, even if not all of it is needed, and blocks are
bundled until a table of frame distances is full.

Shapes: C cells, P token pairs of a bundle, F frames of all tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fairseq_vgs.arrays import I64
from fairseq_vgs.metrics.abx.plan import Plan

_MAX_TILE_TOKENS = 32  # larger groups are cut, so that no block is larger than a table
_MAX_FRAME_DISTANCES = 1 << 24  # of a bundle's table
_MAX_BLOCK = 1 << 20  # frame distances
_MAX_WASTE = 1.5  # frame distances of a block per one that is needed
_SMALL_BLOCK = 1 << 12  # frame distances that cost no more than a call


@dataclass(frozen=True)
class CellSide:
    """Where C cells find the distance of x i to a (or b) j: offset + i * step_i + j * step_j."""

    offset: I64
    step_i: I64
    step_j: I64


@dataclass(frozen=True)
class Block:
    """One matrix product: frames of the rows x frames of the columns, as slices of ``Layout.frames``."""

    rows: slice
    columns: slice

    @property
    def is_square(self) -> bool:
        """Rows and columns are the same frames."""
        return self.rows == self.columns

    @property
    def size(self) -> int:
        """Number of frame distances."""
        return int((self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start))


@dataclass(frozen=True)
class Bundle:
    """Blocks whose results follow each other in a table, and the P token pairs that are read from it.

    ``offset`` is the place of a pair's first frame distance, ``width`` the way from one of its ``n_rows`` to
    the next. Its distance belongs at ``place`` and, different for few, at ``mirrored``.
    """

    blocks: tuple[Block, ...]
    n_frame_distances: int
    offset: I64
    width: I64
    n_rows: I64
    n_columns: I64
    place: I64
    mirrored: I64


@dataclass(frozen=True)
class Layout:
    """All rectangles: ``n_distances`` entries, of ``n_pairs`` that are computed (none of a token to itself).

    ``frames``: int64[F] numbers of all tokens' frames, group after group; ``sizes``: int64[C, 3] tokens of A,
    B and X.
    """

    frames: I64
    to_a: CellSide
    to_b: CellSide
    sizes: I64
    n_distances: int
    n_pairs: int
    _tokens: _Tokens
    _rectangles: _Rectangles

    def bundles(self) -> Iterator[Bundle]:
        """Yield all work, bundle after bundle."""
        tiles = _tiles(self._tokens)
        pairs = _tile_pairs(tiles, self._rectangles)
        blocks, block = _blocks(tiles, pairs)
        filled = _cumulative(np.array([found.size for found in blocks], dtype=np.int64))
        number = (filled[1:] - 1) // _MAX_FRAME_DISTANCES
        for some in np.split(np.arange(len(blocks)), np.flatnonzero(np.diff(number)) + 1):
            first, last = int(some[0]), int(some[-1])
            part = slice(*np.searchsorted(block, [first, last + 1]).tolist())
            some_pairs = _TilePairs(pairs.rectangle[part], pairs.row[part], pairs.column[part])
            found, numbers = blocks[first : last + 1], block[part] - first
            yield _bundle(self._tokens, self._rectangles, tiles, some_pairs, blocks=found, block=numbers)


@dataclass(frozen=True)
class _Tokens:
    """Tokens, group after group: first token of each group, first frame of each token; and the ends."""

    group: I64
    frame: I64


@dataclass(frozen=True)
class _Rectangles:
    """Groups of the rows and columns of each, and its first place among all distances."""

    rows: I64
    columns: I64
    offset: I64
    directed: bool


@dataclass(frozen=True)
class _Tiles:
    """Parts of groups: first tile of each group, first token and first frame of each tile; and the ends."""

    group: I64
    token: I64
    frame: I64


@dataclass(frozen=True)
class _TilePairs:
    """Parts of rectangles: number of the rectangle, tile of the rows, tile of the columns."""

    rectangle: I64
    row: I64
    column: I64


def make_layout(plan: Plan, starts: I64, lengths: I64, *, directed: bool = False) -> Layout:
    """Lay out the distances that a plan needs, of tokens with a first frame and a length, int64[items].

    If ``directed``, the first token of a pair is always x. Otherwise a pair of tokens is measured once,
    whichever of them is x, which is the same unless paths tie: ``dtw_distance`` prefers left to up.
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


def _tile_pairs(tiles: _Tiles, rectangles: _Rectangles) -> _TilePairs:
    """Cut rectangles into pairs of tiles, sorted by row and column."""
    rows, columns = rectangles.rows, rectangles.columns
    n_tiles = np.diff(tiles.group)
    number, i, j = _products(n_tiles[rows], n_tiles[columns])
    row, column = tiles.group[rows[number]] + i, tiles.group[columns[number]] + j
    if not rectangles.directed:
        wanted = row <= column
        number, row, column = number[wanted], row[wanted], column[wanted]
    order = np.lexsort((column, row))
    return _TilePairs(number[order], row[order], column[order])


def _blocks(tiles: _Tiles, pairs: _TilePairs) -> tuple[list[Block], I64]:
    """Join neighbours while that wastes little: the blocks, and the number of each pair's block."""
    begins = np.append(True, (np.diff(pairs.row) != 0) | (np.diff(pairs.column) != 1))
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(begins)) - 1
    sides = np.stack([pairs.row[first], pairs.row[first] + 1, pairs.column[first], pairs.column[last] + 1])
    blocks: list[Block] = []
    numbers = np.empty(len(first), dtype=np.int64)
    top, left, right, needed = 0, 0, 0, 0
    for run, (row, row_end, column, column_end) in enumerate(tiles.frame[sides].T.tolist()):
        size = (row_end - row) * (column_end - column)
        lowest, highest = min(left, column), max(right, column_end)
        joined = (row_end - top) * (highest - lowest)
        if blocks and joined <= min(_MAX_BLOCK, max(_SMALL_BLOCK, _MAX_WASTE * (needed + size))):
            left, right, needed = lowest, highest, needed + size
            blocks.pop()
        else:
            top, left, right, needed = row, column, column_end, size
        blocks.append(Block(slice(top, row_end), slice(left, right)))
        numbers[run] = len(blocks) - 1
    return blocks, numbers[np.cumsum(begins) - 1]


def _bundle(
    tokens: _Tokens,
    rectangles: _Rectangles,
    tiles: _Tiles,
    pairs: _TilePairs,
    *,
    blocks: list[Block],
    block: I64,
) -> Bundle:
    """Find the token pairs of some tile pairs; ``block`` numbers the block of each among ``blocks``."""
    n_tokens = np.diff(tiles.token)
    tile_pair, i, j = _products(n_tokens[pairs.row], n_tokens[pairs.column])
    first, second = tiles.token[pairs.row[tile_pair]] + i, tiles.token[pairs.column[tile_pair]] + j
    number = pairs.rectangle[tile_pair]
    is_square = rectangles.rows[number] == rectangles.columns[number]
    wanted = (first != second) & (~is_square | (first < second) | rectangles.directed)
    first, second, number, is_square = first[wanted], second[wanted], number[wanted], is_square[wanted]
    of_block = block[tile_pair[wanted]]
    table_offset = _cumulative(np.array([found.size for found in blocks], dtype=np.int64))
    corners = [(found.rows.start, found.columns.start, found.columns.stop) for found in blocks]
    top, left, right = (side[of_block] for side in np.array(corners).T)
    width = right - left
    offset = table_offset[of_block] + (tokens.frame[first] - top) * width + tokens.frame[second] - left
    i = first - tokens.group[rectangles.rows[number]]
    j = second - tokens.group[rectangles.columns[number]]
    size = np.diff(tokens.group)[rectangles.columns[number]]
    place = rectangles.offset[number] + i * size + j
    mirrored = rectangles.offset[number] + j * size + i
    return Bundle(
        blocks=tuple(blocks),
        n_frame_distances=int(table_offset[-1]),
        offset=offset,
        width=width,
        n_rows=tokens.frame[first + 1] - tokens.frame[first],
        n_columns=tokens.frame[second + 1] - tokens.frame[second],
        place=place,
        mirrored=place if rectangles.directed else np.where(is_square, mirrored, place),
    )


def _products(n_rows: I64, n_columns: I64) -> tuple[I64, I64, I64]:
    """List the entries of many matrices: number of the matrix, row, column."""
    counts = n_rows * n_columns
    number = np.repeat(np.arange(len(counts)), counts)
    return number, *np.divmod(np.arange(len(number)) - _cumulative(counts)[number], n_columns[number])


def _cumulative(counts: I64) -> I64:
    """Return the sum of all entries before each, and of all at the end."""
    return np.concatenate([[0], np.cumsum(counts)])
