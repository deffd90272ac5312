"""Checkpoints of other code, converted to checkpoints of this plugin."""
