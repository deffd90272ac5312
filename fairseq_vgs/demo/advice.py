"""What errors of the Python interface advise, as options of the demo."""

from __future__ import annotations

from fairseq_vgs.files.faults import FaultError


def as_options(error: FaultError, model: object) -> FaultError:
    """Return an error whose advice is of the command line where it was of Python; ``model`` is its file."""
    if "regions.unknown" in error.codes:
        message = (
            "must say how the regions of its training were made, does not; start the demo with --regions and "
            "the data folder of the training, or with --regions 2x3 for the cells of a grid"
        )
        return FaultError.at(model, message, "regions.unknown")
    if "regions.boxes" in error.codes:
        message = (
            "took the regions of its training from a table, where other pictures are not; start the demo "
            "with --regions 2x3 for the cells of a grid"
        )
        return FaultError.at(model, message, "regions.boxes")
    return error
