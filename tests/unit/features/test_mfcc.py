"""MFCC: where frames lie, what they respond to, and differences by hand."""

import numpy as np
import pytest

from fairseq_vgs.features import mfcc


def _tone(frequency, n_samples=8000):
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(n_samples) / 16_000)


@pytest.mark.parametrize(
    ("n_samples", "n_frames"), [(160, 1), (319, 1), (320, 2), (16_000, 100), (16_159, 100)]
)
def test_a_frame_per_ten_milliseconds(n_samples, n_frames):
    found = mfcc.mfcc(_tone(440, n_samples))
    assert found.shape == (n_frames, 39)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert mfcc.FRAME_RATE == 100


def test_a_click_is_strongest_in_the_frame_around_it():
    wave = np.zeros(8000)
    wave[20 * 160 + 80] = 1.0  # the middle of frame 20
    loudness = mfcc.mfcc(wave)[:, 0]
    assert int(np.argmax(loudness)) == 20
    assert loudness[19] == pytest.approx(loudness[21], abs=0.5)
    assert loudness[18] < loudness[19]


def test_silence_is_finite_and_constant():
    found = mfcc.mfcc(np.zeros(3200))
    assert np.isfinite(found).all()
    assert np.abs(found[:, 13:]).max() < 1e-9


def test_loudness_moves_the_zeroth_coefficient_alone():
    quiet, loud = mfcc.mfcc(_tone(700)), mfcc.mfcc(2 * _tone(700))
    steady = slice(5, -5)
    difference = (loud - quiet)[steady, :13]
    # Each of 26 log energies rises by log(4); the orthonormal transform puts that in the zeroth coefficient.
    assert difference[:, 0] == pytest.approx(np.log(4) * np.sqrt(26), abs=1e-3)
    assert np.abs(difference[:, 1:]).max() < 1e-2


def test_a_filter_answers_to_its_own_frequency():
    filters = mfcc._filters()
    assert filters.shape == (26, 257)
    assert filters.max() <= 1.0
    assert (np.diff(filters.argmax(axis=1)) > 0).all()
    # Filters are 2,840 / 27 = 105.2 mel apart: the ninth's middle is at 946.7 mel, 921 Hz.
    assert int(np.argmax(filters[:, round(921 / 31.25)])) == 8


def test_differences_by_hand():
    line = 3.0 * np.arange(10)[:, None]
    found = mfcc._differences(line)[:, 0]
    assert found[2:-2] == pytest.approx(3.0)  # the slope
    # At the start the first value repeats: (2 * (6 - 0) + 1 * (3 - 0)) / 10.
    assert found[0] == pytest.approx(1.5)
