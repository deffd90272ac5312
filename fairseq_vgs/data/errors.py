"""The error of a single medium that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable

from fairseq_vgs.files.faults import Fault, FaultError


class BadItemError(FaultError):
    """An utterance or a picture cannot be used; with ``task.skip_bad`` it is skipped and counted instead.

    Args:
        faults: What is wrong. A string is accepted too, because torch rebuilds the exceptions of its data
            workers from the text of their traceback: the last line of that text becomes the fault again.
    """

    def __init__(self, faults: Fault | Iterable[Fault] | str) -> None:
        if isinstance(faults, str):
            line = faults.rstrip().rpartition("BadItemError: ")[2]
            place, _, message = line.partition(": ")
            faults = Fault(place, message)
        super().__init__(faults)


def bad_item(error: FaultError) -> BadItemError:
    """Return the error of a medium as one that ``task.skip_bad`` skips, which it also says."""
    step = "or skip it with task.skip_bad=true"
    return BadItemError(Fault(item.place, f"{item.message}, {step}", item.code) for item in error.faults)
