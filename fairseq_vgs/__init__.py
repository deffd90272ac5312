"""Visually grounded speech models as a fairseq plugin."""

from __future__ import annotations

__version__ = "0.1.0"
