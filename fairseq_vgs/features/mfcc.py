"""Compute mel-frequency cepstral coefficients with two orders of differences, the usual baseline of ABX.

Davis and Mermelstein (1980); windows, filters and lifter as in HTK. Shapes: S samples at 16 kHz, T frames.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import dct
from scipy.ndimage import correlate1d

from fairseq_vgs.arrays import F32, F64
from fairseq_vgs.media.rates import SAMPLE_RATE

HOP = 160
"""Samples between two frames: 10 ms."""
FRAME_RATE = SAMPLE_RATE / HOP
"""Frames per second; frame i has its middle at (i + 1/2) / FRAME_RATE seconds."""

_WINDOW = 400
_N_FFT = 512
_N_FILTERS = 26
_N_COEFFICIENTS = 13
_LIFTER = 22
_PRE_EMPHASIS = 0.97
_LOWEST_ENERGY = 1e-10  # of digital silence
_DELTA_REACH = 2


def mfcc(waveform: npt.NDArray[np.floating]) -> F32:
    """Compute 13 coefficients (the zeroth too) and two orders of differences: f[S] -> f32[S // 160, 39]."""
    coefficients = _cepstra(np.asarray(waveform, dtype=np.float64))
    first = _differences(coefficients)
    return np.concatenate([coefficients, first, _differences(first)], axis=1).astype(np.float32)


def _cepstra(waveform: F64) -> F64:
    emphasised = np.append(waveform[:1], waveform[1:] - _PRE_EMPHASIS * waveform[:-1])
    margin = (_WINDOW - HOP) // 2
    padded = np.pad(emphasised, (margin, margin + HOP))
    n_frames = len(waveform) // HOP
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP][:n_frames]
    power = np.abs(np.fft.rfft(windows * np.hamming(_WINDOW), _N_FFT)) ** 2 / _N_FFT
    energies = np.log(np.maximum(power @ _filters().T, _LOWEST_ENERGY))
    lifter = 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(_N_COEFFICIENTS) / _LIFTER)
    cepstra: F64 = dct(energies, norm="ortho", axis=1)[:, :_N_COEFFICIENTS] * lifter
    return cepstra


def _filters() -> F64:
    """Triangles, equally wide in mel, over the power spectrum: f64[filters, bins]."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, _N_FILTERS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(_N_FFT, 1 / SAMPLE_RATE)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.maximum(0.0, np.minimum(rising, falling))


def _differences(values: F64) -> F64:
    steps = np.arange(-_DELTA_REACH, _DELTA_REACH + 1)
    differences: F64 = correlate1d(values, steps / (steps**2).sum(), axis=0, mode="nearest")
    return differences
