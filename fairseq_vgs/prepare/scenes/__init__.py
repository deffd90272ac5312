"""Compose scenes of several objects with spoken captions."""
