"""Damage real inputs at random, and pass each through every door that reads such inputs.

python tests/support/mutate.py --kind audio --count 2000 --seed 0
python tests/support/mutate.py --kind audio --seed 0 --only 1234     one input again, with its traceback

Prints how many were read, were refused by name (by code), ended in another exception, and were read
differently by two doors, and exits 1 if there is any of the last two. Item ``i`` of a seed depends on both
alone. A door that takes more time or memory than its kind allows counts as a difference.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(folder) for folder in Path(__file__).parents[1:3]]

from fairseq_vgs.files.faults import FaultError

KINDS = {
    "audio": "mutate_sound",
    "pictures": "mutate_pictures",
    "tables": "mutate_tables",
    "textgrids": "mutate_alignments",
    "checkpoints": "mutate_checkpoints",
}
HANGS_SECONDS = 600
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HEADER_BYTES = 128
Draws = np.random.Generator


class DifferenceError(AssertionError):
    """Two doors do not agree on an input."""


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        originals: whole inputs by name.
        mutate: (name, content, draws) -> damaged content.
        read: (name, content, folder) -> what was read; raises FaultError if all doors refuse it, and
            DifferenceError.
        max_seconds, max_bytes: CPU time and memory for all doors together.
    """

    originals: Mapping[str, bytes]
    mutate: Callable[[str, bytes, Draws], bytes]
    read: Callable[[str, bytes, Path], str]
    max_seconds: float = 5.0
    max_bytes: int = 1 << 30


@dataclass
class Outcomes:
    """What became of the inputs; ``failures`` are number, name and what happened."""

    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unnamed: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


def load_kind(name: str) -> Kind:
    """Return a kind by name; its originals are made now."""
    kind: Kind = import_module(f"support.{KINDS[name]}").kind()
    return kind


def mutate_and_read(kind: Kind, numbers: Iterable[int], *, seed: int, folder: Path) -> Outcomes:
    """Make the inputs of these numbers, and pass each through all doors."""
    outcomes = Outcomes()
    # a decoder in C that hangs is ended by the signal, which shows where
    faulthandler.register(signal.SIGALRM, file=sys.__stdout__, chain=True)
    for number in numbers:
        name, content = damaged(kind, seed, number)
        with quiet(), limited(kind, outcomes) as spent:
            what = outcome(kind, name, content, folder, outcomes)
        if spent:
            what = what or "; ".join(spent)
            outcomes.differing.append(f"{number} {name}: {what}")
        elif what:
            (outcomes.differing if what.startswith("Difference") else outcomes.unnamed).append(
                f"{number} {name}: {what}"
            )
    return outcomes


def damaged(kind: Kind, seed: int, number: int) -> tuple[str, bytes]:
    """Return the name of an original and its mutation."""
    draws = np.random.default_rng([seed, number])
    name = list(kind.originals)[draws.integers(len(kind.originals))]
    return name, kind.mutate(name, kind.originals[name], draws)


def outcome(kind: Kind, name: str, content: bytes, folder: Path, outcomes: Outcomes) -> str:
    """Read an input; return what went wrong, or nothing."""
    try:
        outcomes.read[kind.read(name, content, folder)] += 1
    except FaultError as error:
        outcomes.refused[error.codes[0]] += 1
    except Exception as error:  # noqa: BLE001 - to find any
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return f"{type(error).__name__}: {str(error)[:300]} ({where})"
    return ""


@contextmanager
def limited(kind: Kind, outcomes: Outcomes) -> Iterator[list[str]]:
    """Measure the block's CPU time and memory; the list receives the limits that it exceeds."""
    spent: list[str] = []
    before, start = peak_memory(reset=True), time.process_time()
    signal.setitimer(signal.ITIMER_REAL, HANGS_SECONDS)
    try:
        yield spent
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        seconds, n_bytes = time.process_time() - start, peak_memory() - before
        outcomes.slowest, outcomes.largest = max(outcomes.slowest, seconds), max(outcomes.largest, n_bytes)
        if seconds > kind.max_seconds:
            spent.append(f"took {seconds:.1f} s")
        if n_bytes > kind.max_bytes:
            spent.append(f"took {n_bytes >> 20} MiB")


def peak_memory(*, reset: bool = False) -> int:
    """Return the largest resident memory since the last reset, in bytes; 0 where Linux does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
    except OSError:
        return 0


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings out of the output: ours, and those that decoders in C write to stderr."""
    before, stderr = logging.root.manager.disable, os.dup(2)
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("wb") as nothing:
            warnings.simplefilter("ignore")
            os.dup2(nothing.fileno(), 2)
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        logging.disable(before)


# Damage ---------------------------------------------------------------------------------------------------


