"""Metrics: pure functions of arrays and tensors; torch and numpy alone."""
