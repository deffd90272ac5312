"""Sample and frame rates shared by all rooms."""

SAMPLE_RATE = 16_000
"""Samples per second of every waveform (Hz)."""

FRAME_STRIDE = 320
"""Samples between two wav2vec 2.0 frames: 20 ms, 50 frames per second."""