def mutate_bytes(content: bytes, draws: Draws, *, others: tuple[bytes, ...] = ()) -> bytes:
    """Apply one to three kinds of damage: flips, extreme numbers, cuts, insertions, swaps, splices."""
    result = bytearray(content)
    for _ in range(draws.integers(1, 4)):
        damage = _DAMAGE[draws.integers(len(_DAMAGE))]
        if damage is _splice:
            result = _splice(result, draws, others[draws.integers(len(others))] if others else content)
        else:
            result = damage(result, draws)
    return bytes(result)


def position(content: bytearray, draws: Draws) -> int:
    """Draw a position, every second time near the start, where headers are."""
    end = min(len(content), HEADER_BYTES) if draws.integers(2) else len(content)
    return int(draws.integers(end)) if end else 0


def stretch(content: bytearray, draws: Draws) -> slice:
    """Draw a short part of the content."""
    start = position(content, draws)
    return slice(start, start + int(draws.integers(1, max(2, min(64, len(content))))))


def _flip(content: bytearray, draws: Draws) -> bytearray:
    for _ in range(draws.integers(1, 5)):
        if content:
            content[position(content, draws)] ^= 1 << int(draws.integers(8))
    return content


def _replace(content: bytearray, draws: Draws) -> bytearray:
    for _ in range(draws.integers(1, 5)):
        if content:
            content[position(content, draws)] = int(draws.integers(256))
    return content


def _extreme(content: bytearray, draws: Draws) -> bytearray:
    """Write an extreme number of 1 to 8 bytes."""
    size = (1, 2, 4, 8)[draws.integers(4)]
    number = NUMBERS[draws.integers(len(NUMBERS))] & ((1 << 8 * size) - 1)
    start = position(content, draws) // 2 * 2
    content[start : start + size] = number.to_bytes(size, ("little", "big")[draws.integers(2)])
    return content


def _cut(content: bytearray, draws: Draws) -> bytearray:
    return content[: int(draws.integers(len(content) + 1))]


def _remove(content: bytearray, draws: Draws) -> bytearray:
    del content[stretch(content, draws)]
    return content


def _insert(content: bytearray, draws: Draws) -> bytearray:
    start = position(content, draws)
    content[start:start] = draws.bytes(int(draws.integers(1, 33)))
    return content


def _repeat(content: bytearray, draws: Draws) -> bytearray:
    part, start = content[stretch(content, draws)], position(content, draws)
    content[start:start] = part * int(draws.integers(1, 4))
    return content


def _swap(content: bytearray, draws: Draws) -> bytearray:
    """Exchange two parts, as blocks of a disk."""
    first, second = sorted((position(content, draws), position(content, draws)))
    size = int(draws.integers(1, 65))
    size = min(size, second - first, len(content) - second)
    if size > 0:
        one, two = slice(first, first + size), slice(second, second + size)
        content[one], content[two] = content[two], content[one]
    return content


def _splice(content: bytearray, draws: Draws, other: bytes = b"") -> bytearray:
    """Go on with the end of another input."""
    return content[: position(content, draws)] + other[position(bytearray(other), draws) :]


_DAMAGE: tuple[Callable[..., bytearray], ...] = (
    _flip, _flip, _replace, _extreme, _extreme, _extreme, _cut, _remove, _insert, _repeat, _swap, _splice,
)  # fmt: skip


def attempt(call: Callable[..., Any], *args: Any, **settings: Any) -> tuple[Any, FaultError | None]:
    """Return a call's value, or the error that refuses its input."""
    try:
        return call(*args, **settings), None
    except FaultError as error:
        return None, error


def agree(what: str, *, holds: bool, **values: Any) -> None:
    """Raise DifferenceError unless two doors agree."""
    if not holds:
        raise DifferenceError(f"{what}: {', '.join(f'{name} {value}' for name, value in values.items())}")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to run in pieces")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this input alone, with its traceback")
    args = parser.parse_args()
    kind = load_kind(args.kind)
    start = time.monotonic()
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=in_memory) as folder:
        if args.only is not None:
            name, content = damaged(kind, args.seed, args.only)
            print(name, len(content), content[:400])
            print(kind.read(name, content, Path(folder)))
            return 0
        numbers = range(args.first, args.first + args.count)
        outcomes = mutate_and_read(kind, numbers, seed=args.seed, folder=Path(folder))
    for failure in (*outcomes.unnamed, *outcomes.differing):
        print(failure)
    report = {
        "kind": args.kind, "first": args.first, "count": args.count, "seed": args.seed,
        "read": sum(outcomes.read.values()), "refused": sum(outcomes.refused.values()),
        "unnamed": len(outcomes.unnamed), "differing": len(outcomes.differing),
        "seconds": round(time.monotonic() - start, 1), "slowest_seconds": round(outcomes.slowest, 2),
        "largest_mib": outcomes.largest >> 20,
        "codes": dict(outcomes.refused.most_common()), "as": dict(outcomes.read.most_common()),
    }  # fmt: skip
    print(json.dumps(report))
    return int(bool(outcomes.unnamed or outcomes.differing))


if __name__ == "__main__":
    sys.modules["support.mutate"] = sys.modules["__main__"]
    sys.exit(main())
