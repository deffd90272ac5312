"""The one way to decode sound and pictures."""
