"""Checkpoints: strict loading, saving, the checkpoints of a run."""
