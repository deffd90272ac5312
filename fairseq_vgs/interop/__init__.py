"""Checkpoints of other code, converted into this plugin's."""
