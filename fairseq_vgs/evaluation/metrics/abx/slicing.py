"""Which frames belong to a token: exact arithmetic, since a rounding error moves a token by a frame.

Frame i of a representation with f frames per second has its middle at (i + 1/2) / f seconds.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

_HALF = Decimal("0.5")


def frame_span(
    onset: Decimal, offset: Decimal, *, frame_rate: Decimal, librilight_slicing: bool = False
) -> tuple[int, int]:
    """Return the first frame of a token and how many it has (0 or fewer: none).

    Args:
        onset: seconds.
        offset: seconds.
        frame_rate: frames per second.
        librilight_slicing: leave out the last frame, as Libri-Light's and ZeroSpeech 2021's evaluation does;
            otherwise all frames with onset <= middle <= offset.
    """
    first = int((onset * frame_rate - _HALF).to_integral_value(ROUND_CEILING))
    last = int((offset * frame_rate - _HALF).to_integral_value(ROUND_FLOOR))
    return max(first, 0), last - max(first, 0) + (0 if librilight_slicing else 1)


def exact_rate(frame_rate: float) -> Decimal:
    """Return the frame rate as it is written, e.g. 50.0 or 49.95.

    Raises:
        ValueError: not a positive number.
    """
    if not 0 < frame_rate < float("inf"):
        raise ValueError(f"frame_rate must be a positive number of frames per second, got {frame_rate!r}")
    return Decimal(repr(float(frame_rate)))
