"""Decode and encode recordings and pictures."""
