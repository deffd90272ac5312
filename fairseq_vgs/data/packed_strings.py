"""Many strings in little memory, shared with data workers without copying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from fairseq_vgs.arrays import I64

_CHUNK = 65_536


class PackedStrings:
    """An immutable list of strings in one block of bytes, a tenth of the memory of Python strings."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        remaining = iter(strings)
        packer = StringPacker()
        while chunk := list(islice(remaining, _CHUNK)):
            packer.extend(chunk)
        self._bytes, self._ends = packer.packed()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        start, end = int(self._ends[index]), int(self._ends[index + 1])
        return self._bytes[start:end].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def same_at(self, rows: I64, other: PackedStrings) -> bool:
        """Return whether the strings at int64[N] rows equal those of another list of N, one by one."""
        starts = self._ends[rows]
        if not np.array_equal(self._ends[rows + 1] - starts, np.diff(other._ends)):
            return False
        if not len(rows) or np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            start = int(starts[0]) if len(rows) else 0
            return self._bytes[start : start + len(other._bytes)] == other._bytes
        places = zip(starts.tolist(), other._ends[:-1].tolist(), other._ends[1:].tolist(), strict=True)
        return all(
            self._bytes[start : start + end - begin] == other._bytes[begin:end]
            for start, begin, end in places
        )


class StringPacker:
    """Collect strings for ``PackedStrings`` in chunks."""

    def __init__(self) -> None:
        # grows in place: joining blocks at the end would need twice the memory
        self._bytes = bytearray()
        self._lengths: list[I64] = [np.zeros(1, dtype=np.int64)]

    def extend(self, strings: Sequence[str]) -> None:
        """Append strings."""
        joined = "".join(strings)
        self._bytes += joined.encode("utf-8", "surrogateescape")
        lengths: Iterable[int] = map(len, strings)
        if not joined.isascii():
            lengths = (len(string.encode("utf-8", "surrogateescape")) for string in strings)
        self._lengths.append(np.fromiter(lengths, np.int64, len(strings)))

    def packed(self) -> tuple[bytearray, I64]:
        """Return all bytes and int64[N + 1] boundaries of the N strings."""
        return self._bytes, np.cumsum(np.concatenate(self._lengths))

    def strings(self) -> PackedStrings:
        """Return the list."""
        packed = PackedStrings()
        packed._bytes, packed._ends = self.packed()
        return packed
